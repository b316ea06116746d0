"""Small networks that differ in one thing. Each function gives a constructor as train() takes it, called with the data's class
count, image size and channels; a CPU sees the bundled images through any of them in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable

from minicnn import nn

Constructor = Callable[..., nn.Module]

WIDTHS = (16, 32, 64)  # filters of the three stages
LOGITS_GAIN = 0.1  # as in minicnn.models: the first loss is then close to ln(num_classes)
GAINS = {nn.ReLU: math.sqrt(2.0), nn.Tanh: 1.0}  # that keep a signal's variance from layer to layer


def after_alexnet(activation=nn.ReLU, norm: bool = True, overlap: bool = True, dropout: float = 0.5) -> Constructor:
    """Three convolutions (5x5, 5x5, 3x3) with a pool behind each, and two fully connected layers: 4 M multiplications an
    image of 28 pixels."""

    def small(num_classes: int, image_size: int, in_channels: int) -> nn.Module:
        layers, extent = [], image_size
        for channels, filters, size in zip((in_channels, *WIDTHS), WIDTHS, (5, 5, 3), strict=False):
            layers += [nn.Conv2d(channels, filters, size, padding=size // 2), activation()]
            layers += [nn.LocalResponseNorm(5, k=2.0)] if norm and size == 5 else []
            layers += [nn.MaxPool2d(3, stride=2, padding=1) if overlap else nn.MaxPool2d(2, ceil_mode=True)]
            extent = -(-extent // 2)
        layers += [nn.Flatten(), nn.Linear(extent * extent * WIDTHS[-1], 128), activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
        return initialized(nn.Sequential(*layers, nn.Linear(128, num_classes)), GAINS[activation])

    return small


def after_vgg(*sizes: int, gain: float = GAINS[nn.ReLU], std: float | None = None) -> Constructor:
    """Three stages, in each a convolution for each of these window sizes; the first one of a stage has stride 2, in place of
    the pool. A global average ends it. gain, std: as for `initialized`."""

    def stacked(num_classes: int, image_size: int, in_channels: int) -> nn.Module:
        layers = []
        for channels, width in zip((in_channels, *WIDTHS), WIDTHS, strict=False):
            for place, size in enumerate(sizes):
                inputs, stride = (channels, 2) if place == 0 else (width, 1)
                layers += [nn.Conv2d(inputs, width, size, stride, padding=size // 2), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes)]
        return initialized(nn.Sequential(*layers), gain, std)

    return stacked


def after_resnet(blocks: int, shortcut: str | None) -> Constructor:
    """The networks of He et al. 2015, section 4.2, with 6 * blocks + 2 layers: three stages of so many blocks of two 3x3
    convolutions, half as wide as the paper's; the stem has stride 2. shortcut: "A", or None for the plain network."""
    widths = [width // 2 for width in WIDTHS]

    def deep(num_classes: int, image_size: int, in_channels: int) -> nn.Module:
        stem = nn.Conv2d(in_channels, widths[0], 3, stride=2, padding=1, bias=False)
        layers = [stem, nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for channels, width in zip((widths[0], *widths), widths, strict=False):
            layers += [nn.BasicBlock(channels, width, 1 if channels == width else 2, shortcut)]
            layers += [nn.BasicBlock(width, width, 1, shortcut) for _ in range(blocks - 1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes))

    return deep


def initialized(network: nn.Sequential, gain: float, std: float | None = None) -> nn.Sequential:
    """Weights ~ N(0, gain^2 / fan_in), a tenth of that deviation for the logits; where std is given ~ N(0, std^2) in all."""
    *_, logits = network
    for layer in network:
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        if std is not None:
            nn.init.normal_(layer.weight, std)
        else:
            nn.init.he_normal_(layer.weight, LOGITS_GAIN if layer is logits else gain)
    return network
