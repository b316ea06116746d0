"""AlexNet in two towers: the function of groups=2, with the same weights, on one device and on two."""

import functools

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import backend, functional, models, nn, optim
from minicnn.models import TwoTowers
from minicnn.models.alexnet import form_of, with_norm_groups
from minicnn.models.network import narrow, with_hidden_layers


@pytest.fixture
def alexnet(rng):
    return twins.spread(models.alexnet(10, 28, 1, norm_groups=2, dropout=0.0), rng)


def images(rng, integers=False):
    values = rng.integers(-2, 3, (2, 28, 28, 1)) if integers else rng.standard_normal((2, 28, 28, 1))
    return values.astype(np.float32)


def out(network, x, place="cpu"):
    with minicnn.no_grad():
        return network.eval()(minicnn.tensor(x, device=place)).numpy()


def normalised_by(network, alpha, k):
    for _, layer in network.named_modules():
        if isinstance(layer, nn.LocalResponseNorm):
            layer.alpha, layer.k = alpha, k
    return network


def of_integers(network, rng):
    """Small integers as weights."""
    for p in network.parameters():
        p.copy_(rng.integers(-1, 2, p.shape) * (rng.random(p.shape) < 0.05))
    return network


def test_on_integers_the_bits_are_those_of_groups(alexnet, rng):
    """With a normalisation that divides by 1, every sum is exact in any order."""
    x = images(rng, integers=True)
    whole = of_integers(alexnet, rng)
    towers = TwoTowers(whole)
    expected = out(normalised_by(whole, 0.0, 1.0), x)
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(out(normalised_by(towers, 0.0, 1.0), x), expected)


def test_on_real_images_they_agree(alexnet, rng):
    x, towers = images(rng), normalised_by(TwoTowers(alexnet), 1.0, 1.0)
    expected = out(normalised_by(alexnet, 1.0, 1.0), x)
    assert_close(out(towers, x), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_they_differ_from_towers_whose_normalisation_meets(alexnet, rng):
    x = images(rng)
    across = models.alexnet(10, 28, 1, norm_groups=1)
    across.load_state_dict(alexnet.state_dict())
    apart = out(normalised_by(alexnet, 1.0, 1.0), x)
    assert np.abs(out(normalised_by(across, 1.0, 1.0), x) - apart).max() > 1e-3 * np.abs(apart).max()


def gradients(network, x, target):
    network.train()
    loss = functional.cross_entropy(network(minicnn.tensor(x)), minicnn.tensor(target, device=network_device(network)))
    loss.backward()
    return loss.item()


def network_device(network):
    return network.parameters()[0].device


@pytest.mark.parametrize("second", ["cpu", "numpy"])
def test_gradients_agree_and_weights_come_back(second, alexnet, rng):
    x, target = images(rng), np.array([3, 7])
    towers = TwoTowers(alexnet).spread("cpu", second)
    assert {p.device.name for p in towers.parameters()} == {"cpu", second}
    assert gradients(towers, x, target) == pytest.approx(gradients(alexnet, x, target), rel=1e-5)
    for whole, parts in towers._shared_with(alexnet):
        expected = whole.grad.numpy()
        actual = np.concatenate([part.grad.numpy() for part in parts])
        assert_close(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    again = towers.joined()
    assert again.options == alexnet.options and network_device(again).name == "cpu"
    back = dict(again.named_parameters())
    for name, parameter in alexnet.named_parameters():
        np.testing.assert_array_equal(back[name].numpy(), parameter.numpy(), err_msg=name)


def test_an_optimizer_for_each_tower_learns(alexnet, rng):
    x, target = images(rng), np.array([3, 7])
    towers = TwoTowers(alexnet).spread("cpu", "numpy")
    optimizers = [optim.SGD(tower.parameters(), 0.01) for tower in (towers.tower0, towers.tower1)]
    losses = []
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses.append(gradients(towers, x, target))
        for optimizer in optimizers:
            optimizer.step()
    assert losses[0] > losses[1] > losses[2]


def test_towers_exchange_only_where_the_paper_lets_them():
    towers = TwoTowers(models.alexnet(10, 227, 3, norm_groups=2, initialize=None))
    convolutions = [[layer for layer in part if isinstance(layer, nn.Conv2d)] for part in towers.tower0.segments]
    assert [[layer.weight.shape for layer in part] for part in convolutions] == [
        [(48, 11, 11, 3), (128, 5, 5, 48)],
        [(192, 3, 3, 256), (192, 3, 3, 192), (128, 3, 3, 192)],
        [],
        [],
    ]
    linears = [layer.weight.shape for part in towers.tower1.segments for layer in part if isinstance(layer, nn.Linear)]
    assert linears == [(2048, 9216), (2048, 4096)] and towers.tower0.logits.weight.shape == (10, 4096)
    assert sum(p.size for p in towers.parameters()) == sum(p.size for p in towers.joined().parameters())


def test_kernels_compute_the_towers_too(kernel_device, rng):
    options = {
        "num_classes": 10,
        "image_size": 28,
        "in_channels": 1,
        "initialize": None,
        "dropout": 0.0,
        "norm_groups": 2,
    }
    form = with_norm_groups(form_of("alexnet", 28), 2)
    form = form._replace(features=narrow(form.features, 8), hidden=8)
    whole = twins.spread(with_hidden_layers("alexnet", form, options), rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minicnn.models.two_towers.form_of", lambda *_: form)
        towers = TwoTowers(whole).to(kernel_device)
    x = images(rng)[:1]
    expected = out(whole, x)
    assert_close(out(towers, x, kernel_device), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_side_by_side_returns_in_order(kernel_device):
    place = backend.device(kernel_device)
    ones = [minicnn.tensor(np.full(1000, float(i), np.float32), device=place) for i in range(3)]
    sums = place.side_by_side([functools.partial(functional.relu, x) for x in ones])
    assert [y.numpy().max() for y in sums] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("network", [lambda: models.alexnet(10, 28, 1), lambda: models.lenet(10, 28, 1)])
def test_other_networks_are_refused(network):
    with pytest.raises(ValueError, match=r"^TwoTowers takes an alexnet whose normalisation stays within the towers"):
        TwoTowers(network())
