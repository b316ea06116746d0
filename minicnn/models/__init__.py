"""The networks, each a function: `alexnet(num_classes=10, image_size=28, in_channels=1)`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from minicnn.models.alexnet import alexnet, alexnet_one_tower, alexnet_owt
from minicnn.models.googlenet import googlenet, googlenet_bn
from minicnn.models.lenet import lenet, lenet5
from minicnn.models.network import Network
from minicnn.models.nin import nin
from minicnn.models.resnet import plain18, plain34, resnet18, resnet34, resnet50
from minicnn.models.two_towers import TwoTowers
from minicnn.models.vgg import (
    vgg11,
    vgg11_bn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg19,
    vgg19_bn,
    vgg_a,
    vgg_a_lrn,
    vgg_b,
    vgg_c,
    vgg_d,
    vgg_e,
)

CONSTRUCTORS: dict[str, Callable[..., Network]] = {
    constructor.__name__: constructor
    for constructor in (
        *(lenet5, lenet),
        *(alexnet, alexnet_one_tower, alexnet_owt),
        nin,
        *(vgg_a, vgg_a_lrn, vgg_b, vgg_c, vgg_d, vgg_e, vgg11, vgg13, vgg16, vgg19),
        *(vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn),
        *(googlenet, googlenet_bn),
        *(resnet18, resnet34, resnet50, plain18, plain34),
    )
}


def find(name: str) -> Callable[..., Network]:
    """The constructor of that name; ValueError with the nearest names where there is none."""
    if name in CONSTRUCTORS:
        return CONSTRUCTORS[name]
    nearest = difflib.get_close_matches(name, CONSTRUCTORS) or CONSTRUCTORS
    raise ValueError(f"unknown model {name!r}; did you mean {', '.join(nearest)}?")


__all__ = [
    "CONSTRUCTORS",
    "Network",
    "TwoTowers",
    "alexnet",
    "alexnet_one_tower",
    "alexnet_owt",
    "find",
    "googlenet",
    "googlenet_bn",
    "lenet",
    "lenet5",
    "nin",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vgg_a",
    "vgg_a_lrn",
    "vgg_b",
    "vgg_c",
    "vgg_d",
    "vgg_e",
]
