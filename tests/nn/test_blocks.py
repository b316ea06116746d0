"""Blocks of networks: each against what its formula says, written out in loops or in PyTorch."""

import math

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import functional, nn
from minicnn.autograd import ops_behind
from minicnn.nn import init

TABLE = np.array([[1, 0, 1], [1, 1, 0]], bool)  # two inputs, three filters


def floats(rng, *shape, dtype=np.float64):
    return minicnn.tensor(rng.standard_normal(shape).astype(dtype))


def test_partial_conv_is_a_sum_over_the_connected_maps(rng):
    layer = twins.spread(twins.as_float64(nn.PartialConv2d(TABLE, (3, 2), stride=2, padding=1)), rng)
    x, weight, bias = rng.standard_normal((2, 6, 7, 2)), layer.weight.numpy(), layer.bias.numpy()
    y = layer(minicnn.tensor(x)).numpy()
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.empty(y.shape)
    for n, p, q, k in np.ndindex(y.shape):
        total = bias[k]
        for i, (filter_, channel) in enumerate([(0, 0), (0, 1), (1, 1), (2, 0)]):
            if filter_ == k:
                total += (padded[n, 2 * p : 2 * p + 3, 2 * q : 2 * q + 2, channel] * weight[i]).sum()
        expected[n, p, q, k] = total
    assert_close(y, expected)


def test_partial_conv_has_parameters_and_gradients_for_connections_alone(rng):
    layer = twins.as_float64(nn.PartialConv2d(TABLE, 3))
    assert (layer.weight.shape, layer.bias.shape) == ((4, 3, 3), (3,))
    assert layer.macs((2, 6, 5, 2)) == 2 * 4 * 3 * 4 * 9
    x = minicnn.tensor(rng.standard_normal((2, 5, 5, 2)), requires_grad=True)
    minicnn.gradcheck(lambda x, *_: layer(x), [x, *layer.parameters()])


def test_partial_conv_with_every_connection_is_a_convolution(device, rng):
    layer = nn.PartialConv2d(["XX", "XX", "XX"], 3)
    x = minicnn.tensor(rng.integers(-3, 4, (2, 6, 6, 3)).astype(np.float32), device=device)
    layer.weight.copy_(rng.integers(-3, 4, layer.weight.shape))
    dense = minicnn.tensor(layer.weight.numpy().reshape(2, 3, 3, 3).transpose(0, 2, 3, 1), device=device)
    layer.to(device)
    np.testing.assert_array_equal(layer(x).numpy(), functional.conv2d(x, dense).numpy())


def test_partial_conv_starts_with_the_variance_of_each_filters_inputs():
    layer = nn.PartialConv2d(["X" * 40 + "." * 40, "X" * 80, "." * 40 + "X" * 40], 5)  # fan-in 50 everywhere
    assert set(layer.fan_in) == {50}
    layer = nn.PartialConv2d(["X" * 99 + ".", "." * 99 + "X"] + ["." * 99 + "X"] * 3, 5)
    assert set(layer.fan_in) == {25, 100}
    single = layer.weight.numpy()[layer.fan_in == 25]
    assert abs(single.std() - math.sqrt(2 / 25)) < 4 * math.sqrt(2 / 25 / 2 / single.size)
    with init.skipped():
        assert not nn.PartialConv2d(TABLE, 3).weight.numpy().any()


def test_partial_conv_refuses_a_filter_that_reads_nothing():
    with pytest.raises(minicnn.OpError, match=r"^PartialConv2d: connections must be .* each filter with an input$"):
        nn.PartialConv2d(["X.", "X."], 3)


