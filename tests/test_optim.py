"""SGD and gradient clipping over a model's parameters: traces, state, freezing, errors."""

import numpy as np
import pytest
from tolerances import assert_close

import minicnn
from minicnn import nn, optim
from minicnn.functional import cross_entropy


def small_model(device, seed=4):
    minicnn.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to(device)


def batch(device, seed=0):
    rng = np.random.default_rng(seed)
    x, target = rng.standard_normal((4, 5)).astype(np.float32), rng.integers(0, 3, 4)
    return minicnn.tensor(x, device=device), minicnn.tensor(target, device=device)


def backward(model, seed=0):
    x, target = batch(model[0].weight.device, seed)
    model.zero_grad()
    cross_entropy(model(x), target).backward()


@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_a_model_trains_as_in_torch(nesterov, torch):
    model = small_model("numpy")
    second = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    second.load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": nesterov}
    ours, theirs = optim.SGD(model.parameters(), **settings), torch.optim.SGD(second.parameters(), **settings)
    for step, lr in enumerate((0.1, 0.1, 0.01)):
        ours.lr = theirs.param_groups[0]["lr"] = lr
        backward(model, step)
        norm = optim.clip_grad_norm(model.parameters(), 0.5)
        x, target = batch("numpy", step)
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(second(torch.tensor(x.numpy())), torch.tensor(target.numpy())).backward()
        assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(second.parameters(), 0.5).item(), rel=1e-5)
        ours.step()
        theirs.step()
    for name, value in second.state_dict().items():
        assert_close(model.state_dict()[name], value.numpy(), what=name)


def test_the_arena_is_moved_as_each_parameter_would_be(device, rng):
    parameters = [nn.parameter(rng.standard_normal(shape).astype(np.float32)) for shape in ((3, 5), (7,), (1,))]
    start, grads = (
        [p.numpy() for p in parameters],
        [rng.standard_normal(p.shape).astype(np.float32) for p in parameters],
    )
    holder = nn.Sequential(*(nn.Module() for _ in parameters))
    for module, parameter in zip(holder, parameters, strict=True):
        module.weight = parameter
    holder.to(device)
    optimizer = optim.SGD(parameters, lr=0.5, momentum=0.5, multipliers={parameters[1]: (0.5, 1.0)})
    for parameter, grad in zip(parameters, grads, strict=True):
        array, _ = parameter.slot.open()
        parameter.device.write(array, grad)
    optimizer.step()
    for parameter, before, grad, lr in zip(parameters, start, grads, (0.5, 0.25, 0.5), strict=True):
        assert_close(parameter.numpy(), before - lr * grad)


def test_a_parameter_without_a_gradient_is_moved_by_momentum_and_decay_alone():
    model = small_model("numpy")
    optimizer = optim.SGD(model.parameters(), lr=0.5, weight_decay=0.5)
    before = model.state_dict()
    backward(model)
    optimizer.zero_grad()
    optimizer.step()
    for name, value in model.state_dict().items():
        assert_close(value, before[name] * np.float32(0.75), what=name)


def test_grad_scale_stands_for_smaller_gradients():
    whole, scaled = (small_model("numpy") for _ in range(2))
    first, second = (optim.SGD(model.parameters(), lr=0.5, momentum=0.5) for model in (whole, scaled))
    backward(whole)
    backward(scaled)
    for parameter in scaled.parameters():
        parameter.slot.array *= 4
    second.grad_scale = 0.25
    first.step()
    second.step()
    for name, value in scaled.state_dict().items():
        np.testing.assert_array_equal(value, whole.state_dict()[name], err_msg=name)


def test_what_is_left_out_or_frozen_stays():
    model = small_model("numpy")
    before = model.state_dict()
    optimizer = optim.SGD(model[0].parameters(), lr=0.5, momentum=0.9, multipliers={model[0].bias: (0.0, 1.0)})
    backward(model)
    optimizer.step()
    moved = [name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])]
    assert moved == ["0.weight"]


