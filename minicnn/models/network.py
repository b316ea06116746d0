"""What the families share: rows of a configuration become layers, and a table of forms a public constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minicnn import nn
from minicnn.nn import init
from minicnn.shapes import window_count

SMALLEST_IMAGE = 28  # pixels; the small form takes images from here on
SMALLEST_FULL_IMAGE = 64  # the form of the paper from here on: its strides and pools leave nothing of a smaller one


class Conv(NamedTuple):
    """Convolution and ReLU; padding None keeps the extent of the image where the stride is 1."""

    channels: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1

    def build(self, extent: int, channels: int):
        padding = (self.kernel_size - 1) // 2 if self.padding is None else self.padding
        conv = nn.Conv2d(channels, self.channels, self.kernel_size, self.stride, padding, groups=self.groups)
        extent = window_count("conv2d", "height", extent, self.kernel_size, self.stride, padding)
        return [conv, nn.ReLU()], extent, self.channels


class MaxPool(NamedTuple):
    """Maximum over windows; they overlap where stride < kernel_size."""

    kernel_size: int
    stride: int

    def build(self, extent: int, channels: int):
        extent = window_count("max_pool2d", "height", extent, self.kernel_size, self.stride, padding=0)
        return [nn.MaxPool2d(self.kernel_size, self.stride)], extent, channels


class AveragePoolTo(NamedTuple):
    """Adaptive average to a grid of extent x extent, whatever the size of the image."""

    extent: int

    def build(self, _extent: int, channels: int):
        return [nn.AdaptiveAvgPool2d(self.extent)], self.extent, channels


class LocalResponseNorm(NamedTuple):
    """Normalisation over neighbouring channels, with the constants and the formula of Krizhevsky et al. 2012, section 3.3.

    The paper's alpha multiplies the sum of the squares, Caffe's and PyTorch's (dialect "mean") multiplies their mean: with
    the same alpha their networks normalise a fifth as much.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def build(self, extent: int, channels: int):
        return [nn.LocalResponseNorm(*self, dialect="sum")], extent, channels


Row = Conv | MaxPool | AveragePoolTo | LocalResponseNorm


class Form(NamedTuple):
    """One form of a network.

    name      "full", as published, or "small", for images of less than 64 pixels
    features  rows from the image to the last feature map
    hidden    width of the two hidden fully connected layers
    dropout   which side of a hidden layer its dropout stands: "after" or "before"
    """

    name: str
    features: tuple[Row, ...]
    hidden: int
    dropout: str = "after"


class Network(nn.Module):
    """Images (N, image_size, image_size, in_channels) -> logits (N, num_classes).

    name     of the public constructor; `models.find(network.name)(**network.options)` builds its like
    form     "full" or "small"
    options  the constructor's arguments

    Parameters have torchvision's names (features.0.weight, classifier.6.bias); the first fully connected layer reads the
    last feature map in the order height, width, channel.
    """

    def __init__(self, name: str, form: Form, options: dict):
        super().__init__()
        self.name, self.form, self.options = name, form.name, options
        layers, extent, channels = [], options["image_size"], options["in_channels"]
        for row in form.features:
            added, extent, channels = row.build(extent, channels)
            layers += added
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = _classifier(extent * extent * channels, form, options["num_classes"], options["dropout"])

    def forward(self, x):
        return self.classifier(self.flatten(self.features(x)))

    def layers(self, kind: type[nn.Module]) -> list[nn.Module]:
        """All layers of this class, in order."""
        return [module for _, module in self.named_modules() if isinstance(module, kind)]

    def extra_repr(self) -> str:
        options = ", ".join(f"{option}={value!r}" for option, value in self.options.items())
        return f"{self.name}, {self.form} form, {options}"


def _classifier(inputs: int, form: Form, num_classes: int, dropout: float) -> nn.Sequential:
    layers = []
    for width in (inputs, form.hidden):
        hidden, drop = [nn.Linear(width, form.hidden), nn.ReLU()], [nn.Dropout(dropout)]
        layers += hidden + drop if form.dropout == "after" else drop + hidden
    return nn.Sequential(*layers, nn.Linear(form.hidden, num_classes))


def he(network: Network) -> None:
    """He's normal weights and zero biases. The output layer, which no ReLU follows, starts with a tenth: so the first loss is
    close to ln(num_classes), however much the maxima of the pools have raised the signal before it."""
    *hidden, output = network.layers(nn.Conv2d) + network.layers(nn.Linear)
    for layer in hidden:
        init.he_normal_(layer.weight)
    init.he_normal_(output.weight, gain=0.1)


def constructor(
    name: str, form_for: Callable[[int], Form], initializers: dict[str, Callable[[Network], None]], doc: str
) -> Callable[..., Network]:
    """The public function `name`. form_for: image_size -> Form; initializers: what each `initialize` does to zeros."""
    initializers = initializers | {None: lambda network: None}

    def construct(num_classes=1000, image_size=224, in_channels=3, *, initialize="he", dropout=0.5) -> Network:
        for option, value, least in (
            ("num_classes", num_classes, 1),
            ("image_size", image_size, SMALLEST_IMAGE),
            ("in_channels", in_channels, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: {option} must be an integer of at least {least}, got {value!r}")
        if initialize not in initializers:
            rules = ", ".join(map(str, initializers))
            raise ValueError(f"{name}: initialize must be one of {rules}, got {initialize!r}")
        options = {"num_classes": num_classes, "image_size": image_size, "in_channels": in_channels}
        with init.skipped():
            network = Network(name, form_for(image_size), options | {"initialize": initialize, "dropout": dropout})
        initializers[initialize](network)
        return network

    construct.__name__ = construct.__qualname__ = name
    construct.__module__ = "minicnn.models"
    construct.__doc__ = doc
    return construct
