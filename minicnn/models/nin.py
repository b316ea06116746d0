"""Network in Network: mlpconv layers, and a global average of one map a class in the place of fully connected layers.

From 64 pixels on the network has the form that its authors published for ImageNet. From 28 to 63 pixels it has the one of
the paper's experiments on images of 32 pixels (CIFAR-10), filter for filter; it is called the small form here as elsewhere.
`network.form` and its repr say which one it is. Pools round up, as the authors' do.

Source: Lin, Chen, Yan, "Network in network", arXiv 1312.4400; the authors' Caffe models.
"""

from __future__ import annotations

from typing import NamedTuple

from minicnn import nn
from minicnn.models.network import (
    SMALLEST_FULL_IMAGE,
    AveragePoolTo,
    MaxPool,
    Network,
    Stack,
    build,
    constructor,
    he,
)
from minicnn.nn import init
from minicnn.shapes import window_count


class MlpConv(NamedTuple):
    """An mlpconv layer; its last entry may be None: a map for each class."""

    channels: tuple[int | None, ...]
    kernel_size: int
    stride: int = 1
    padding: int | None = None

    def build(self, extent: int, channels: int):
        padding = (self.kernel_size - 1) // 2 if self.padding is None else self.padding
        block = nn.MlpConv(channels, self.channels, self.kernel_size, self.stride, padding)
        extent = window_count("conv2d", "height", extent, self.kernel_size, self.stride, padding)
        return [block], extent, self.channels[-1]

    def narrowed(self, divisor: int) -> MlpConv:
        return self._replace(channels=tuple(c if c is None else c // divisor for c in self.channels))

    def for_classes(self, num_classes: int) -> MlpConv:
        return self._replace(channels=tuple(num_classes if c is None else c for c in self.channels))


class Dropout(NamedTuple):
    """Dropout with the probability that the constructor is given."""


POOL = MaxPool(3, stride=2, ceil_mode=True)

FULL = (
    MlpConv((96, 96, 96), 11, stride=4, padding=0),
    POOL,
    MlpConv((256, 256, 256), 5),
    POOL,
    MlpConv((384, 384, 384), 3),
    POOL,
    Dropout(),
    MlpConv((1024, 1024, None), 3),
)
SMALL = (
    MlpConv((192, 160, 96), 5),
    POOL,
    Dropout(),
    MlpConv((192, 192, 192), 5),
    POOL,
    Dropout(),
    MlpConv((192, 192, None), 3),
)


def form_of(image_size: int) -> tuple[str, tuple]:
    """(its name, its rows) that images of this size are for."""
    return ("full", FULL) if image_size >= SMALLEST_FULL_IMAGE else ("small", SMALL)


def of_rows(name: str, form: str, rows: tuple, options: dict) -> Network:
    layers, extent, channels = [], options["image_size"], options["in_channels"]
    for row in (*rows, AveragePoolTo(1)):
        if isinstance(row, Dropout):
            layers.append(nn.Dropout(options["dropout"]))
            continue
        row = row.for_classes(options["num_classes"]) if isinstance(row, MlpConv) else row
        added, extent, channels = build([row], extent, channels)
        layers += added
    return Stack(name, form, options, layers, classifier=[])


def make(name: str, options: dict) -> Network:
    return of_rows(name, *form_of(options["image_size"]), options)


def he_and_open(network: Network) -> None:
    """He's normal weights; the maps of the classes start at 1, so that the ReLU behind them, which is the paper's, lets
    every one of them learn: a map that starts below 0 everywhere stays there."""
    he(network)
    for layer in network.output_layers():
        init.constant_(layer.bias, 1.0)


nin = constructor(
    "nin",
    make,
    {"he": he_and_open},
    """Network in Network: mlpconv layers and global average pooling.

    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 as published, any size from 64 on, and from 28 to 63 the paper's network for
                images of 32
    initialize  "he": He's normal weights and zero biases, 1 for the maps of the classes (the paper does not say what it
                starts from); None: zeros, for weights that are loaded or only counted
    dropout     probability of dropping a unit before an mlpconv layer

    Raises ValueError that says which argument does not fit.
    """,
    dropout=0.5,
)
