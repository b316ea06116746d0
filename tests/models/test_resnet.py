"""ResNet and the plain networks: the counts of the paper, their layers in PyTorch, and that they learn. R: He et al. 2015."""

import numpy as np
import pytest
import twins

import minicnn
from minicnn import models, nn
from minicnn.summary import summary

PARAMETERS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}
# Multiply-accumulates of convolutions and the last layer; the paper rounds 18 and 34 to 1.8 and 3.6 billion.
MACS = {"resnet18": 1_814_073_344, "resnet34": 3_663_761_408, "resnet50": 4_089_184_256}
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def costs(name):
    """(parameters, multiply-accumulates) from table 1, block by block."""
    bottleneck = name == "resnet50"
    parameters, macs, channels = 7 * 7 * 3 * 64 + 2 * 64, 112**2 * 7 * 7 * 3 * 64, 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), BLOCKS[name], strict=True)):
        extent, out = 56 // 2**stage, 4 * width if bottleneck else width
        for block in range(count):
            before = extent * (2 if block == 0 and stage > 0 else 1)  # maps that enter the block
            if bottleneck:
                convs = [(before, channels * width), (extent, 9 * width * width), (extent, width * out)]
                norms = 2 * (width + width + out)
            else:
                convs = [(extent, 9 * channels * width), (extent, 9 * width * width)]
                norms = 4 * width
            if channels != out:
                convs.append((extent, channels * out))
                norms += 2 * out
            parameters += sum(weights for _, weights in convs) + norms
            macs += sum(size**2 * weights for size, weights in convs)
            channels = out
    return parameters + channels * 1000 + 1000, macs + channels * 1000


@pytest.mark.parametrize("name", PARAMETERS)
def test_R2_parameters_and_multiply_accumulates(name):
    counted = summary(models.find(name)(initialize=None))
    assert counted.parameters == sum(row.parameters for row in counted.rows) == PARAMETERS[name]
    assert counted.macs == MACS[name]
    assert costs(name) == (PARAMETERS[name], MACS[name])


@pytest.mark.parametrize("name", PARAMETERS)
def test_R1_stages(name):
    network = models.find(name)(initialize=None)
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert tuple(map(len, stages)) == BLOCKS[name]
    depth = sum(3 if name == "resnet50" else 2 for stage in stages for _ in stage) + 2
    assert depth == int(name.removeprefix("resnet"))
    rows = {row.path: row for row in summary(network).rows}
    extents = [rows[f"layer{i + 1}.{count - 1}.relu"].out_shape[1] for i, count in enumerate(BLOCKS[name])]
    assert extents == [56, 28, 14, 7]
    projections = [path for path, module in network.named_modules() if path.endswith("downsample")]
    assert projections == [f"layer{i}.0.downsample" for i in ((1, 2, 3, 4) if name == "resnet50" else (2, 3, 4))]


