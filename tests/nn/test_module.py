"""Module: names, state, modes, hooks, moves between devices, and the path in an error."""

import numpy as np
import pytest

import minicnn
from minicnn import backend, nn


class Scale(nn.Module):
    """A layer of the smallest kind: one parameter, one buffer."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.parameter(np.arange(size, dtype=np.float32).reshape(1, size))
        self.calls = nn.Buffer(np.zeros(1, np.float32))

    def forward(self, x):
        self.calls.copy_(self.calls.numpy() + 1)
        return minicnn.functional.linear(x, self.weight)

    def extra_repr(self):
        return str(self.weight.size)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))
        self.head = Scale(3)

    def forward(self, x):
        return self.head(self.features(x))


@pytest.fixture
def network():
    return Network()


def test_names_are_the_attributes_in_order_of_their_making(network):
    assert [name for name, _ in network.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.1",
        "features.2",
        "head",
    ]
    assert [name for name, _ in network.named_parameters()] == [
        "features.0.weight",
        "features.0.bias",
        "features.2.weight",
        "head.weight",
    ]
    assert [name for name, _ in network.named_buffers()] == ["head.calls"]


def test_train_and_eval_reach_every_module(network):
    assert all(module.training for _, module in network.named_modules())
    assert network.eval() is network
    assert not any(module.training for _, module in network.named_modules())
    assert network.train() is network
    assert all(module.training for _, module in network.named_modules())


def test_hook_sees_module_inputs_and_output_until_removed(network):
    seen = []
    remove = network.features[0].register_forward_hook(lambda *arguments: seen.append(arguments))
    x = minicnn.tensor(np.ones((2, 4), np.float32))
    network(x)
    ((module, inputs, y),) = seen
    assert module is network.features[0] and inputs == (x,) and y.shape == (2, 6)
    remove()
    network(x)
    assert len(seen) == 1


def test_error_names_the_path_of_the_layer(network):
    network.features.modules[2] = nn.Linear(5, 3)
    with pytest.raises(minicnn.OpError) as raised:
        network(minicnn.tensor(np.ones((2, 4), np.float32)))
    assert str(raised.value) == (
        "features.2 linear: weight expects 5 features but x has 6 (x is (2, 6), weight (3, 5))"
    )


def test_error_of_a_layer_alone_has_no_path():
    with pytest.raises(minicnn.OpError, match=r"^linear: weight expects 5 features"):
        nn.Linear(5, 3)(minicnn.tensor(np.ones((2, 4), np.float32)))


def test_state_is_a_copy(network):
    state = network.state_dict()
    assert list(state) == ["features.0.weight", "features.0.bias", "features.2.weight", "head.weight", "head.calls"]
    state["head.weight"][...] = -1
    assert network.head.weight.numpy().tolist() == [[0, 1, 2]]


def test_load_writes_in_place(network, device):
    network.to(device)
    other = Network()
    weight = network.features[0].weight
    array, version = weight.data, weight.version
    network.load_state_dict(other.state_dict())
    assert weight.data is array and weight.version > version
    for name, values in network.state_dict().items():
        np.testing.assert_array_equal(values, other.state_dict()[name])


def test_load_refuses_other_names_and_writes_nothing(network):
    before, state = network.state_dict(), {name: v + 1 for name, v in network.state_dict().items()}
    state["head.wait"] = state.pop("head.weight")
    with pytest.raises(KeyError) as raised:
        network.load_state_dict(state)
    assert raised.value.args == ("state does not fit this Network: missing ['head.weight'], unknown ['head.wait']",)
    assert all(np.array_equal(values, before[name]) for name, values in network.state_dict().items())


def test_load_refuses_other_shapes_and_writes_nothing(network):
    before, state = network.state_dict(), {name: v + 1 for name, v in network.state_dict().items()}
    state["head.weight"] = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match=r"^head.weight: the model has \(1, 3\), the saved state \(1, 4\)$"):
        network.load_state_dict(state)
    assert all(np.array_equal(values, before[name]) for name, values in network.state_dict().items())


def test_to_moves_parameters_into_one_arena_and_buffers_along(network, device):
    objects, state = network.parameters(), network.state_dict()
    assert network.to(device) is network
    assert all(now is before for now, before in zip(network.parameters(), objects, strict=True))
    assert len({id(p.arena) for p in objects}) == 1
    assert all(t.device is device for t in [*objects, network.head.calls])
    for name, values in network.state_dict().items():
        np.testing.assert_array_equal(values, state[name])


def test_zero_grad_clears_every_parameter(network):
    y = network.features(minicnn.tensor(np.ones((2, 4), np.float32)))
    y.backward(np.ones(y.shape))
    assert network.features[0].bias.grad.numpy().any()
    network.zero_grad()
    assert not any(p.grad.numpy().any() for p in network.features.parameters())


def test_sequential_is_a_sequence():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    sequential = nn.Sequential(*layers)
    assert len(sequential) == 3 and list(sequential) == layers and sequential[-1] is layers[2]
    part = sequential[1:]
    assert isinstance(part, nn.Sequential) and list(part) == layers[1:]
    x = minicnn.tensor(np.ones((1, 2), np.float32))
    assert sequential(x).numpy() == part(layers[0](x)).numpy()


def test_repr_shows_the_tree(network):
    network.extra_repr = lambda: "tiny"
    assert repr(network) == (
        "Network(tiny\n"
        "  (features): Sequential(\n"
        "    (0): Linear(4, 6, bias=True)\n"
        "    (1): ReLU()\n"
        "    (2): Linear(6, 3, bias=False)\n"
        "  )\n"
        "  (head): Scale(3)\n"
        ")"
    )


def test_parameter_takes_over_its_array():
    values = np.ones((2, 3), np.float32)
    assert nn.parameter(values).data is values


def test_parameter_is_contiguous_and_on_the_cpu():
    weight = nn.parameter(np.arange(6.0).reshape(2, 3).T)
    assert weight.data.flags.c_contiguous and weight.requires_grad and weight.device is backend.device("cpu")
    assert weight.numpy().tolist() == [[0, 3], [1, 4], [2, 5]]
