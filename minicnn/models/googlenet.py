"""GoogLeNet: nine inception modules between a convolutional stem and a global average.

In training two auxiliary heads, behind modules 4a and 4d, add 0.3 times their losses: `network(x)` is then the tuple of three
logits that `network.loss` takes. In evaluation it is the logits alone, and the heads do not run.

From 64 pixels on the network has its published form; the heads' 5x5 windows shrink to maps that are smaller. From 28 to 63
pixels it has a small form that a CPU trains in minutes: a quarter of the filters, conv1 at stride 1 and without the pool
behind it, so that the modules see maps of 14, 7 and 4 pixels for an image of 28. `network.form` and its repr say which one.

googlenet is the paper's network, googlenet_bn torchvision's of the same name, parameter for parameter. It differs in this:
- batch normalisation (eps 0.001) stands between each convolution, which has no bias, and its ReLU, in the heads too;
- a module's third view has windows of 3x3 where the paper has 5x5;
- there is no local response normalisation, and the last pool has windows of 2x2;
- the heads take their means over a grid of 4x4, whatever the size of the map;
- a fifth of the means is dropped before the logits, not two fifths.

Source: Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, table 1 and section 5; torchvision's googlenet.py.
"""

from __future__ import annotations

from typing import NamedTuple

from minicnn import functional, nn
from minicnn.models.network import (
    SMALLEST_FULL_IMAGE,
    Conv,
    LocalResponseNorm,
    MaxPool,
    Network,
    build,
    constructor,
    he,
)
from minicnn.shapes import window_count

AUXILIARY_WEIGHT = 0.3