@pytest.mark.parametrize(("name", "residual"), [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_R1_shortcut_a_has_the_parameters_of_the_plain_network(name, residual):
    plain, padded = models.find(name)(initialize=None), models.find(residual)(initialize=None, shortcut="A")
    projections = sum(c * k + 2 * k for c, k in ((64, 128), (128, 256), (256, 512)))
    counts = [sum(p.size for p in network.parameters()) for network in (plain, padded)]
    assert counts == [PARAMETERS[residual] - projections] * 2
    assert not plain.layers(nn.Add) and len(padded.layers(nn.PadShortcut)) == 3
    assert summary(plain).macs == summary(padded).macs


def test_R1_the_papers_stride_costs_less_and_has_the_same_parameters():
    counted = summary(models.resnet50(initialize=None, stride_on="1x1"))
    assert counted.parameters == PARAMETERS["resnet50"]
    # Three first 1x1 convolutions see maps of half the size, and so do the three 3x3 ones: they do already.
    saved = sum((1 - 1 / 4) * (56 // 2**i) ** 2 * 256 * 2**i * 128 * 2**i for i in range(3))
    assert MACS["resnet50"] - counted.macs == saved


@pytest.mark.parametrize(("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427)])
def test_R1_receptive_fields(name, field):
    rows = [row for row in summary(models.find(name)(initialize=None)).rows if len(row.out_shape) == 4]
    assert rows[-2].receptive_field == field
    assert max(row.receptive_field for row in rows[:-1]) == field


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_R1_zero_init_passes_the_stem_through_every_stage(shortcut, rng):
    """With F = 0 a block is relu(shortcut(x)): behind option A every eighth pixel of the stem, and zeros."""
    network = models.resnet18(10, 28, 1, shortcut=shortcut, zero_init=True)
    assert all(not block.bn2.weight.numpy().any() for block in network.layers(nn.BasicBlock))
    assert all(block.bn2.weight.numpy().all() for block in models.resnet18(10, 28, 1).layers(nn.BasicBlock))
    if shortcut == "A":
        x = minicnn.tensor(rng.standard_normal((2, 28, 28, 1)).astype(np.float32))
        stem = network.relu(network.bn1(network.conv1(x)))
        y = network.layer4(network.layer3(network.layer2(network.layer1(stem)))).numpy()
        np.testing.assert_array_equal(y[..., :16], stem.numpy()[:, ::8, ::8])
        assert not y[..., 16:].any()


def test_the_logits_start_close_to_chance():
    for rule, bound in (("he", 0.35), ("paper", np.inf)):
        network = models.resnet18(10, 28, 1, initialize=rule)
        weight = network.fc.weight.numpy()
        assert weight.std() == pytest.approx((0.1 if rule == "he" else 2**0.5) / 128**0.5, rel=0.1)
        assert twins.learn_by_heart(network, lr=0.0, steps=1)[0] < np.log(10) + bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "C"}, r"^resnet50: shortcut must be one of 'A', 'B', got 'C'$"),
        ({"stride_on": "5x5"}, r"^resnet50: stride_on must be one of '3x3', '1x1', got '5x5'$"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        models.resnet50(initialize=None, **options)


def torch_resnet(torch, widths, blocks, bottleneck, shortcut, stride_on="3x3"):
    """torchvision's ResNet, layer by layer; option A: every second pixel, and zeros behind the channels."""
    t = torch.nn

    class Block(t.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.out = 4 * width if bottleneck else width
            s1, s3 = (stride, 1) if stride_on == "1x1" else (1, stride)
            if bottleneck:
                self.convs = t.Sequential(
                    *(t.Conv2d(inputs, width, 1, s1, bias=False), t.BatchNorm2d(width), t.ReLU()),
                    *(t.Conv2d(width, width, 3, s3, 1, bias=False), t.BatchNorm2d(width), t.ReLU()),
                    *(t.Conv2d(width, self.out, 1, bias=False), t.BatchNorm2d(self.out)),
                )
            else:
                self.convs = t.Sequential(
                    *(t.Conv2d(inputs, width, 3, stride, 1, bias=False), t.BatchNorm2d(width), t.ReLU()),
                    *(t.Conv2d(width, width, 3, 1, 1, bias=False), t.BatchNorm2d(width)),
                )
            self.changed, self.stride, self.inputs = stride != 1 or inputs != self.out, stride, inputs
            if self.changed and shortcut == "B":
                self.project = t.Sequential(t.Conv2d(inputs, self.out, 1, stride, bias=False), t.BatchNorm2d(self.out))

        def forward(self, x):
            y = self.convs(x)
            if shortcut is None:
                return torch.relu(y)
            if self.changed and shortcut == "A":
                x = t.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.out - self.inputs))
            elif self.changed:
                x = self.project(x)
            return torch.relu(y + x)

    layers = [t.Conv2d(3, widths[0], 7, 2, 3, bias=False), t.BatchNorm2d(widths[0]), t.ReLU(), t.MaxPool2d(3, 2, 1)]
    channels = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            layers.append(Block(channels, width, 2 if block == 0 and stage else 1))
            channels = layers[-1].out
    return t.Sequential(*layers, t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(channels, 10))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"shortcut": "B"}),
        ("resnet18", {"shortcut": "A"}),
        ("plain18", {}),
        ("resnet50", {"shortcut": "B", "stride_on": "3x3"}),
        ("resnet50", {"shortcut": "A", "stride_on": "1x1"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_outputs_and_gradients_are_those_of_torch(name, options, rng, torch):
    """Evaluation with running statistics that are not 0 and 1, training with those of the batch."""
    network = twins.spread(twins.network(name, 64, divisor=8, **options), rng)
    blocks = BLOCKS[name.replace("plain", "resnet")]
    arguments = (8, 16, 32, 64), blocks, name == "resnet50", options.get("shortcut"), options.get("stride_on", "3x3")
    theirs = twins.to_torch(network, torch_resnet(torch, *arguments), torch)
    twins.check_against_torch(network, theirs, rng.standard_normal((3, 64, 64, 3)).astype(np.float32), rng, torch)


@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet50"])
def test_one_batch_is_learned_by_heart(name):
    network = twins.network(name, 28, divisor=2, num_classes=4, in_channels=1)
    losses = twins.learn_by_heart(network, lr=0.02, steps=40)
    assert losses[0] > 1 and losses[-1] < 0.02
