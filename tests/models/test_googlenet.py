"""GoogLeNet: the table of the paper, its auxiliary heads, its layers in PyTorch, and that it learns. G: Szegedy et al. 2014."""

import functools

import numpy as np
import pytest
import twins

import minicnn
from minicnn import functional, models, nn
from minicnn.shapes import ConvShape
from minicnn.summary import summary


@functools.cache
def counted():
    return summary(models.googlenet(initialize=None))


def macs_5x5(channels: int, filters: int, size: int) -> int:
    shape = (filters, size, size, channels)
    return ConvShape.of("conv2d", (1, 28, 28, channels), shape, 1, size // 2, dilation=1, groups=1).macs


def test_G1_a_1x1_reduction_saves_nine_tenths():
    """0.12 billion multiply-accumulates, not 1.2; behind a reduction to 16 channels 9.68 times fewer."""
    assert macs_5x5(192, 32, 5) == 120_422_400
    assert (macs_5x5(192, 16, 1), macs_5x5(16, 32, 5)) == (2_408_448, 10_035_200)
    assert 2_408_448 + 10_035_200 == 12_443_648
    assert round(120_422_400 / 12_443_648, 2) == 9.68
    rows = {row.path: row.macs for row in counted().rows}
    assert [rows[f"inception3a.branch3.{i}"] for i in (0, 2)] == [2_408_448, 10_035_200]


# Table 1, from the image on: map, and for an inception module its filters in the order of the columns.
TABLE = {
    "inception3a": (28, 192, (64, 96, 128, 16, 32, 32), 256),
    "inception3b": (28, 256, (128, 128, 192, 32, 96, 64), 480),
    "inception4a": (14, 480, (192, 96, 208, 16, 48, 64), 512),
    "inception4b": (14, 512, (160, 112, 224, 24, 64, 64), 512),
    "inception4c": (14, 512, (128, 128, 256, 24, 64, 64), 512),
    "inception4d": (14, 512, (112, 144, 288, 32, 64, 64), 528),
    "inception4e": (14, 528, (256, 160, 320, 32, 128, 128), 832),
    "inception5a": (7, 832, (256, 160, 320, 32, 128, 128), 832),
    "inception5b": (7, 832, (384, 192, 384, 48, 128, 128), 1024),
}


def module_weights(channels, filters):
    direct, reduce3, out3, reduce5, out5, projected = filters
    return channels * (direct + reduce3 + reduce5 + projected) + 9 * reduce3 * out3 + 25 * reduce5 * out5


def test_G2_nine_inception_modules():
    network = models.googlenet(initialize=None)
    assert [stage for stage in network.stages if "inception" in stage] == list(TABLE)
    outputs = {row.path.removesuffix(".concatenate"): row.out_shape for row in counted().rows}
    for stage, (extent, channels, filters, out) in TABLE.items():
        module = getattr(network, stage)
        assert outputs[stage] == (1, extent, extent, out)
        assert sum(p.size for p in module.parameters()) == module_weights(channels, filters) + sum(filters)


def test_G2_parameters_with_and_without_the_auxiliary_heads():
    stem = [7 * 7 * 3 * 64 + 64, 64 * 64 + 64, 9 * 64 * 192 + 192]
    modules = [module_weights(channels, filters) + sum(filters) for _, channels, filters, _ in TABLE.values()]
    main = sum(stem) + sum(modules) + 1024 * 1000 + 1000
    heads = [c * 128 + 128 + 4 * 4 * 128 * 1024 + 1024 + 1024 * 1000 + 1000 for c in (512, 528)]
    assert main == 6_998_552
    assert sum(row.parameters for row in counted().rows if row.out_shape) == main
    assert counted().parameters == main + sum(heads) == 13_378_280
    assert sum(row.parameters for row in counted().rows) == counted().parameters


def test_G2_multiply_accumulates():
    """The paper's budget is 1.5 billion at inference."""
    stem = 112**2 * 7 * 7 * 3 * 64 + 56**2 * (64 * 64 + 9 * 64 * 192)
    modules = sum(extent**2 * module_weights(channels, filters) for extent, channels, filters, _ in TABLE.values())
    assert counted().macs == stem + modules + 1024 * 1000 == 1_582_671_872


def test_G2_auxiliary_heads_are_there_in_training_alone(rng):
    network = models.googlenet(5, 28, 1)
    x = minicnn.tensor(rng.standard_normal((2, 28, 28, 1)).astype(np.float32))
    called = []
    for head in (network.auxiliary1, network.auxiliary2):
        head.register_forward_hook(lambda head, *_: called.append(head))
    assert [y.shape for y in network(x)] == [(2, 5)] * 3
    assert called == [network.auxiliary1, network.auxiliary2]
    assert network.eval()(x).shape == (2, 5)
    assert len(called) == 2
    assert not any(row.path.startswith("auxiliary") and row.macs for row in summary(network).rows)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_G2_auxiliary_losses_weigh_three_tenths(label_smoothing, rng):
    network = models.googlenet(4, 28, 1, initialize=None)
    outputs = [minicnn.tensor(rng.standard_normal((3, 4)), requires_grad=True) for _ in range(3)]
    target = minicnn.tensor([3, 0, 1])
    losses = [functional.cross_entropy(y, target, label_smoothing).item() for y in outputs]
    got = network.loss(tuple(outputs), target, label_smoothing)
    assert got.item() == pytest.approx(losses[0] + 0.3 * (losses[1] + losses[2]), rel=1e-12)
    got.backward()
    assert all(np.abs(y.grad.numpy()).max() > 0 for y in outputs)
    assert network.loss(outputs[0], target, label_smoothing).item() == losses[0]


def test_dropout_of_the_paper():
    network = models.googlenet(initialize=None)
    assert [layer.p for layer in network.layers(nn.Dropout)] == [0.4, 0.7, 0.7]


def torch_googlenet(torch, d, classes):
    """All filters a d-th of the paper's, for images of 64 pixels; alpha of PyTorch's normalisation is the paper's times 5."""
    t = torch.nn

    def conv(inputs, outputs, size, stride=1):
        return [t.Conv2d(inputs, outputs, size, stride, padding=size // 2), t.ReLU()]

    class Inception(t.Module):
        def __init__(self, inputs, direct, reduce3, out3, reduce5, out5, projected):
            super().__init__()
            self.a = t.Sequential(*conv(inputs, direct, 1))
            self.b = t.Sequential(*conv(inputs, reduce3, 1), *conv(reduce3, out3, 3))
            self.c = t.Sequential(*conv(inputs, reduce5, 1), *conv(reduce5, out5, 5))
            self.d = t.Sequential(t.MaxPool2d(3, 1, 1), *conv(inputs, projected, 1))

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], dim=1)

    class Head(t.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv, self.fc1, self.fc2 = (
                t.Conv2d(channels, 128 // d, 1),
                t.Linear(128 // d, 1024 // d),
                t.Linear(1024 // d, classes),
            )

        def forward(self, x):  # maps of 4x4 are one window
            return self.fc2(torch.relu(self.fc1(torch.relu(self.conv(t.AvgPool2d(4)(x))).flatten(1))))

    def pool():
        return t.MaxPool2d(3, 2, ceil_mode=True)

    def norm():
        return t.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    def modules(*names):
        parts = []
        for name in names:
            _, inputs, filters, _ = TABLE[name]
            parts.append(Inception(inputs // d, *(f // d for f in filters)))
        return parts

    class GoogLeNet(t.Module):
        def __init__(self):
            super().__init__()
            self.to_4a = t.Sequential(
                *(*conv(3, 64 // d, 7, 2), pool(), norm()),
                *(*conv(64 // d, 64 // d, 1), *conv(64 // d, 192 // d, 3), norm(), pool()),
                *(*modules("inception3a", "inception3b"), pool(), *modules("inception4a")),
            )
            self.to_4d = t.Sequential(*modules("inception4b", "inception4c", "inception4d"))
            self.rest = t.Sequential(
                *(*modules("inception4e"), pool(), *modules("inception5a", "inception5b")),
                *(t.AdaptiveAvgPool2d(1), t.Flatten()),
            )
            self.fc = t.Linear(1024 // d, classes)
            self.head1, self.head2 = Head(512 // d), Head(528 // d)

        def forward(self, x):
            a = self.to_4a(x)
            b = self.to_4d(a)
            logits = self.fc(self.rest(b))
            return (logits, self.head1(a), self.head2(b)) if self.training else logits

    return GoogLeNet()


def test_outputs_and_gradients_are_those_of_torch(rng, torch):
    network = twins.spread(twins.network("googlenet", 64, divisor=8), rng)
    theirs = twins.to_torch(network, torch_googlenet(torch, 8, 10), torch)
    twins.check_against_torch(network, theirs, rng.standard_normal((2, 64, 64, 3)).astype(np.float32), rng, torch)


def test_outputs_and_gradients_of_torchvisions(rng, torch):
    """With normalisation, in evaluation and in training, heads and all."""
    network = twins.spread(twins.network("googlenet_bn", 64, divisor=8), rng)
    theirs = twins.to_torch(network, twins.torchvision_googlenet(torch, 8, 10, channels_last=True), torch)
    twins.check_against_torch(network, theirs, rng.standard_normal((3, 64, 64, 3)).astype(np.float32), rng, torch)


def test_parameters_of_torchvisions():
    """Its documentation counts 6,624,904 without the heads."""
    counts = [
        sum(p.size for p in models.googlenet_bn(initialize=None, auxiliary=on).parameters()) for on in (False, True)
    ]
    heads = [c * 128 + 2 * 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for c in (512, 528)]
    assert counts == [6_624_904, 6_624_904 + sum(heads)]


def test_without_heads_the_logits_are_all_there_is(rng):
    network = models.googlenet_bn(5, 28, 1, auxiliary=False)
    x = minicnn.tensor(rng.standard_normal((2, 28, 28, 1)).astype(np.float32))
    assert network(x).shape == network.eval()(x).shape == (2, 5)
    assert network.output_layers() == [network.fc]


@pytest.mark.parametrize("form", ["full", "small"])
def test_what_differs_from_the_paper(form):
    paper, other = (
        find(10, 64 if form == "full" else 28, initialize=None) for find in (models.googlenet, models.googlenet_bn)
    )
    assert (paper.form, other.form) == (form, form)
    kinds = [[type(layer).__name__ for layer in network.layers(nn.Module)] for network in (paper, other)]
    assert kinds[0].count("LocalResponseNorm") == 2 and kinds[1].count("LocalResponseNorm") == 0
    assert kinds[0].count("Conv2d") == kinds[1].count("Conv2d") == kinds[1].count("BatchNorm2d") == 59
    assert kinds[0].count("MaxPool2d") == kinds[1].count("MaxPool2d") == (13 if form == "full" else 12)
    assert all(conv.bias is None for conv in other.layers(nn.Conv2d))
    assert [branch.kernel_size for branch in (paper.inception4a.branch3[2], other.inception4a.branch3[1].conv)] == [
        (5, 5),
        (3, 3),
    ]
    assert other.maxpool4.kernel_size == 2 and paper.pool4.kernel_size == 3
    assert {norm.eps for norm in other.layers(nn.BatchNorm2d)} == {0.001}
    assert [layer.p for layer in other.layers(nn.Dropout)] == [0.2, 0.7, 0.7]


@pytest.mark.parametrize(("name", "lr"), [("googlenet", 0.006), ("googlenet_bn", 0.006)])
def test_one_batch_is_learned_by_heart(name, lr):
    """With the auxiliary losses, which end at zero too."""
    network = twins.network(name, 28, divisor=1, num_classes=4, in_channels=1)
    losses = twins.learn_by_heart(network, lr=lr, steps=50, images=2)
    assert losses[0] > 1.6 * np.log(4) and losses[-1] < 0.05
