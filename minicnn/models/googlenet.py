"""GoogLeNet: nine inception modules between a convolutional stem and a global average.

In training two auxiliary heads, behind modules 4a and 4d, add 0.3 times their losses: `network(x)` is then the tuple of three
logits that `network.loss` takes. In evaluation it is the logits alone, and the heads do not run.

From 64 pixels on the network has its published form; the heads' 5x5 windows shrink to maps that are smaller. From 28 to 63
pixels it has a small form that a CPU trains in minutes: a quarter of the filters, conv1 at stride 1 and without the pool
behind it, so that the modules see maps of 14, 7 and 4 pixels for an image of 28. `network.form` and its repr say which one.

Source: Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, table 1 and section 5. torchvision's network of this
name has batch normalisation, and 3x3 windows where 5x5 are meant.
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

AUXILIARY_WEIGHT = 0.3


class Inception(NamedTuple):
    """A row of table 1: filters of the 1x1, the 3x3 and its reduction, the 5x5 and its reduction, the pool's projection."""

    direct: int
    reduce3: int
    out3: int
    reduce5: int
    out5: int
    projected: int

    def build(self, extent: int, channels: int):
        return [nn.Inception(channels, *self)], extent, self.direct + self.out3 + self.out5 + self.projected

    def narrowed(self, divisor: int) -> Inception:
        return Inception(*(filters // divisor for filters in self))


LRN = LocalResponseNorm()
POOL = MaxPool(3, stride=2, ceil_mode=True)

STAGES = {
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
AUXILIARY = {"inception4a": "auxiliary1", "inception4d": "auxiliary2"}


class Form(NamedTuple):
    """One form of the network: its name, its stages, and the widths of an auxiliary head's two hidden layers."""

    name: str
    stages: dict
    head: tuple[int, int]

    def narrowed(self, divisor: int) -> Form:
        stages = {
            stage: row.narrowed(divisor) if hasattr(row, "narrowed") else row for stage, row in self.stages.items()
        }
        return Form(self.name, stages, tuple(width // divisor for width in self.head))


FULL = Form("full", STAGES, head=(128, 1024))


def form_of(image_size: int) -> Form:
    """The stages that images of this size are for."""
    if image_size >= SMALLEST_FULL_IMAGE:
        return FULL
    small = FULL.narrowed(4)._replace(name="small")
    del small.stages["pool1"]
    small.stages["conv1"] = small.stages["conv1"]._replace(stride=1)
    return small


class AuxiliaryHead(nn.Module):
    """5x5 means at stride 3, 1x1 convolution, and two fully connected layers: x (N, H, W, C) -> logits (N, num_classes)."""

    def __init__(self, extent: int, channels: int, widths: tuple[int, int], num_classes: int):
        super().__init__()
        window = min(5, extent)
        extent = (extent - window) // 3 + 1
        self.pool = nn.AvgPool2d(window, stride=3)
        self.conv = nn.Conv2d(channels, widths[0], 1)
        self.relu1 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(extent * extent * widths[0], widths[1])
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(widths[1], num_classes)

    def forward(self, x):
        x = self.flatten(self.relu1(self.conv(self.pool(x))))
        return self.fc2(self.dropout(self.relu2(self.fc1(x))))


class GoogLeNet(Network):
    """The stages of a form, a global average, dropout and the logits; two auxiliary heads in training."""

    def __init__(self, name: str, form: Form, options: dict):
        super().__init__(name, form.name, options)
        classes, extent, channels = options["num_classes"], options["image_size"], options["in_channels"]
        heads = {}
        for stage, row in form.stages.items():
            layers, extent, channels = build([row], extent, channels)
            setattr(self, stage, layers[0] if len(layers) == 1 else nn.Sequential(*layers))
            if stage in AUXILIARY:
                heads[AUXILIARY[stage]] = AuxiliaryHead(extent, channels, form.head, classes)
        self.stages = tuple(form.stages)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(options["dropout"])
        self.fc = nn.Linear(channels, classes)
        for head, module in heads.items():
            setattr(self, head, module)

    def forward(self, x):
        """Logits (N, num_classes); in training a tuple of them and those of the two heads."""
        auxiliary = []
        for stage in self.stages:
            x = getattr(self, stage)(x)
            if self.training and stage in AUXILIARY:
                auxiliary.append(getattr(self, AUXILIARY[stage])(x))
        logits = self.fc(self.dropout(self.flatten(self.average(x))))
        return (logits, *auxiliary) if self.training else logits

    def loss(self, outputs, target, label_smoothing: float = 0.0):
        """Cross-entropy of the logits, and 0.3 times that of each auxiliary head's (section 5)."""
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = functional.cross_entropy(logits, target, label_smoothing)
        for others in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(others, target, label_smoothing)
        return loss

    def output_layers(self):
        return [self.fc, *(getattr(self, head).fc2 for head in AUXILIARY.values())]


def make(name: str, options: dict) -> Network:
    return GoogLeNet(name, form_of(options["image_size"]), options)


googlenet = constructor(
    "googlenet",
    make,
    {"he": he},
    """GoogLeNet: nine inception modules, and two auxiliary heads in training.

    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 as published, any size from 64 on, and from 28 to 63 the small form that the
                module describes
    initialize  "he": He's normal weights and zero biases (the paper does not say what it starts from); None: zeros, for
                weights that are loaded or only counted
    dropout     probability of dropping a channel's mean before the logits; 0.7 in the auxiliary heads

    Raises ValueError that says which argument does not fit.
    """,
    dropout=0.4,
)
