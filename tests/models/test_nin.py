"""Network in Network: the authors' counts, its layers in PyTorch, and that it learns. N1: Lin, Chen, Yan 2013."""

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn
from minicnn.summary import summary


def test_N1_a_1x1_convolution_is_a_matrix_product_at_each_pixel(device, rng):
    x, weight = rng.integers(-3, 4, (32, 32, 100)), rng.integers(-3, 4, (20, 100))
    images = minicnn.tensor(x[None].astype(np.float32), device=device)
    filters = minicnn.tensor(weight[:, None, None].astype(np.float32), device=device)
    y = functional.conv2d(images, filters)
    assert y.shape == (1, 32, 32, 20)
    np.testing.assert_array_equal(y.numpy()[0], x @ weight.T)


FULL_BLOCKS = [[34_944, 9_312, 9_312], [614_656, 65_792, 65_792], [885_120, 147_840, 147_840]]
PARAMETERS = {  # block by block, layer by layer
    "full": ((1000, 224, 3), [*FULL_BLOCKS, [3_539_968, 1_049_600, 1_025_000]], 7_595_176),
    "small": ((10, 32, 3), [[14_592, 30_880, 15_456], [460_992, 37_056, 37_056], [331_968, 37_056, 1_930]], 966_986),
}


@pytest.mark.parametrize("form", PARAMETERS)
def test_N1_parameters(form):
    arguments, blocks, total = PARAMETERS[form]
    network = models.nin(*arguments, initialize=None)
    assert network.form == form
    found = [
        [conv.weight.size + conv.bias.size for conv in block if isinstance(conv, nn.Conv2d)]
        for block in network.layers(nn.MlpConv)
    ]
    assert found == blocks
    assert summary(network).parameters == total
    assert not network.layers(nn.Linear)


@pytest.mark.parametrize(("arguments", "extents"), [((1000, 224, 3), [54, 27, 13, 6]), ((10, 32, 3), [32, 16, 8])])
def test_N1_maps(arguments, extents):
    rows = summary(models.nin(*arguments, initialize=None)).rows
    found = [row.out_shape[1] for row in rows if row.layer == "Conv2d"]
    assert found == [extent for extent in extents for _ in range(3)]
    assert rows[-2].out_shape == (1, 1, 1, arguments[0]) and rows[-2].layer == "AdaptiveAvgPool2d"


def test_N1_multiply_accumulates():
    """From the sizes of the maps and the parameters of the table above."""
    expected = 0
    for extent, block in zip([54, 27, 13, 6], PARAMETERS["full"][1], strict=True):
        filters = {34_944: 96, 614_656: 256, 885_120: 384, 3_539_968: 1024}[block[0]]
        last = 1000 if filters == 1024 else filters
        expected += extent**2 * (sum(block) - 2 * filters - last)
    assert summary(models.nin(initialize=None)).macs == expected


def torch_nin(t, c, classes):
    """The network for images of 32 pixels; c: filters of the first two blocks' and the last block's layers."""

    def block(inputs, channels, kernel_size):
        layers = [t.Conv2d(inputs, channels[0], kernel_size, padding=kernel_size // 2), t.ReLU()]
        layers += [t.Conv2d(channels[0], channels[1], 1), t.ReLU(), t.Conv2d(channels[1], channels[2], 1), t.ReLU()]
        return layers

    return t.Sequential(
        *(*block(3, c[0], 5), t.MaxPool2d(3, 2, ceil_mode=True)),
        *(*block(c[0][2], c[1], 5), t.MaxPool2d(3, 2, ceil_mode=True)),
        *(*block(c[1][2], (*c[2], classes), 3), t.AdaptiveAvgPool2d(1), t.Flatten()),
    )


def test_outputs_and_gradients_are_those_of_torch(rng, torch):
    network = twins.spread(twins.network("nin", 32, divisor=8), rng)
    build = torch_nin(torch.nn, [(24, 20, 12), (24, 24, 24), (24, 24)], 10)
    x = rng.standard_normal((2, 32, 32, 3)).astype(np.float32)
    twins.check_against_torch(network, twins.to_torch(network, build, torch), x, rng, torch)


def test_the_logits_are_means_of_one_map_a_class(rng):
    network = twins.network("nin", 28, divisor=16, in_channels=1)
    x = minicnn.tensor(rng.standard_normal((2, 28, 28, 1)).astype(np.float32))
    with minicnn.no_grad():
        maps = network.features[:-1](x).numpy()
        assert maps.shape == (2, 7, 7, 10)
        assert_close(network(x).numpy(), maps.mean(axis=(1, 2)))


def test_the_maps_of_the_classes_start_open(rng):
    """The ReLU of the paper stands behind the logits too: no map may begin below it everywhere."""
    network = models.nin(10, 28, 1)
    assert set(network.output_layers()[0].bias.numpy()) == {1}
    with minicnn.no_grad():
        logits = network.eval()(minicnn.tensor(rng.standard_normal((8, 28, 28, 1)).astype(np.float32))).numpy()
    assert logits.min() > 0.2 and np.abs(logits - 1).max() < 1


def test_one_batch_is_learned_by_heart():
    losses = twins.learn_by_heart(models.nin(4, 28, 1, dropout=0.0), lr=0.004, steps=40, images=2)
    assert losses[0] > 1 and losses[-1] < 0.02
