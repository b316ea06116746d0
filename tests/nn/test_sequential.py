"""Sequential computes neighbouring layers as one op: when it does, when it must not, and that the numbers are the same."""

import numpy as np
import pytest
import twins
from checks import leaf
from tolerances import assert_close

import minicnn
from minicnn import functional, nn, optim
from minicnn.nn.sequential import Sequential


def ops_behind(y) -> list[str]:
    """The names of the ops of a chain, last first."""
    names, op = [], y.op
    while op is not None:
        names.append(op.name)
        op = op.parents[0] if op.parents else None
    return names


def layers(device, seed=0):
    """A convolution, a pool and two fully connected layers with ReLU and dropout, and small integers for weights."""
    minicnn.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(72, 16),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(16, 7),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.copy_(rng.integers(-1, 2, p.shape))
    return model.to(device)


def image(device, rng):
    return leaf(rng.integers(-2, 3, (2, 8, 8, 3)).astype(np.float32), device)


def test_layers_side_by_side_are_one_op(device, rng):
    y = layers(device)(image(device, rng))
    assert ops_behind(y) == ["linear", "linear", "reshape", "max_pool2d", "conv2d"]


def test_without_fusion_every_layer_is_an_op(device, rng):
    with nn.fusion(False):
        y = layers(device)(image(device, rng))
    apart = ["dropout", "relu", "linear", "dropout", "relu", "linear", "reshape", "max_pool2d", "relu", "conv2d"]
    assert ops_behind(y) == apart


def test_fusion_is_as_before_when_its_block_ends(rng):
    x, model = image("numpy", rng), layers("numpy")
    with nn.fusion(False):
        with nn.fusion(True):
            assert len(ops_behind(model(x))) == 5
        assert len(ops_behind(model(x))) == 10
    assert len(ops_behind(model(x))) == 5


def test_the_environment_may_turn_it_off(rng, monkeypatch):
    monkeypatch.setenv("MINICNN_FUSE", "0")
    assert len(ops_behind(layers("numpy")(image("numpy", rng)))) == 10


def test_the_same_bits_on_integers(device, rng):
    """Every sum is exact, and so is every factor 2 of dropout: forward, input's gradient, parameters' gradients, counters."""
    x = image(device, rng)
    results = []
    for enabled in (True, False):
        model, x.slot.stale = layers(device), True
        with nn.fusion(enabled):
            for _ in range(2):  # the second time with other masks
                y = model(x)
                y.backward(np.ones(y.shape))
        counters = [module.counter.numpy() for _, module in model.named_modules() if isinstance(module, nn.Dropout)]
        results.append([y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters()), *counters])
    assert (results[0][0] > 0).any() and (results[0][0] == 0).any()
    for fused, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(fused, apart)


def test_a_hook_keeps_its_layer_apart(rng):
    for place in (4, 5, 6):
        model, seen = layers("numpy"), []
        remove = model[place].register_forward_hook(lambda module, inputs, y, seen=seen: seen.append(len(inputs)))
        y = model(image("numpy", rng))
        assert seen == [1]
        assert ops_behind(y)[1:].count("linear") == 1 and len(ops_behind(y)) == (6 if place == 6 else 7)
        remove()
        assert len(ops_behind(model(image("numpy", rng)))) == 5


@pytest.mark.parametrize("how", ["without_fusion", "with_hooks"])
def test_gradients_added_up_and_clipped_agree_with_layers_apart(how, device, rng):
    """Real numbers, and a factor of dropout that rounds: two batches, their gradients' norm cut, one step; within the table's
    tolerance."""
    images = [rng.standard_normal((2, 8, 8, 3)).astype(np.float32) for _ in range(2)]
    weights = [rng.standard_normal(p.shape) / np.sqrt(np.prod(p.shape[1:])) for p in layers("numpy").parameters()]
    results = []
    for apart in (False, True):
        model = layers(device)
        model[6].p = 0.3
        for p, values in zip(model.parameters(), weights, strict=True):
            p.copy_(values)
        if apart and how == "with_hooks":
            for layer in model:
                layer.register_forward_hook(lambda module, inputs, y: None)
        optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        with nn.fusion(not apart or how == "with_hooks"):
            outputs = [model(leaf(x, device)) for x in images]
        assert len(ops_behind(outputs[0])) == (10 if apart else 5)
        for y in outputs:
            functional.cross_entropy(y, leaf(np.array([2, 5]), device)).backward()
        norm = optim.clip_grad_norm(model.parameters(), 0.25).numpy()
        gradients = [p.grad.numpy() for p in model.parameters()]
        optimizer.step()
        results.append([norm, *(y.numpy() for y in outputs), *gradients, *(p.numpy() for p in model.parameters())])
    assert results[0][0] > 0.25, "there is something to clip"
    for fused, separate in zip(*results, strict=True):
        assert_close(fused, separate)


