"""AlexNet, in the three variants that go by the name.

alexnet            the network of 2012: its two towers, each on a GPU then, are groups=2 in conv2, conv4 and conv5; the
                   windows of the normalisation reach over the border between them, as two GPUs could not, unless
                   norm_groups=2. minicnn.models.TwoTowers computes the towers apart
alexnet_one_tower  the same without groups
alexnet_owt        the one that torchvision calls alexnet: fewer filters, no normalisation, adaptive average pooling,
                   dropout before the fully connected layers

From 64 pixels on a network has its published form. The 2012 pair pads images by 2 and those of 227 pixels not at all, so that
224 and 227 both give maps of 55, 27, 13 and 6. From 28 to 63 pixels it has a small form that a CPU trains in minutes: conv1
has 5x5 windows at stride 1, and all layers are half as wide (hidden layers 512); overlapping pooling, normalisation, groups
and dropout stay. `network.form` and its repr say which one it is.

Sources: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012;
Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.models.network import (
    SMALLEST_FULL_IMAGE,
    AveragePoolTo,
    Conv,
    Form,
    LocalResponseNorm,
    MaxPool,
    Network,
    checked,
    constructor,
    he,
    narrow,
    with_hidden_layers,
)
from minicnn.nn import init

LRN = LocalResponseNorm()
POOL = MaxPool(3, stride=2)

TWO_TOWERS = (
    Conv(96, 11, stride=4, padding=2),
    LRN,
    POOL,
    Conv(256, 5, groups=2),
    LRN,
    POOL,
    Conv(384),
    Conv(384, groups=2),
    Conv(256, groups=2),
    POOL,
)
ONE_WEIRD_TRICK = (
    Conv(64, 11, stride=4, padding=2),
    POOL,
    Conv(192, 5),
    POOL,
    Conv(384),
    Conv(256),
    Conv(256),
    POOL,
)


def _one_tower(rows):
    return tuple(row._replace(groups=1) if isinstance(row, Conv) else row for row in rows)


def _small(rows):
    conv1, *rest = narrow(rows, 2)
    return Conv(conv1.channels, 5), *rest


FULL = {
    "alexnet": Form("full", TWO_TOWERS, hidden=4096),
    "alexnet_one_tower": Form("full", _one_tower(TWO_TOWERS), hidden=4096),
    "alexnet_owt": Form("full", (*ONE_WEIRD_TRICK, AveragePoolTo(6)), hidden=4096, dropout="before"),
}
SMALL = {
    "alexnet": Form("small", _small(TWO_TOWERS), hidden=512),
    "alexnet_one_tower": Form("small", _small(_one_tower(TWO_TOWERS)), hidden=512),
    "alexnet_owt": Form("small", (*_small(ONE_WEIRD_TRICK), AveragePoolTo(2)), hidden=512, dropout="before"),
}


def form_of(name: str, image_size: int) -> Form:
    """The rows of the table that images of this size are for."""
    if image_size < SMALLEST_FULL_IMAGE:
        return SMALL[name]
    form = FULL[name]
    if image_size == 227 and name != "alexnet_owt":
        conv1, *rest = form.features
        return form._replace(features=(conv1._replace(padding=0), *rest))
    return form


def with_norm_groups(form: Form, groups: int) -> Form:
    """The form with normalisation in so many groups of channels."""
    return form._replace(
        features=tuple(
            row._replace(groups=groups) if isinstance(row, LocalResponseNorm) else row for row in form.features
        )
    )


def make(name: str, options: dict) -> Network:
    form = form_of(name, options["image_size"])
    if "norm_groups" in options:
        form = with_norm_groups(form, checked(name, options, "norm_groups", (1, 2)))
    return with_hidden_layers(name, form, options)


def paper(network: Network) -> None:
    """Weights ~ N(0, 0.01^2); bias 1 in conv2, conv4, conv5 and the hidden fully connected layers, 0 elsewhere (section 5)."""
    convs, linears = network.layers(nn.Conv2d), network.layers(nn.Linear)
    for layer in convs + linears:
        init.normal_(layer.weight, std=0.01)
    for layer in (convs[1], convs[3], convs[4], *linears[:-1]):
        init.constant_(layer.bias, 1.0)


def _constructor(name: str, variant: str, explained: str = "", **defaults):
    doc = f"""{variant}

    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 (or 227) as published, any size from 64 on, and from 28 to 63 the
                small form that the module describes
    initialize  "he": He's normal weights and zero biases, so that the signal keeps its size through the layers whatever
                their width; None: zeros, for weights that are loaded or only counted; "paper": N(0, 0.01^2) and some
                biases of 1, which at other widths and image sizes than the
                paper's can sit at ln(num_classes) for long
    dropout     probability of dropping a hidden unit of the two fully connected layers
{explained}
    Raises ValueError that says which argument does not fit.
    """
    return constructor(name, make, {"he": he, "paper": paper}, doc, dropout=0.5, **defaults)


alexnet = _constructor(
    "alexnet",
    "AlexNet of 2012: two towers, local response normalisation, dropout after fc6 and fc7.",
    """\
    norm_groups 1: windows of the normalisation reach from one tower into the other, or 2: they do not
""",
    norm_groups=1,
)
alexnet_one_tower = _constructor("alexnet_one_tower", "AlexNet of 2012 as one tower: groups=1 everywhere.")
alexnet_owt = _constructor(
    "alexnet_owt", 'AlexNet of "One weird trick", torchvision\'s: no normalisation, dropout first.'
)
