"""ResNet, and the plain networks that it was compared with: the same layers without shortcuts.

From 64 pixels on a network has its published form. From 28 to 63 pixels it has a small form that a CPU trains in minutes: a
quarter of the filters, and a stem of one 3x3 convolution at stride 1 without the pool behind it, so that the stages see maps
of 28, 14, 7 and 4 pixels for an image of 28. `network.form` and its repr say which one it is.

Parameters have torchvision's names (conv1, bn1, layer1.0.conv1, ..., fc). As there, and unlike in the paper, the stride of a
bottleneck is on its 3x3 convolution unless stride_on="1x1".

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385, table 1 and section 4.1.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

from minicnn import nn
from minicnn.models.network import SMALLEST_FULL_IMAGE, Network, checked, constructor, he
from minicnn.nn import init

# Table 1: the block, and how many of it make conv2_x, conv3_x, conv4_x and conv5_x.
DEPTHS = {
    18: (nn.BasicBlock, (2, 2, 2, 2)),
    34: (nn.BasicBlock, (3, 4, 6, 3)),
    50: (nn.Bottleneck, (3, 4, 6, 3)),
}
WIDTHS = (64, 128, 256, 512)


class Stem(NamedTuple):
    """The first convolution, and whether a 3x3 maximum at stride 2 follows it."""

    kernel_size: int
    stride: int
    pool: bool


class Form(NamedTuple):
    """One form: its name, its stem, and the filters of its four stages (the stem has those of the first)."""

    name: str
    stem: Stem
    widths: tuple[int, ...]

    def narrowed(self, divisor: int) -> Form:
        return self._replace(widths=tuple(width // divisor for width in self.widths))


FULL = Form("full", Stem(7, stride=2, pool=True), WIDTHS)
SMALL = Form("small", Stem(3, stride=1, pool=False), WIDTHS).narrowed(4)


def form_of(image_size: int) -> Form:
    """The form that images of this size are for."""
    return FULL if image_size >= SMALLEST_FULL_IMAGE else SMALL


class ResNet(Network):
    """A stem, four stages of `blocks` blocks, a global average and the logits."""

    def __init__(self, name: str, form: Form, options: dict, block, blocks: tuple[int, ...]):
        super().__init__(name, form.name, options)
        stem, (width, *_) = form.stem, form.widths
        padding = stem.kernel_size // 2
        self.conv1 = nn.Conv2d(options["in_channels"], width, stem.kernel_size, stem.stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem.pool else nn.Sequential()
        inputs = (width, *(block.expansion * each for each in form.widths))
        strides = 1, 2, 2, 2
        stages = [
            nn.Sequential(block(channels, each, stride), *(block(out, each) for _ in range(count - 1)))
            for (channels, out), each, stride, count in zip(
                itertools.pairwise(inputs), form.widths, strides, blocks, strict=True
            )
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs[-1], options["num_classes"])

    def forward(self, x):
        return nn.in_turn(self.chain(), x)

    def chain(self):
        return [layer for _, layer in self.children()]

    def output_layers(self):
        return [self.fc]


def of_form(name: str, form: Form, options: dict) -> Network:
    """The network `name`, resnet or plain and its depth, in this form."""
    block, blocks = DEPTHS[int(name.removeprefix("resnet").removeprefix("plain"))]
    extra = {option: options[option] for option in ("zero_init", "stride_on") if option in options}
    shortcut = checked(name, options, "shortcut", ("A", "B")) if "shortcut" in options else None
    if "stride_on" in options:
        checked(name, options, "stride_on", ("3x3", "1x1"))
    block_of = functools.partial(block, shortcut=shortcut, **extra)
    block_of.expansion = block.expansion
    return ResNet(name, form, options, block_of, blocks)


def make(name: str, options: dict) -> Network:
    return of_form(name, form_of(options["image_size"]), options)


def paper(network: Network) -> None:
    """He's normal weights in every layer, the last one too, and zero biases (section 3.4)."""
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        init.he_normal_(layer.weight)


EXPLAINED = {
    "shortcut": """\
    shortcut    where a block changes the shape: "A", zeros for the new channels, or "B", a 1x1 projection
""",
    "zero_init": """\
    zero_init   True: the last scale of each block starts as 0, and so each block as relu(shortcut(x))
""",
    "stride_on": """\
    stride_on   the convolution of a bottleneck that has the stride: "3x3", or the first "1x1" as in the paper
""",
}


def _constructor(name: str, what: str, **defaults):
    doc = f"""{what}

    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 as published, any size from 64 on, and from 28 to 63 the small form that the
                module describes
    initialize  "he": He's normal weights, a tenth of that for the logits; None: zeros, for weights that are loaded or only
                counted; "paper": He's for the logits too
{"".join(EXPLAINED[option] for option in defaults)}
    Raises ValueError that says which argument does not fit.
    """
    return constructor(name, make, {"he": he, "paper": paper}, doc, **defaults)


RESIDUAL = {"shortcut": "B", "zero_init": False}
resnet18 = _constructor("resnet18", "ResNet-18: two 3x3 convolutions a block.", **RESIDUAL)
resnet34 = _constructor("resnet34", "ResNet-34: two 3x3 convolutions a block.", **RESIDUAL)
resnet50 = _constructor("resnet50", "ResNet-50: bottlenecks of 1x1, 3x3 and 1x1.", **RESIDUAL, stride_on="3x3")
plain18 = _constructor("plain18", "ResNet-18 without shortcuts.")
plain34 = _constructor("plain34", "ResNet-34 without shortcuts: deeper than plain18, and harder to train.")