class Inception(NamedTuple):
    """A row of table 1: filters of the 1x1, the 3x3 and its reduction, the 5x5 and its reduction, the pool's projection."""

    direct: int
    reduce3: int
    out3: int
    reduce5: int
    out5: int
    projected: int

    module = nn.Inception

    def build(self, extent: int, channels: int):
        return [self.module(channels, *self)], extent, self.direct + self.out3 + self.out5 + self.projected

    def narrowed(self, divisor: int) -> Inception:
        return type(self)(*(filters // divisor for filters in self))


class InceptionBatchNorm(Inception):
    """The same row, for the modules of torchvision's network."""

    module = nn.InceptionBatchNorm


class ConvBatchNorm(NamedTuple):
    """Convolution, batch normalisation and ReLU as one block."""

    channels: int
    kernel_size: int
    stride: int = 1

    def build(self, extent: int, channels: int):
        block = nn.ConvBatchNorm2d(channels, *self)
        extent = window_count("conv2d", "height", extent, self.kernel_size, self.stride, (self.kernel_size - 1) // 2)
        return [block], extent, self.channels

    def narrowed(self, divisor: int) -> ConvBatchNorm:
        return self._replace(channels=self.channels // divisor)


LRN = LocalResponseNorm()
POOL = MaxPool(3, stride=2, ceil_mode=True)

PAPER = {
    "conv1": Conv(64, 7, stride=2),
    "pool1": POOL,
    "norm1": LRN,
    "conv2_reduce": Conv(64, 1),
    "conv2": Conv(192, 3),
    "norm2": LRN,
    "pool2": POOL,
    "inception3a": Inception(64, 96, 128, 16, 32, 32),
    "inception3b": Inception(128, 128, 192, 32, 96, 64),
    "pool3": POOL,
    "inception4a": Inception(192, 96, 208, 16, 48, 64),
    "inception4b": Inception(160, 112, 224, 24, 64, 64),
    "inception4c": Inception(128, 128, 256, 24, 64, 64),
    "inception4d": Inception(112, 144, 288, 32, 64, 64),
    "inception4e": Inception(256, 160, 320, 32, 128, 128),
    "pool4": POOL,
    "inception5a": Inception(256, 160, 320, 32, 128, 128),
    "inception5b": Inception(384, 192, 384, 48, 128, 128),
}


def _normalized(group: str) -> dict[str, InceptionBatchNorm]:
    """The modules of a group, "inception3" for example, as torchvision has them."""
    return {stage: InceptionBatchNorm(*row) for stage, row in PAPER.items() if stage.startswith(group)}


TORCHVISION = {
    "conv1": ConvBatchNorm(64, 7, stride=2),
    "maxpool1": POOL,
    "conv2": ConvBatchNorm(64, 1),
    "conv3": ConvBatchNorm(192, 3),
    "maxpool2": POOL,
    **_normalized("inception3"),
    "maxpool3": POOL,
    **_normalized("inception4"),
    "maxpool4": MaxPool(2, stride=2, ceil_mode=True),
    **_normalized("inception5"),
}


class Form(NamedTuple):
    """One form of the network.

    name        "full", as published, or "small", for images of less than 64 pixels
    stages      rows by their names, from the image to the last module
    heads       the modules that have an auxiliary head, and the heads' names
    head        the widths of a head's two hidden layers
    batch_norm  whether the heads have it
    """

    name: str
    stages: dict
    heads: dict
    head: tuple[int, int] = (128, 1024)
    batch_norm: bool = False

    def narrowed(self, divisor: int) -> Form:
        stages = {
            stage: row.narrowed(divisor) if hasattr(row, "narrowed") else row for stage, row in self.stages.items()
        }
        return self._replace(stages=stages, head=tuple(width // divisor for width in self.head))


FULL = {
    "googlenet": Form("full", PAPER, {"inception4a": "auxiliary1", "inception4d": "auxiliary2"}),
    "googlenet_bn": Form("full", TORCHVISION, {"inception4a": "aux1", "inception4d": "aux2"}, batch_norm=True),
}


def form_of(name: str, image_size: int) -> Form:
    """The form of this network that images of this size are for."""
    full = FULL[name]
    if image_size >= SMALLEST_FULL_IMAGE:
        return full
    small = full.narrowed(4)._replace(name="small")
    small.stages["conv1"] = small.stages["conv1"]._replace(stride=1)
    del small.stages[next(stage for stage, row in small.stages.items() if isinstance(row, MaxPool))]
    return small


class AuxiliaryHead(nn.Module):
    """5x5 means at stride 3, 1x1 convolution, and two fully connected layers: x (N, H, W, C) -> logits (N, num_classes).

    batch_norm: means over a grid of 4x4, and normalisation behind the convolution.
    """

    def __init__(self, extent: int, channels: int, widths: tuple[int, int], num_classes: int, batch_norm: bool):
        super().__init__()
        window = min(5, extent)
        grid = 4 if batch_norm else (extent - window) // 3 + 1
        self.pool = nn.AdaptiveAvgPool2d(grid) if batch_norm else nn.AvgPool2d(window, stride=3)
        self.conv = nn.ConvBatchNorm2d(channels, widths[0], 1) if batch_norm else nn.Conv2d(channels, widths[0], 1)
        if not batch_norm:
            self.relu1 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(grid * grid * widths[0], widths[1])
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(widths[1], num_classes)

    def forward(self, x):
        return nn.in_turn([layer for _, layer in self.children()], x)


class GoogLeNet(Network):
    """The stages of a form, a global average, dropout and the logits; in training its auxiliary heads, if it has them."""

    def __init__(self, name: str, form: Form, options: dict):
        super().__init__(name, form.name, options)
        classes, extent, channels = options["num_classes"], options["image_size"], options["in_channels"]
        self.heads = form.heads if options.get("auxiliary", True) else {}
        heads = {}
        for stage, row in form.stages.items():
            layers, extent, channels = build([row], extent, channels)
            setattr(self, stage, layers[0] if len(layers) == 1 else nn.Sequential(*layers))
            if stage in self.heads:
                heads[self.heads[stage]] = AuxiliaryHead(extent, channels, form.head, classes, form.batch_norm)
        self.stages = tuple(form.stages)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(options["dropout"])
        self.fc = nn.Linear(channels, classes)
        for head, module in heads.items():
            setattr(self, head, module)

    def forward(self, x):
        """Logits (N, num_classes); in training a tuple of them and those of the two heads, if there are any."""
        auxiliary = []
        for stage in self.stages:
            x = getattr(self, stage)(x)
            if self.training and stage in self.heads:
                auxiliary.append(getattr(self, self.heads[stage])(x))
        logits = self.fc(self.dropout(self.flatten(self.average(x))))
        return (logits, *auxiliary) if auxiliary else logits

    def loss(self, outputs, target, label_smoothing: float = 0.0):
        """Cross-entropy of the logits, and 0.3 times that of each auxiliary head's (section 5)."""
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = functional.cross_entropy(logits, target, label_smoothing)
        for others in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(others, target, label_smoothing)
        return loss

    def output_layers(self):
        return [self.fc, *(getattr(self, head).fc2 for head in self.heads.values())]


def make(name: str, options: dict) -> Network:
    return GoogLeNet(name, form_of(name, options["image_size"]), options)


OPTIONS = """\
    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 as published, any size from 64 on, and from 28 to 63 the small form that the
                module describes
    initialize  "he": He's normal weights and zero biases (the paper does not say what it starts from); None: zeros, for
                weights that are loaded or only counted
    dropout     probability of dropping a channel's mean before the logits; 0.7 in the auxiliary heads
"""
RAISES = "Raises ValueError that says which argument does not fit."

googlenet = constructor(
    "googlenet",
    make,
    {"he": he},
    f"""GoogLeNet: nine inception modules, and two auxiliary heads in training.

{OPTIONS}
    {RAISES}
    """,
    dropout=0.4,
)
googlenet_bn = constructor(
    "googlenet_bn",
    make,
    {"he": he},
    f"""GoogLeNet with batch normalisation, as torchvision has it: the module says what else differs from the paper's.

{OPTIONS}\
    auxiliary   False: without the two heads, as weights are that torchvision has read without them

    {RAISES}
    """,
    dropout=0.2,
    auxiliary=True,
)
