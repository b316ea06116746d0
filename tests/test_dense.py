"""Fully connected layers as convolutions (fact V7): the network's own outputs at its own size, a map of them at others."""

import numpy as np
import pytest

import minicnn
from minicnn import backend, models
from minicnn.dense import fully_convolutional
from minicnn.memory_plan import Rehearsal

# Small forms, and full ones at sizes that a CPU computes at once; the widths are those of the constructors.
CASES = [
    ("alexnet", 28, 1),
    ("alexnet", 35, 3),
    ("alexnet", 67, 3),
    ("alexnet_one_tower", 28, 1),
    ("alexnet_owt", 28, 1),
    ("vgg_a", 28, 1),
    ("vgg_c", 33, 3),
    ("vgg11_bn", 28, 3),
    ("vgg_a", 64, 3),
    ("lenet", 28, 1),
    ("lenet", 32, 1),
]


def random_images(rng, *shape):
    return minicnn.tensor(rng.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(("name", "size", "channels"), CASES)
def test_at_its_own_size_the_twin_is_the_network(rng, name, size, channels):
    network = models.find(name)(7, size, channels).eval()
    dense = fully_convolutional(network)
    x = random_images(rng, 2, size, size, channels)
    expected = network(x).numpy()
    assert dense.class_map(x).shape == (2, 1, 1, 7)
    np.testing.assert_allclose(dense(x).numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_alexnet_of_224_pixels_too(rng):
    network = models.alexnet(5, 224).eval()
    x = random_images(rng, 1, 224, 224, 3)
    expected = network(x).numpy()
    got = fully_convolutional(network)(x).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "size", "extent"),
    [
        ("vgg_d", 224, 1),
        ("vgg_d", 255, 1),
        ("vgg_d", 256, 2),
        ("vgg_d", 288, 3),
        ("vgg_d", 384, 6),
        ("vgg_d", 512, 10),
        ("vgg_a", 384, 6),
        ("vgg_e", 384, 6),
        ("alexnet", 224, 1),
        ("alexnet", 256, 2),
        ("alexnet_owt", 384, 6),
    ],
)
def test_map_sizes_of_the_published_networks(name, size, extent):
    """Computed on a device whose arrays have shapes and no memory."""
    stage = Rehearsal(backend.device("numpy"))
    network = models.find(name)(initialize=None).to(stage).eval()
    x = minicnn.Tensor(stage.empty((1, size, size + 32, 3)), stage)
    assert fully_convolutional(network).class_map(x).shape == (1, extent, extent + 1, 1000)


def test_each_place_of_the_map_is_the_network_on_its_window(rng):
    """VGG's pools of 2 at stride 2 and small form: a step of the map is 8 pixels. The convolutions' padding makes an image's
    border differ from a window's: so here there is none."""
    network = models.vgg_a(4, 28, 1).eval()
    for conv in network.layers(minicnn.nn.Conv2d):
        centre = conv.weight.numpy()
        centre[:, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        conv.weight.copy_(centre)
    x = rng.standard_normal((1, 36, 44, 1)).astype(np.float32)
    got = fully_convolutional(network).class_map(minicnn.tensor(x)).numpy()
    assert got.shape == (1, 2, 3, 4)
    for p in range(2):
        for q in range(3):
            window = np.ascontiguousarray(x[:, 8 * p : 8 * p + 28, 8 * q : 8 * q + 28])
            np.testing.assert_allclose(got[:, p, q], network(minicnn.tensor(window)).numpy(), rtol=1e-4, atol=1e-5)
    dense = fully_convolutional(network)(minicnn.tensor(x)).numpy()
    np.testing.assert_allclose(dense, got.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_the_parameters_are_shared(rng):
    network = models.lenet(3, 28, 1)
    dense = fully_convolutional(network)
    assert {id(p) for p in dense.parameters()} == {id(p) for p in network.parameters()}
    x = random_images(rng, 2, 28, 28, 1)
    before = dense(x).numpy()
    network.classifier[4].bias.copy_([1.0, 2.0, 3.0])
    np.testing.assert_allclose(dense(x).numpy() - before, [[1, 2, 3]] * 2, atol=1e-5)


def test_the_twin_has_the_gradients_of_the_network(rng):
    network = models.lenet(3, 28, 1)
    x, dy = random_images(rng, 2, 28, 28, 1), rng.standard_normal((2, 3)).astype(np.float32)
    network(x).backward(dy)
    expected = {name: p.grad.numpy() for name, p in network.named_parameters()}
    network.zero_grad()
    fully_convolutional(network)(x).backward(dy)
    for name, p in network.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["nin", "resnet18", "googlenet"])
def test_what_ends_in_a_global_average_takes_any_size_as_it_is(rng, name):
    network = models.find(name)(3, 28, 1).eval()
    assert fully_convolutional(network) is network
    assert network(random_images(rng, 1, 36, 44, 1)).shape == (1, 3)


def test_others_are_refused():
    with pytest.raises(
        ValueError,
        match=r"^dense evaluation turns fully connected layers into convolutions; lenet5 has ScaledTanh among its last "
        r"layers: use another protocol$",
    ):
        fully_convolutional(models.lenet5(initialize=None))
    with pytest.raises(
        ValueError,
        match=r"^dense evaluation: at its own image size alexnet_owt averages 3x3 maps to 2x2, which no convolution stands "
        r"for: use another protocol$",
    ):
        fully_convolutional(models.alexnet_owt(image_size=32, initialize=None))