def test_clipping_counts_and_changes_the_chosen_alone():
    model = small_model("numpy")
    optim.SGD(model.parameters(), lr=0.1)
    backward(model)
    before = {name: p.grad.numpy() for name, p in model.named_parameters()}
    chosen = [model[0].weight, model[2].weight]  # not neighbours: a bias lies between them
    norm = optim.clip_grad_norm(chosen, 1e-3)
    expected = np.sqrt(sum((before[name].astype(np.float64) ** 2).sum() for name in ("0.weight", "2.weight")))
    assert norm.item() == pytest.approx(expected, rel=1e-6)
    for name, p in model.named_parameters():
        factor = 1e-3 / (expected + 1e-6) if name.endswith("weight") else 1.0
        assert_close(p.grad.numpy(), before[name] * np.float32(factor), what=name, atol=0)


def test_saved_state_goes_on_where_it_stood():
    def run(steps, state=None):
        model = small_model("numpy")
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        if state is not None:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        for step in steps:
            backward(model, step)
            optimizer.step()
        return model.state_dict(), optimizer.state_dict()

    whole, resumed = run(range(4)), run(range(2, 4), run(range(2)))
    for a, b in zip(whole, resumed, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1}, "SGD: lr must not be negative, got -1"),
        ({"lr": float("nan")}, "SGD: lr must not be negative, got nan"),
        ({"lr": 1, "momentum": -0.1}, "SGD: momentum must not be negative, got -0.1"),
        ({"lr": 1, "weight_decay": -2}, "SGD: weight_decay must not be negative, got -2"),
        ({"lr": 1, "dialect": "caffe"}, "SGD: dialect must be 'torch' or 'paper', got 'caffe'"),
        ({"lr": 1, "nesterov": True}, "SGD: nesterov needs dialect='torch' and a momentum above 0"),
        (
            {"lr": 1, "nesterov": True, "momentum": 0.9, "dialect": "paper"},
            "SGD: nesterov needs dialect='torch' and a momentum above 0",
        ),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError) as error:
        optim.SGD(small_model("numpy").parameters(), **settings)
    assert str(error.value) == message


def test_refuses_a_foreign_velocity():
    optimizer = optim.SGD(small_model("numpy").parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"^SGD: saved velocity has 3 elements, this model's arena 256$"):
        optimizer.load_state_dict({"velocity": np.zeros(3, np.float32)})


@pytest.mark.parametrize("move", ["device", "arena"])
def test_refuses_a_model_that_has_moved(move):
    model = small_model("numpy")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    if move == "device":
        model.to("cpu")
    else:  # a second optimizer over more than this model packs it anew
        optim.SGD([*model.parameters(), *small_model("numpy").parameters()], lr=0.1)
    with pytest.raises(RuntimeError, match=r"^SGD: the model has moved since the optimizer was made"):
        optimizer.step()


@pytest.mark.parametrize("max_norm", [0, -1, float("nan")])
def test_clipping_refuses_a_norm_that_is_not_above_0(max_norm):
    with pytest.raises(ValueError, match=rf"^clip_grad_norm: max_norm must be above 0, got {max_norm}$"):
        optim.clip_grad_norm(small_model("numpy").parameters(), max_norm)


def test_clipping_refuses_parameters_of_several_arenas():
    message = r"^clip_grad_norm: the parameters must share one arena; make the model's optimizer first$"
    with pytest.raises(ValueError, match=message):
        optim.clip_grad_norm([nn.parameter(np.zeros(3, np.float32))], 1.0)
    with pytest.raises(ValueError, match=message):
        optim.clip_grad_norm([*small_model("numpy").parameters(), *small_model("numpy").parameters()], 1.0)


# ---- the step within the walk ----


def two_steps(device, one_step, **settings):
    """A small network after two steps, the learning rate lower in the second -> (weights, velocity)."""
    model = small_model(device)
    optimizer = optim.SGD(model.parameters(), lr=0.5, weight_decay=0.05, **settings)
    for step, lr in enumerate((0.5, 0.1)):
        optimizer.lr = lr
        x, target = batch(device, step)
        optimizer.zero_grad()
        one_step(optimizer, cross_entropy(model(x), target))
    return model.state_dict(), optimizer.state_dict()["velocity"]


def apart(optimizer, loss):
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dialect": "paper"}],
    ids=["plain", "momentum", "nesterov", "paper"],
)
def test_a_step_within_the_walk_is_the_step_behind_it(settings, device):
    expected, expected_velocity = two_steps(device, apart, **settings)
    got, velocity = two_steps(device, optim.SGD.backward_and_step, **settings)
    for name, value in expected.items():
        assert_close(got[name], value, what=name)
    assert_close(velocity, expected_velocity)


