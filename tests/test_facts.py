"""The numbers of the papers that this software must reproduce: one test a fact, named by its id.

A: Krizhevsky, Sutskever, Hinton, NIPS 2012. V: Simonyan, Zisserman, arXiv 1409.1556. M: memory.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import twins
from checks import leaf, run
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn, optim
from minicnn.shapes import ConvShape
from minicnn.summary import receptive_field, summary


@functools.cache
def count(name: str, **options):
    """The summary of a network whose weights are not worth drawing."""
    return summary(models.find(name)(initialize=None, **options))


def layer_names(layers) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def with_weights(rows, column: str) -> list[int]:
    return [getattr(row, column) for row in rows if row.parameters]


@pytest.mark.parametrize(("image_size", "padding"), [(224, 2), (227, 0)])
@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_tower"])
def test_A1_224_padded_by_2_and_227_unpadded_give_the_same_maps(name, image_size, padding):
    assert math.floor((image_size - 11 + 2 * padding) / 4) + 1 == 55
    maps = count(name, image_size=image_size).rows
    extents = [row.out_shape[1:3] for row in maps if row.layer in ("Conv2d", "MaxPool2d")]
    assert [key for key, _ in itertools.groupby(extents)] == [(e, e) for e in (55, 27, 13, 6)]


ALEXNET_FEATURES = ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"] * 2 + ["Conv2d", "ReLU"] * 3 + ["MaxPool2d"]
HIDDEN_THEN_DROPPED = ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]


@pytest.mark.parametrize(("name", "groups"), [("alexnet", [1, 2, 1, 2, 2]), ("alexnet_one_tower", [1] * 5)])
def test_A2_the_network_of_2012(name, groups):
    network = models.find(name)(initialize=None)
    convs = network.layers(nn.Conv2d)
    assert layer_names(network.features) == ALEXNET_FEATURES
    assert layer_names(network.classifier) == HIDDEN_THEN_DROPPED
    assert [conv.weight.shape[0] for conv in convs] == [96, 256, 384, 384, 256]
    assert [conv.groups for conv in convs] == groups
    assert {(pool.kernel_size, pool.stride) for pool in network.layers(nn.MaxPool2d)} == {(3, 2)}
    for norm in network.layers(nn.LocalResponseNorm):
        assert (norm.size, norm.alpha, norm.beta, norm.k, norm.dialect) == (5, 1e-4, 0.75, 2.0, "sum")
    assert {drop.p for drop in network.layers(nn.Dropout)} == {0.5}


def test_A2_one_weird_trick():
    network = models.alexnet_owt(initialize=None)
    convs = network.layers(nn.Conv2d)
    blocks = ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Conv2d", "ReLU"] * 3 + ["MaxPool2d", "AdaptiveAvgPool2d"]
    assert layer_names(network.features) == blocks
    assert layer_names(network.classifier) == ["Dropout", "Linear", "ReLU"] * 2 + ["Linear"]
    assert [conv.weight.shape[0] for conv in convs] == [64, 192, 384, 256, 256]
    assert [conv.groups for conv in convs] == [1] * 5
    assert count("alexnet_owt").rows[-8].out_shape == (1, 9216)


ALEXNET_PARAMETERS = {
    "alexnet": ([34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000], 60_965_224),
    "alexnet_one_tower": (None, 62_378_344),
    "alexnet_owt": (None, 61_100_840),
}


@pytest.mark.parametrize("name", ALEXNET_PARAMETERS)
def test_A3_parameters(name):
    layers, total = ALEXNET_PARAMETERS[name]
    counted = count(name)
    assert counted.parameters == sum(with_weights(counted.rows, "parameters")) == total
    if layers is not None:
        assert with_weights(counted.rows, "parameters") == layers
    if name == "alexnet_owt":
        assert counted.rows[0].parameters == 23_296


@pytest.mark.parametrize(("name", "macs"), [("alexnet", 724_406_816), ("alexnet_owt", 714_188_480)])
def test_A4_multiply_accumulates(name, macs):
    counted = count(name)
    assert counted.macs == macs
    assert counted.flops == 2 * macs
    assert all(row.flops == 2 * row.macs for row in counted.rows)
    assert f"{macs:,}" in str(counted) and f"{2 * macs:,}" in str(counted)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_owt"])
def test_A4_parameters_of_a_convolution(name):
    for conv in models.find(name)(initialize=None).layers(nn.Conv2d):
        k, r, s, _ = conv.weight.shape
        c = conv.weight.shape[3] * conv.groups
        assert conv.weight.size + conv.bias.size == r * s * c // conv.groups * k + k


LRN_IN = """
0.0000 0.0000 0.0000  1.5463 1.2684 1.5114  0.6285 1.6448 0.0000
0.5272 0.0000 0.3121  0.9505 0.0000 0.0000  0.0000 0.0000 0.0000
1.1392 0.0000 0.0000  0.0000 0.0000 0.0000  0.1394 0.0000 0.5774
1.0331 1.0747 0.0000  1.0267 0.9921 0.0000  0.0000 0.0000 0.0000
"""
LRN_OUT = """
0.0000 0.0000 0.0000  0.7370 0.8256 0.8580  0.5554 0.8649 0.0000
0.3457 0.0000 0.3023  0.4530 0.0000 0.0000  0.0000 0.0000 0.0000
0.6056 0.0000 0.0000  0.0000 0.0000 0.0000  0.1385 0.0000 0.5197
0.5777 0.7760 0.0000  0.7598 0.7470 0.0000  0.0000 0.0000 0.0000
"""


def lrn_table(text: str) -> np.ndarray:
    """Rows of channels -> (1, 3, 3, 4)."""
    return np.array(text.split(), np.float64).reshape(1, 4, 3, 3).transpose(0, 2, 3, 1)


def test_A5_local_response_norm_by_the_mean():
    y, _ = run(lambda x: functional.local_response_norm(x, 3, alpha=1, beta=1, k=1), [lrn_table(LRN_IN)], "numpy")
    assert np.abs(y - lrn_table(LRN_OUT)).max() < 1.01e-4  # inputs and outputs are rounded to four places


def test_A5_local_response_norm_by_the_sum():
    x = minicnn.tensor(lrn_table(LRN_IN))
    y = functional.local_response_norm(x, 3, alpha=1, beta=1, k=1, dialect="sum").numpy()
    assert round(float(y[0, 0, 0, 1]), 4) == 0.2047
    by_mean = functional.local_response_norm(x, 3, alpha=3, beta=1, k=1).numpy()
    assert_close(y, by_mean)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_A5_windows_odd_and_even_are_those_of_torch(size, rng, torch):
    x, dy = rng.standard_normal((2, 2, 3, 3, 7))
    y, (dx,) = run(lambda x: functional.local_response_norm(x, size, alpha=0.9, beta=0.75, k=1.5), [x], "numpy", dy)
    second = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    expected = torch.nn.functional.local_response_norm(second, size, alpha=0.9, beta=0.75, k=1.5)
    expected.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(y, expected.detach().numpy().transpose(0, 2, 3, 1))
    assert_close(dx, second.grad.numpy().transpose(0, 2, 3, 1))


def overlapping(x):
    return functional.max_pool2d(x, 3, stride=2)


def test_A6_gradient_of_overlapping_pooling(rng):
    separated = rng.permutation(7 * 7 * 2).reshape(1, 7, 7, 2) / 10
    minicnn.gradcheck(overlapping, [leaf(separated, "numpy")], elementwise=True)


def test_A6_gradient_where_overlapping_windows_tie(rng):
    x, dy = rng.integers(0, 3, (1, 7, 7, 2)).astype(float), rng.standard_normal((1, 3, 3, 2))
    expected = np.zeros_like(x)
    for p, q, c in np.ndindex(3, 3, 2):
        window = x[0, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3, c]
        r, s = divmod(int(window.argmax()), 3)  # the first of equals
        expected[0, 2 * p + r, 2 * q + s, c] += dy[0, p, q, c]
    _, (dx,) = run(overlapping, [x], "numpy", dy)
    assert_close(dx, expected)


def test_A8_dropout_at_02_keeps_the_expectation():
    p, size = 0.2, 200_000
    y = functional.dropout(minicnn.tensor(np.ones(size, np.float32)), p, training=True).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / (1 - p))}
    assert abs((y > 0).mean() - (1 - p)) < 4 * math.sqrt(p * (1 - p) / size)
    # The paper drops without scaling and multiplies by the probability of keeping at test: the same expectation.
    assert abs(y.mean() - 1) < 4 * math.sqrt(p / (1 - p) / size)
    x = minicnn.tensor(np.ones(7, np.float32))
    np.testing.assert_array_equal(functional.dropout(x, p, training=False).numpy(), x.numpy())


def test_A9_the_dialects_part_when_the_learning_rate_drops():
    weight = {dialect: nn.parameter(np.array([[1.0]])) for dialect in ("paper", "torch")}
    optimizers = {d: optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=5e-4, dialect=d) for d, w in weight.items()}
    w = {"paper": 1.0, "torch": 1.0}
    v = {"paper": 0.0, "torch": 0.0}
    for step, (lr, g) in enumerate([(0.1, 2.0), (0.1, -1.0), (0.01, 0.5)]):
        v["paper"] = 0.9 * v["paper"] - 5e-4 * lr * w["paper"] - lr * g
        w["paper"] += v["paper"]
        v["torch"] = 0.9 * v["torch"] + g + 5e-4 * w["torch"]
        w["torch"] -= lr * v["torch"]
        for dialect, optimizer in optimizers.items():
            optimizer.lr = lr
            optimizer.zero_grad()
            functional.linear(minicnn.tensor([[g]], "float64"), weight[dialect]).backward()
            optimizer.step()
            assert weight[dialect].item() == pytest.approx(w[dialect], rel=1e-12)
        assert (abs(w["paper"] - w["torch"]) < 1e-12) == (step < 2)


def test_A10_initial_values_of_the_paper():
    network = models.alexnet(initialize="paper")
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        weight = layer.weight.numpy()
        assert abs(weight.mean()) < 4 * 0.01 / math.sqrt(weight.size)
        assert abs(weight.std() - 0.01) < 4 * 0.01 / math.sqrt(2 * weight.size)
    biases = [layer.bias.numpy() for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear)]
    assert [set(bias) for bias in biases] == [{0}, {1}, {0}, {1}, {1}, {1}, {1}, {0}]


def two_towers(x: np.ndarray, conv) -> np.ndarray:
    """relu(conv(x)) as two GPUs compute it: each with half of the filters, and where there are groups from half of x."""
    towers = []
    for half in range(2):
        seen = np.split(x, 2, axis=3)[half] if conv.groups == 2 else x
        weight, bias = (np.split(t.numpy(), 2)[half] for t in (conv.weight, conv.bias))
        seen, weight, bias = (minicnn.tensor(np.ascontiguousarray(t), device="numpy") for t in (seen, weight, bias))
        towers.append(functional.relu(functional.conv2d(seen, weight, bias, padding=1)).numpy())
    return np.concatenate(towers, axis=3)


@pytest.mark.parametrize("values", ["integers", "reals"])
def test_A12_two_towers_equal_two_groups(values, rng, device, direct_sums):
    """From conv3, which reads both towers, to conv5."""
    layers = twins.network("alexnet", 28, divisor=8, hidden=4).features[8:14]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [conv.groups for conv in convs] == [1, 2, 2]
    x = rng.standard_normal((2, 5, 5, 16)).astype(np.float32)
    if values == "integers":
        x = rng.integers(-2, 3, x.shape).astype(np.float32)
        for p in layers.parameters():
            p.copy_(rng.integers(-2, 3, p.shape))
    expected = x
    for conv in convs:
        expected = two_towers(expected, conv)
    got = layers.to(device)(minicnn.tensor(x, device=device)).numpy()
    if values == "integers":
        np.testing.assert_array_equal(got, expected)
    else:
        assert_close(got, expected)


VGG_BLOCKS = {  # (kernel size, filters) of each convolution
    "vgg_a": [[(3, 64)], [(3, 128)], [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2],
    "vgg_a_lrn": [[(3, 64)], [(3, 128)], [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2],
    "vgg_b": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2],
    "vgg_c": [
        [(3, 64)] * 2,
        [(3, 128)] * 2,
        [(3, 256)] * 2 + [(1, 256)],
        [(3, 512)] * 2 + [(1, 512)],
        [(3, 512)] * 2 + [(1, 512)],
    ],
    "vgg_d": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 3, [(3, 512)] * 3, [(3, 512)] * 3],
    "vgg_e": [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 4, [(3, 512)] * 4, [(3, 512)] * 4],
}
VGG_DEPTH = {"vgg_a": 11, "vgg_a_lrn": 11, "vgg_b": 13, "vgg_c": 16, "vgg_d": 16, "vgg_e": 19}


@pytest.mark.parametrize("name", VGG_BLOCKS)
def test_V1_configurations(name):
    network = models.find(name)(initialize=None)
    layers = [layer for layer in network.features if not isinstance(layer, nn.ReLU)]
    expected, found = [], []
    for number, block in enumerate(VGG_BLOCKS[name]):
        convs = [("Conv2d", size, filters, 1, (size - 1) // 2) for size, filters in block]
        expected += convs + ["LocalResponseNorm"] * (name == "vgg_a_lrn" and number == 0) + [("MaxPool2d", 2, 2)]
    for layer in layers:
        match layer:
            case nn.Conv2d():
                k, r, _, _ = layer.weight.shape
                found.append(("Conv2d", r, k, layer.stride, layer.padding))
            case nn.MaxPool2d():
                found.append(("MaxPool2d", layer.kernel_size, layer.stride))
            case _:
                found.append(type(layer).__name__)
    assert found == expected
    assert layer_names(network.classifier) == HIDDEN_THEN_DROPPED
    assert len(network.layers(nn.Conv2d)) + len(network.layers(nn.Linear)) == VGG_DEPTH[name]


@pytest.mark.parametrize(("name", "alias"), [("a", 11), ("b", 13), ("d", 16), ("e", 19)])
def test_V1_names_by_depth(name, alias):
    letter, number = (models.find(n)(initialize=None) for n in (f"vgg_{name}", f"vgg{alias}"))
    assert number.name == f"vgg{alias}"
    assert [p.shape for p in letter.parameters()] == [p.shape for p in number.parameters()]


VGG_COSTS = {
    "vgg_a": (132_863_336, 7_609_090_048),
    "vgg_a_lrn": (132_863_336, 7_609_090_048),
    "vgg_b": (133_047_848, 11_308_466_176),
    "vgg_c": (133_638_952, 11_770_888_192),
    "vgg_d": (138_357_544, 15_470_264_320),
    "vgg_e": (143_667_240, 19_632_062_464),
}


@pytest.mark.parametrize("name", VGG_COSTS)
def test_V2_parameters(name):
    assert count(name).parameters == VGG_COSTS[name][0]


@pytest.mark.parametrize("name", VGG_COSTS)
def test_V3_multiply_accumulates(name):
    counted = count(name)
    assert counted.macs == VGG_COSTS[name][1]
    extent, channels, macs = 224, 3, []
    for block in VGG_BLOCKS[name]:
        for size, filters in block:
            macs.append(extent**2 * size**2 * channels * filters)
            channels = filters
        extent //= 2
    macs += [7 * 7 * 512 * 4096, 4096 * 4096, 4096 * 1000]
    assert with_weights(counted.rows, "macs") == macs


@pytest.mark.parametrize(("stack", "single", "saved"), [(3, 7, 0.449), (2, 5, 0.28)])
def test_V4_stacks_of_3x3_see_as_much_with_fewer_parameters(stack, single, saved):
    channels = 8
    small = [nn.Conv2d(channels, channels, 3, bias=False) for _ in range(stack)]
    large = [nn.Conv2d(channels, channels, single, bias=False)]
    assert receptive_field(small) == receptive_field(large) == single
    parameters = [sum(p.size for conv in convs for p in conv.parameters()) for convs in (small, large)]
    assert parameters == [stack * 9 * channels**2, single**2 * channels**2]
    assert round(1 - parameters[0] / parameters[1], 3) == saved


def first_loss(network, rng) -> tuple[float, np.ndarray]:
    """(loss, logits) of an untrained network for one image of noise of mean 0 and variance 1."""
    with minicnn.no_grad():
        logits = network.eval()(minicnn.tensor(rng.standard_normal((1, 224, 224, 3)).astype(np.float32)))
        return functional.cross_entropy(logits, minicnn.tensor([0])).item(), logits.numpy()


def test_V5_gains_of_both_readings(rng):
    a = models.vgg_a(initialize="paper")  # standard deviation 0.1
    loss, _ = first_loss(a, rng)
    assert loss > 1e6
    for layer in a.layers(nn.Conv2d) + a.layers(nn.Linear):
        layer.weight.copy_(0.1 * layer.weight.numpy())
    loss, _ = first_loss(a, rng)
    assert round(loss, 2) == 6.91
    loss, logits = first_loss(models.vgg_d(initialize="paper-0.01"), rng)
    assert 1e-9 < logits.std() < 1e-7
    assert loss == pytest.approx(math.log(1000), abs=1e-6)


def test_M1_memory_of_vgg16():
    counted = count("vgg16")
    assert round(counted.activation_bytes / 2**20, 1) == 58.1
    conv1_2 = ConvShape.of("conv2d", (1, 224, 224, 64), (64, 3, 3, 64), stride=1, padding=1, dilation=1, groups=1)
    assert conv1_2.p * conv1_2.q * conv1_2.r * conv1_2.s * conv1_2.c * 4 / 2**20 == 110.25