def test_subsampling_sums_scales_and_shifts(device, rng):
    layer = nn.Subsampling2d(3, 2)
    x = rng.integers(-4, 5, (2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        layer.to(device)(minicnn.tensor(x, device=device)).numpy(),
        functional.avg_pool2d(minicnn.tensor(x, device=device), 2).numpy(),
    )
    weight, bias = np.array([2, -1, 4], np.float32), np.array([1, 0, -3], np.float32)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    expected = x[:, :, :4].reshape(2, 2, 2, 2, 2, 3).sum(axis=(2, 4)) * weight + bias
    np.testing.assert_array_equal(layer(minicnn.tensor(x, device=device)).numpy(), expected)
    assert layer.macs(x.shape) == 2 * 2 * 2 * 3


def test_subsampling_gradient(rng):
    layer = twins.spread(twins.as_float64(nn.Subsampling2d(2, 2)), rng)
    x = minicnn.tensor(rng.standard_normal((2, 4, 4, 2)), requires_grad=True)
    minicnn.gradcheck(lambda x, *_: layer(x), [x, *layer.parameters()])


def test_scaled_tanh_is_close_to_one_at_one():
    x = np.array([-1.0, 0.0, 1.0, 100.0])
    y = nn.ScaledTanh()(minicnn.tensor(x)).numpy()
    assert_close(y, 1.7159 * np.tanh(2 / 3 * x))
    assert abs(y[2] - 1) < 1e-4 and y[0] == -y[2]


def test_radial_basis_is_the_negative_squared_distance(device, rng):
    codes, x = rng.choice([-1.0, 1.0], (3, 5)), rng.integers(-2, 3, (4, 5)).astype(np.float32)
    layer = nn.RadialBasis(codes).to(device)
    y = layer(minicnn.tensor(x, device=device)).numpy()
    np.testing.assert_array_equal(y, [[-((row - code) ** 2).sum() for code in codes] for row in x])
    assert layer.macs(x.shape) == 4 * 15 and not layer.parameters()
    with pytest.raises(minicnn.OpError, match=r"^RadialBasis: codes must be \(classes, features\), got \(3,\)$"):
        nn.RadialBasis([1, 2, 3])


def test_radial_basis_gradient(rng):
    layer = twins.as_float64(nn.RadialBasis(rng.standard_normal((3, 5))))
    minicnn.gradcheck(layer, [minicnn.tensor(rng.standard_normal((4, 5)), requires_grad=True)])


def test_mlpconv_is_a_convolution_and_matrix_products(rng):
    """A 1x1 convolution is the same matrix at each pixel: fact N1."""
    block = twins.spread(twins.as_float64(nn.MlpConv(2, (5, 4, 3), 3, stride=2)), rng)
    assert [type(layer).__name__ for layer in block] == ["Conv2d", "ReLU"] * 3
    x = floats(rng, 2, 7, 7, 2)
    y = functional.relu(functional.conv2d(x, block[0].weight, block[0].bias, stride=2, padding=1)).numpy()
    for conv in (block[2], block[4]):
        y = np.maximum(y @ conv.weight.numpy()[:, 0, 0].T + conv.bias.numpy(), 0)
    assert_close(block(x).numpy(), y)


def test_inception_is_its_four_branches_side_by_side(rng):
    block = twins.spread(twins.as_float64(nn.Inception(3, 2, 4, 5, 1, 3, 6)), rng)
    x = floats(rng, 2, 6, 5, 3)
    (a,), (b1, b2), (c1, c2), (d,) = (
        [m for m in branch if isinstance(m, nn.Conv2d)]
        for branch in (block.branch1, block.branch2, block.branch3, block.branch4)
    )

    def relu_conv(x, conv, padding=0):
        return functional.relu(functional.conv2d(x, conv.weight, conv.bias, padding=padding))

    views = [
        relu_conv(x, a),
        relu_conv(relu_conv(x, b1), b2, 1),
        relu_conv(relu_conv(x, c1), c2, 2),
        relu_conv(functional.max_pool2d(x, 3, 1, 1), d),
    ]
    assert [view.shape[3] for view in views] == [2, 5, 3, 6]
    np.testing.assert_array_equal(block(x).numpy(), np.concatenate([v.numpy() for v in views], axis=3))


def test_inception_gradient(rng):
    block = twins.as_float64(nn.Inception(2, 1, 2, 2, 1, 1, 2))
    x = minicnn.tensor(rng.standard_normal((2, 4, 4, 2)), requires_grad=True)
    minicnn.gradcheck(lambda x, *_: block(x), [x, *block.parameters()], elementwise=False)


def test_pad_shortcut_takes_every_second_pixel_and_adds_zeros(device, rng):
    x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    y = nn.PadShortcut(3, 5, stride=2)(minicnn.tensor(x, device=device)).numpy()
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert y.shape == (2, 3, 2, 5) and not y[..., 3:].any()
    assert nn.PadShortcut(3, 3, stride=1)(minicnn.tensor(x)).shape == x.shape
    with pytest.raises(minicnn.OpError, match=r"^PadShortcut: 4 channels cannot be padded to 3$"):
        nn.PadShortcut(4, 3, 1)


BLOCKS = {"basic": nn.BasicBlock, "bottleneck": nn.Bottleneck}


@pytest.mark.parametrize("shortcut", ["A", "B", None])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_residual_block_adds_its_input_or_what_stands_for_it(block, shortcut, rng):
    """R1: y = relu(F(x) + x); where the shapes differ, the padded or the projected x; a plain block has F alone."""
    outputs = 2 * block.expansion
    for channels, stride in ((outputs, 1), (2, 2), (1, 1)):
        layer = twins.as_float64(block(channels, 2, stride, shortcut))
        x = floats(rng, 2, 6, 6, channels)
        f = layer.residual(x).numpy()
        if shortcut is None:
            expected = f
            assert not hasattr(layer, "downsample")
        elif (channels, stride) == (outputs, 1):
            expected = f + x.numpy()
            assert not hasattr(layer, "downsample")
        else:
            expected = f + layer.downsample(x).numpy()
            assert isinstance(layer.downsample, nn.PadShortcut if shortcut == "A" else nn.Sequential)
        np.testing.assert_array_equal(layer(x).numpy(), np.maximum(expected, 0))


def ops_of(y) -> list[str]:
    """The names of the ops behind y, last first."""
    return [op.name for op in ops_behind(y.op)]


@pytest.mark.parametrize("hooked", ["", "add", "relu", "bn1", "relu1", "bn2"])
def test_a_residual_block_is_two_convolutions_a_normalisation_each_and_a_sum(hooked, rng):
    layer = nn.BasicBlock(3, 3)
    if hooked:
        getattr(layer, hooked).register_forward_hook(lambda module, inputs, y: None)
    names = ["add_relu", "batch_norm", "conv2d", "batch_norm", "conv2d"]
    if hooked in ("add", "relu"):
        names[:1] = ["relu", "add"]
    elif hooked in ("bn1", "relu1"):
        names[3:3] = ["relu"]
    assert ops_of(layer(floats(rng, 1, 4, 4, 3, dtype=np.float32))) == names
    with nn.fusion(False):
        apart = ["relu", "add", "batch_norm", "conv2d", "relu", "batch_norm", "conv2d"]
        assert ops_of(layer(floats(rng, 1, 4, 4, 3, dtype=np.float32))) == apart


def test_a_plain_block_ends_in_a_normalisation_with_relu(rng):
    layer = nn.BasicBlock(3, 3, shortcut=None)
    assert ops_of(layer(floats(rng, 1, 4, 4, 3, dtype=np.float32))) == ["batch_norm", "conv2d"] * 2


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_zero_init_makes_the_block_the_relu_of_its_shortcut(block, rng):
    channels = 2 * block.expansion
    x = minicnn.tensor(rng.standard_normal((2, 4, 4, channels)).astype(np.float32))
    np.testing.assert_array_equal(block(channels, 2, zero_init=True)(x).numpy(), np.maximum(x.numpy(), 0))
    assert (block(channels, 2)(x).numpy() != np.maximum(x.numpy(), 0)).any()


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_residual_gradient(block, shortcut, rng):
    layer = twins.spread(twins.as_float64(block(3, 2 if block is nn.Bottleneck else 5, 2, shortcut)), rng)
    x = minicnn.tensor(rng.standard_normal((2, 6, 6, 3)), requires_grad=True)
    minicnn.gradcheck(lambda x, *_: layer(x), [x, *layer.parameters()], elementwise=False)


def test_the_stride_of_a_bottleneck():
    strides = {
        on: [
            conv.stride
            for _, conv in nn.Bottleneck(8, 2, 2, stride_on=on).named_modules()
            if isinstance(conv, nn.Conv2d)
        ]
        for on in ("3x3", "1x1")
    }
    assert strides == {"3x3": [1, 2, 1, 2], "1x1": [2, 1, 1, 2]}
    with pytest.raises(minicnn.OpError, match=r"^Bottleneck: stride_on must be '3x3' or '1x1', got '5x5'$"):
        nn.Bottleneck(8, 2, stride_on="5x5")


def test_an_unknown_shortcut_is_refused():
    with pytest.raises(minicnn.OpError, match=r"^BasicBlock: shortcut must be 'A', 'B' or None, got 'C'$"):
        nn.BasicBlock(4, 4, shortcut="C")


def test_joins_of_paths(device, rng):
    a, b = rng.standard_normal((2, 2, 3, 3, 4)).astype(np.float32)
    given = [minicnn.tensor(x, device=device) for x in (a, b)]
    np.testing.assert_array_equal(nn.Add()(*given).numpy(), a + b)
    np.testing.assert_array_equal(nn.Concatenate()(*given).numpy(), np.concatenate([a, b], axis=3))
    np.testing.assert_array_equal(nn.Concatenate(axis=1)(*given).numpy(), np.concatenate([a, b], axis=1))