def squares(device):
    """A convolution and pooling by squares, and small integers for weights."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.copy_(rng.integers(-1, 2, p.shape))
    return model.to(device)


def test_pooling_by_squares_goes_along_where_there_is_a_kernel(device, rng):
    together = ["conv2d_max_pool2d"] if device.name in ("emulated", "cuda:0") else ["max_pool2d", "conv2d"]
    model, x, results = squares(device), image(device, rng), []
    for enabled, names in ((True, together), (False, ["max_pool2d", "relu", "conv2d"])):
        x.slot.stale = True
        for p in model.parameters():
            p.slot.stale = True
        with nn.fusion(enabled):
            y = model(x)
        assert ops_behind(y) == names
        y.backward(np.ones(y.shape))
        results.append([y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())])
    for fused, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(fused, apart)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_hook_keeps_the_pooling_apart(place, device, rng):
    model = squares(device)
    model[place].register_forward_hook(lambda module, inputs, y: None)
    expected = ["max_pool2d", "conv2d"] if place == 2 else ["max_pool2d", "relu", "conv2d"]
    assert ops_behind(model(image(device, rng))) == expected


def test_in_evaluation_nothing_is_dropped(device, rng):
    model, x = layers(device).eval(), image(device, rng)
    y = model(x)
    with nn.fusion(False):
        np.testing.assert_array_equal(y.numpy(), model(x).numpy())
    assert len(ops_behind(y)) == 5


def test_what_somebody_derived_from_a_layer_stays_itself(rng):
    class Leaky(nn.ReLU):
        def forward(self, x):
            return functional.relu(x) - functional.relu(-x) * 0.5

    model = Sequential(nn.Linear(3, 4), Leaky())
    y = model(leaf(rng.standard_normal((2, 3)).astype(np.float32), "cpu"))
    assert (y.numpy() < 0).any()


def normalized(norm=nn.BatchNorm2d):
    """Batch normalisation and a ReLU, of images or of rows, and a layer before and behind."""
    if norm is nn.BatchNorm2d:
        return Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    return Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


BATCH_NORMS = {
    nn.BatchNorm1d: ["linear", "batch_norm", "linear", "reshape"],
    nn.BatchNorm2d: ["conv2d", "batch_norm", "conv2d"],
}


@pytest.mark.parametrize("norm", BATCH_NORMS)
def test_batch_norm_takes_the_relu_along(norm, device, rng):
    model, together = normalized(norm).to(device), BATCH_NORMS[norm]
    x = leaf(rng.standard_normal((2, 8, 8, 3)).astype(np.float32), device)
    for enabled, names in ((True, together), (False, [together[0], "relu", *together[1:]])):
        with nn.fusion(enabled):
            assert ops_behind(model(x)) == names


@pytest.mark.parametrize("place", [1, 2])
def test_a_hook_keeps_batch_norm_and_relu_apart(place, rng):
    model, x = normalized(), leaf(rng.standard_normal((2, 8, 8, 3)).astype(np.float32), "cpu")
    remove = model[place].register_forward_hook(lambda module, inputs, y: None)
    assert ops_behind(model(x)) == ["conv2d", "relu", "batch_norm", "conv2d"]
    remove()
    assert ops_behind(model(x)) == ["conv2d", "batch_norm", "conv2d"]


def residual():
    """Every kind of block, and behind the last one a consumer that masks."""
    minicnn.manual_seed(3)
    blocks = nn.BasicBlock(4, 4), nn.BasicBlock(4, 8, 2), nn.Bottleneck(8, 2), nn.Bottleneck(8, 3, 2, "A")
    plain = nn.BasicBlock(12, 12, shortcut=None)
    return Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, plain, nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize("make", [normalized, residual])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_same_bits_behind_batch_norm_and_additions(make, training, device, rng):
    """Each number comes of the same operations in the same order: what ReLU cuts is only not written in between."""
    model = twins.spread(make(), rng).train(training)
    x, state, results = rng.standard_normal((2, 8, 8, 3)).astype(np.float32), model.state_dict(), []
    for enabled in (True, False):
        model.load_state_dict(state)
        model.to(device).zero_grad()
        images = leaf(x, device)
        with nn.fusion(enabled):
            y = model(images)
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
        results.append({"y": y.numpy(), "dx": images.grad.numpy()} | gradients | model.state_dict())
    for name, fused in results[0].items():
        np.testing.assert_array_equal(fused, results[1][name], err_msg=name)
    assert all(np.isfinite(values).all() and values.any() for values in results[0].values())


@pytest.mark.parametrize(("name", "divisor"), [("alexnet", 8), ("alexnet_owt", 16)])
def test_two_steps_of_training_agree(name, divisor, device, rng):
    """A small AlexNet, narrowed: losses and weights after two steps of SGD, fused and op by op."""
    x = leaf(rng.standard_normal((2, 28, 28, 1)).astype(np.float32), device, requires_grad=False)
    target = leaf(np.array([2, 0]), device)
    results = []
    for enabled in (True, False):
        minicnn.manual_seed(3)
        network = twins.network(name, 28, divisor=divisor, hidden=12, num_classes=4, in_channels=1).to(device)
        values = np.random.default_rng(5)
        for p in network.parameters():
            p.copy_(values.standard_normal(p.shape) * np.sqrt(2 / np.prod(p.shape[1:])))
        optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        losses = []
        with nn.fusion(enabled):
            for _ in range(2):
                loss = functional.cross_entropy(network(x), target)
                network.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        results.append([np.array(losses), *(p.numpy() for p in network.parameters())])
    assert results[0][0][0] != results[0][0][1]
    for fused, apart in zip(*results, strict=True):
        assert_close(fused, apart, rtol=1e-4, atol=1e-5)
