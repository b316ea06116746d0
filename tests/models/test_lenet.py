"""LeNet-5 in both forms: the counts of the paper, its layers in PyTorch, and that it learns. L1: LeCun et al. 1998."""

import math

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn
from minicnn.models.lenet import C3_READS, codes
from minicnn.summary import receptive_field, summary


def with_weights(rows, column):
    return [getattr(row, column) for row in rows if row.parameters]


@pytest.mark.parametrize("image_size", [28, 32])
def test_L1_parameters_of_1998(image_size):
    counted = summary(models.lenet5(image_size=image_size))
    assert with_weights(counted.rows, "parameters") == [156, 12, 1_516, 32, 48_120, 10_164]
    assert counted.parameters == 60_000
    shapes = [row.out_shape for row in counted.rows if row.parameters]
    maps = [(1, 28, 28, 6), (1, 14, 14, 6), (1, 10, 10, 16), (1, 5, 5, 16), (1, 1, 1, 120), (1, 84)]
    assert shapes == maps


def test_L1_parameters_of_the_textbook():
    counted = summary(models.lenet())
    assert with_weights(counted.rows, "parameters") == [156, 2_416, 48_120, 10_164, 850]
    assert counted.parameters == 61_706
    assert [row.layer for row in counted.rows] == [
        *("Conv2d", "Tanh", "AvgPool2d", "Conv2d", "Tanh", "AvgPool2d", "Flatten"),
        *("Linear", "Tanh", "Linear", "Tanh", "Linear"),
    ]


def test_L1_connections():
    """The paper counts a connection for each weight, also one that is shared, for each bias and each input of a sum."""
    rows = {row.path: row for row in summary(models.lenet5()).rows}
    c1, s2, c3, s4, c5, f6, rbf = (
        rows[path]
        for path in (
            "features.0",
            "features.2",
            "features.4",
            "features.6",
            "features.8",
            "classifier.0",
            "classifier.2",
        )
    )
    connections = [row.macs + math.prod(row.out_shape) for row in (c1, c3, c5, f6)]
    assert connections == [122_304, 151_600, 48_120, 10_164]
    assert [5 * row.macs for row in (s2, s4)] == [5_880, 2_000]  # four inputs and a bias
    assert sum(connections) + 5_880 + 2_000 + rbf.macs == 340_908


def test_L1_table_of_c3():
    """Six filters read three neighbouring maps, six four, three four that are not neighbours, and one reads all."""
    table = np.array([[mark == "X" for mark in row] for row in C3_READS])
    assert table.sum(axis=0).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table.sum(axis=1).tolist() == [10] * 6
    for k in range(6):
        assert sorted(np.flatnonzero(table[:, k])) == sorted((k + i) % 6 for i in range(3))
        assert sorted(np.flatnonzero(table[:, 6 + k])) == sorted((k + i) % 6 for i in range(4))
    for k in range(12, 15):
        gaps = np.flatnonzero(~table[:, k])
        assert len(gaps) == 2 and (gaps[1] - gaps[0]) % 6 == 3
    assert len(set(map(tuple, table.T))) == 16


def test_L1_receptive_fields():
    layers = models.lenet5().features
    fields = [receptive_field(layers[: i + 1]) for i in (0, 2, 4, 6, 8)]
    assert fields == [5, 6, 14, 16, 32]


def test_codes_are_pictures_of_ten_digits_and_random_bits_for_other_counts():
    digits = codes(10)
    assert digits.shape == (10, 84) and set(np.unique(digits)) == {-1, 1}
    one = digits[1].reshape(12, 7)
    assert (one[1:10, 3] == 1).all() and (one[[0, 10, 11]] == -1).all()
    for count in (3, 10, 1000):
        chosen = codes(count)
        assert len(np.unique(chosen, axis=0)) == count and set(np.unique(chosen)) == {-1, 1}
        np.testing.assert_array_equal(chosen, codes(count))


def test_the_paper_starts_within_its_bounds():
    network = models.lenet5(initialize="paper")
    for layer in network.features:
        if isinstance(layer, nn.PartialConv2d):
            relative = np.abs(layer.weight.numpy()) * layer.fan_in[:, None, None]
        elif isinstance(layer, nn.Conv2d):
            relative = np.abs(layer.weight.numpy()) * layer.weight[0].size
        elif isinstance(layer, nn.Subsampling2d):
            relative = np.abs(layer.weight.numpy()) * 4
        else:
            continue
        assert 0.6 * 2.4 < relative.max() <= 2.4 * (1 + 1e-6)
        assert not layer.bias.numpy().any()


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match=r"^lenet: pooling must be one of 'average', 'max', got 'median'$"):
        models.lenet(pooling="median")


