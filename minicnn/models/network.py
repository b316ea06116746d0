"""What the families share: rows of a configuration become layers, and a table of forms a public constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import NamedTuple

from minicnn import nn
from minicnn.nn import init
from minicnn.shapes import window_count

SMALLEST_IMAGE = 28  # pixels; the small form takes images from here on
SMALLEST_FULL_IMAGE = 64  # the form of the paper from here on: its strides and pools leave nothing of a smaller one


class Conv(NamedTuple):
    """Convolution and ReLU; padding None keeps the extent of the image where the stride is 1. batch_norm: between the two."""

    channels: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    batch_norm: bool = False

    def build(self, extent: int, channels: int):
        padding = (self.kernel_size - 1) // 2 if self.padding is None else self.padding
        conv = nn.Conv2d(channels, self.channels, self.kernel_size, self.stride, padding, groups=self.groups)
        extent = window_count("conv2d", "height", extent, self.kernel_size, self.stride, padding)
        norm = [nn.BatchNorm2d(self.channels)] if self.batch_norm else []
        return [conv, *norm, nn.ReLU()], extent, self.channels

    def narrowed(self, divisor: int) -> Conv:
        return self._replace(channels=self.channels // divisor)


class MaxPool(NamedTuple):
    """Maximum over windows; they overlap where stride < kernel_size. ceil_mode: the last window may reach over the edge."""

    kernel_size: int
    stride: int
    ceil_mode: bool = False

    def build(self, extent: int, channels: int):
        window = self.kernel_size, self.stride
        extent = window_count("max_pool2d", "height", extent, *window, padding=0, ceil_mode=self.ceil_mode)
        return [nn.MaxPool2d(*window, ceil_mode=self.ceil_mode)], extent, channels


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
    groups: int = 1

    def build(self, extent: int, channels: int):
        *constants, groups = self
        return [nn.LocalResponseNorm(*constants, dialect="sum", groups=groups)], extent, channels


Row = Conv | MaxPool | AveragePoolTo | LocalResponseNorm


def build(rows: Iterable, extent: int, channels: int) -> tuple[list[nn.Module], int, int]:
    """(layers, extent, channels) behind the last row, for maps of `extent` pixels a side and so many channels."""
    layers = []
    for row in rows:
        added, extent, channels = row.build(extent, channels)
        layers += added
    return layers, extent, channels


def narrow(rows: Iterable, divisor: int) -> tuple:
    """The rows with a `divisor`-th of their filters."""
    return tuple(row.narrowed(divisor) if hasattr(row, "narrowed") else row for row in rows)


class Network(nn.Module):
    """Images (N, image_size, image_size, in_channels) -> logits (N, num_classes).

    name     of the public constructor; `models.find(network.name)(**network.options)` builds its like
    form     "full", as published, or "small", for images that the published one is too large for
    options  the constructor's arguments

    A network that needs another loss than cross-entropy has a method `loss(outputs, target, label_smoothing=0.0)`. In
    training its outputs may be a tuple: logits first, and whatever else its loss wants.
    """

    def __init__(self, name: str, form: str, options: dict):
        super().__init__()
        self.name, self.form, self.options = name, form, options

    def layers(self, kind: type[nn.Module]) -> list[nn.Module]:
        """All layers of this class, in order."""
        return [module for _, module in self.named_modules() if isinstance(module, kind)]

    def chain(self) -> list[nn.Module]:
        """The layers one after another, where that is all that forward does. ValueError where it is not."""
        raise ValueError(f"{self.name} is no chain of layers: it branches")

    def output_layers(self) -> list[nn.Module]:
        """The layers with weights whose outputs are logits."""
        return (self.layers(nn.Conv2d) + self.layers(nn.Linear))[-1:]

    def extra_repr(self) -> str:
        options = ", ".join(f"{option}={value!r}" for option, value in self.options.items())
        return f"{self.name}, {self.form} form, {options}"


class Stack(Network):
    """Features, and a classifier that reads the last feature map in the order height, width, channel.

    Parameters have torchvision's names (features.0.weight, classifier.6.bias).
    """

    def __init__(self, name: str, form: str, options: dict, features: list[nn.Module], classifier: list[nn.Module]):
        super().__init__(name, form, options)
        self.features = nn.Sequential(*features)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(self.flatten(self.features(x)))

    def chain(self):
        return [*self.features, self.flatten, *self.classifier]


class Form(NamedTuple):
    """One form of AlexNet or VGG.

    name      "full", as published, or "small", for images of less than 64 pixels
    features  rows from the image to the last feature map
    hidden    width of the two hidden fully connected layers
    dropout   which side of a hidden layer its dropout stands: "after" or "before"
    """

    name: str
    features: tuple[Row, ...]
    hidden: int
    dropout: str = "after"


def with_hidden_layers(name: str, form: Form, options: dict) -> Stack:
    """The rows of the form, and behind them its two hidden fully connected layers and the logits."""
    features, extent, channels = build(form.features, options["image_size"], options["in_channels"])
    classifier = []
    for width in (extent * extent * channels, form.hidden):
        hidden, drop = [nn.Linear(width, form.hidden), nn.ReLU()], [nn.Dropout(options["dropout"])]
        classifier += hidden + drop if form.dropout == "after" else drop + hidden
    return Stack(name, form.name, options, features, [*classifier, nn.Linear(form.hidden, options["num_classes"])])


def he(network: Network) -> None:
    """He's normal weights and zero biases. What computes logits, which no ReLU follows, starts with a tenth: so the first
    loss is close to ln(num_classes), however much the maxima of the pools have raised the signal before it."""
    outputs = network.output_layers()
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        if layer not in outputs:
            init.he_normal_(layer.weight)
    for layer in outputs:
        init.he_normal_(layer.weight, gain=0.1)


def constructor(
    name: str,
    make: Callable[[str, dict], Network],
    initializers: dict[str, Callable[[Network], None]],
    doc: str,
    **defaults,
) -> Callable[..., Network]:
    """The public function `name`. make: (name, options) -> Network of zeros; initializers: what each `initialize` does to
    it; defaults: of the options, beside or instead of those that every network has."""
    initializers = initializers | {None: lambda network: None}
    defaults = {"num_classes": 1000, "image_size": 224, "in_channels": 3, "initialize": "he"} | defaults
    integers = {"num_classes": 1, "image_size": SMALLEST_IMAGE, "in_channels": 1}
    signature = inspect.Signature(
        inspect.Parameter(
            option,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if option in integers else inspect.Parameter.KEYWORD_ONLY,
            default=default,
        )
        for option, default in defaults.items()
    )

    def construct(*arguments, **keywords) -> Network:
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        options = bound.arguments
        for option, least in integers.items():
            if not isinstance(options[option], int) or options[option] < least:
                raise ValueError(f"{name}: {option} must be an integer of at least {least}, got {options[option]!r}")
        if options["initialize"] not in initializers:
            rules = ", ".join(map(str, initializers))
            raise ValueError(f"{name}: initialize must be one of {rules}, got {options['initialize']!r}")
        with init.skipped():
            network = make(name, dict(options))
        initializers[options["initialize"]](network)
        return network

    construct.__name__ = construct.__qualname__ = name
    construct.__module__ = "minicnn.models"
    construct.__signature__ = signature
    construct.__doc__ = doc
    return construct


def checked(name: str, options: dict, option: str, choices: tuple):
    """options[option]; ValueError where it is none of the choices."""
    if options[option] not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: {option} must be one of {listed}, got {options[option]!r}")
    return options[option]