def stepped_within(model, optimizer, loss):
    """Names of the parameters that backward_and_step moves in place of writing their gradients."""
    for p in model.parameters():
        p.slot.read()[...] = 7
        p.zero_grad()
    optimizer.backward_and_step(loss)
    return [name for name, p in model.named_parameters() if p.slot.stale]


@pytest.fixture
def emulated_device():
    return minicnn.backend.device("emulated")


def test_weights_of_fully_connected_layers_have_no_gradient_then(emulated_device):
    model = small_model(emulated_device)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    x, target = batch(emulated_device)
    assert stepped_within(model, optimizer, cross_entropy(model(x), target)) == ["0.weight", "2.weight"]
    assert not model[0].weight.grad.numpy().any()


def test_what_is_read_twice_frozen_or_of_another_precision_has_one(emulated_device):
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)).to(emulated_device)
    optimizer = optim.SGD(model.parameters(), lr=0.5, multipliers={model[1].weight: (0.0, 1.0)})
    x, target = batch(emulated_device)
    twice = cross_entropy(model(model[0](x)), target)
    assert stepped_within(model, optimizer, twice) == ["2.weight"]
    with minicnn.precision("bfloat16"):
        loss = cross_entropy(model(x), target)
    assert stepped_within(model, optimizer, loss) == []


def test_what_is_left_out_is_not_moved(emulated_device):
    model = small_model(emulated_device)
    optimizer = optim.SGD([model[0].bias, *model[2].parameters()], lr=0.5)
    before = model[0].weight.numpy()
    x, target = batch(emulated_device)
    assert stepped_within(model, optimizer, cross_entropy(model(x), target)) == ["2.weight"]
    np.testing.assert_array_equal(model[0].weight.numpy(), before)


def test_gradients_that_add_up_are_written(device):
    """Two batches, and one step with the sum of their gradients."""

    def run(last):
        model = small_model(device)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        losses = [cross_entropy(model(x), target) for x, target in (batch(device, 0), batch(device, 1))]
        losses[0].backward()
        last(optimizer, losses[1])
        return model.state_dict()

    expected = run(apart)
    for name, value in run(optim.SGD.backward_and_step).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_walk_that_is_refused_moves_nothing(emulated_device):
    model = small_model(emulated_device)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    x, target = batch(emulated_device)
    loss = cross_entropy(model(x), target)
    loss.backward()
    before = model.state_dict()
    with pytest.raises(minicnn.GraphError, match="second walk"):
        optimizer.backward_and_step(loss)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert all(p.slot.step is None for p in model.parameters())


# ---- Adam ----


def test_adam_goes_on_where_it_stood(device):
    def run(steps, state=None):
        model = small_model(device)
        optimizer = optim.Adam(model.parameters(), lr=0.1, weight_decay=0.01)
        if state is not None:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        for step in steps:
            x, target = batch(device, step)
            optimizer.zero_grad()
            cross_entropy(model(x), target).backward()
            optimizer.step()
        return model.state_dict(), optimizer.state_dict()

    whole, resumed = run(range(4)), run(range(2, 4), run(range(2)))
    for a, b in zip(whole, resumed, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1}, "Adam: lr must not be negative, got -1"),
        ({"lr": 1, "eps": -1.0}, "Adam: eps must not be negative, got -1.0"),
        ({"lr": 1, "betas": (0.9, 1.0)}, "Adam: betas must be two numbers in [0, 1), got (0.9, 1.0)"),
        ({"lr": 1, "betas": (0.9,)}, "Adam: betas must be two numbers in [0, 1), got (0.9,)"),
    ],
)
def test_adam_refuses_settings(settings, message):
    with pytest.raises(ValueError) as error:
        optim.Adam(small_model("numpy").parameters(), **settings)
    assert str(error.value) == message


def test_the_state_of_another_optimizer_is_refused():
    model = small_model("numpy")
    state = optim.SGD(model.parameters(), lr=0.1).state_dict()
    with pytest.raises(ValueError, match=r"^Adam: the saved state is another optimizer's: it has no mean$"):
        optim.Adam(model.parameters(), lr=0.1).load_state_dict(state)