def torch_lenet(torch, pooling, activation):
    t = torch.nn
    pool = {"average": t.AvgPool2d, "max": t.MaxPool2d}[pooling]

    class LeNet(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = t.Conv2d(1, 6, 5, padding=2), t.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = t.Linear(400, 120), t.Linear(120, 84), t.Linear(84, 10)

        def forward(self, x):
            x = pool(2)(activation(self.conv1(x)))
            x = pool(2)(activation(self.conv2(x)))
            x = x.permute(0, 2, 3, 1).flatten(1)
            return self.fc3(activation(self.fc2(activation(self.fc1(x)))))

    return LeNet()


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_textbook_outputs_and_gradients_are_those_of_torch(pooling, rng, torch):
    network = twins.spread(models.lenet(image_size=28, pooling=pooling), rng)
    theirs = twins.to_torch(network, torch_lenet(torch, pooling, torch.tanh), torch)
    x = rng.standard_normal((3, 28, 28, 1)).astype(np.float32)
    twins.check_against_torch(network, theirs, x, rng, torch)


def torch_lenet5(torch, network):
    """LeNet-5 of 1998 in PyTorch: C3 filter by filter, subsampling as a depthwise convolution with equal weights."""
    f = torch.nn.functional
    c1, s2, c3, s4, c5, f6 = [layer for _, layer in network.named_modules() if vars(layer).get("weight") is not None]
    leaves = [torch.tensor(p.numpy(), dtype=torch.float64, requires_grad=True) for p in network.parameters()]

    def squash(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    def subsample(x, weight, bias):
        windows = weight[:, None, None, None].expand(-1, 1, 2, 2)
        return f.conv2d(x, windows, bias, stride=2, groups=len(weight))

    def partial(x, weight, bias):
        maps, start = [], 0
        for k in range(16):
            reads = [c for c in range(6) if C3_READS[c][k] == "X"]
            maps.append(f.conv2d(x[:, reads], weight[None, start : start + len(reads)], bias[k : k + 1]))
            start += len(reads)
        return torch.cat(maps, dim=1)

    def forward(x):
        w = leaves
        x = squash(f.conv2d(x, w[0].permute(0, 3, 1, 2), w[1], padding=2))
        x = squash(subsample(x, w[2], w[3]))
        x = squash(partial(x, w[4], w[5]))
        x = squash(subsample(x, w[6], w[7]))
        x = squash(f.conv2d(x, w[8].permute(0, 3, 1, 2), w[9])).flatten(1)
        x = squash(f.linear(x, w[10], w[11]))
        return -((x[:, None] - torch.tensor(codes(10))) ** 2).sum(2)

    assert [layer.weight.ndim for layer in (c1, s2, c3, s4, c5, f6)] == [4, 1, 3, 1, 4, 2]
    return forward, leaves


def test_outputs_and_gradients_of_1998_are_those_of_torch(rng, torch):
    network = twins.as_float64(twins.spread(models.lenet5(image_size=28), rng))
    forward, leaves = torch_lenet5(torch, network)
    x, dy = rng.standard_normal((3, 28, 28, 1)), rng.standard_normal((3, 10))
    y, expected = network(minicnn.tensor(x)), forward(twins.images_for_torch(x, torch))
    assert_close(y.numpy(), expected.detach().numpy())
    y.backward(dy)
    expected.backward(torch.tensor(dy))
    for (path, own), other in zip(network.named_parameters(), leaves, strict=True):
        assert_close(own.grad.numpy(), other.grad.numpy(), what=path, rtol=1e-10, atol=1e-10)


def test_cross_entropy_is_the_criterion_of_the_paper(rng):
    """Equation 9 with j = infinity: the penalty of the right class, plus the log of the sum of exp(-penalty)."""
    x = minicnn.tensor(rng.standard_normal((4, 84)))
    layer = twins.as_float64(nn.RadialBasis(0.2 * codes(10)))
    target = np.array([3, 1, 4, 1])
    penalties = ((x.numpy()[:, None] - 0.2 * codes(10)) ** 2).sum(axis=2)
    expected = (penalties[np.arange(4), target] + np.log(np.exp(-penalties).sum(axis=1))).mean()
    got = functional.cross_entropy(layer(x), minicnn.tensor(target)).item()
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "lr"), [("lenet5", 0.002), ("lenet", 0.05)])
def test_one_batch_is_learned_by_heart(name, lr):
    losses = twins.learn_by_heart(models.find(name)(4, 28, 1), lr=lr, steps=60)
    assert losses[0] > 1 and losses[-1] < 0.01
