"""VGG: stacks of 3x3 convolutions between 2x2 pools, in the six configurations of the paper's table 1.

vgg_a, vgg_b, vgg_d and vgg_e are also called vgg11, vgg13, vgg16 and vgg19, after their layers with weights. vgg_a_lrn is A
with local response normalisation after conv1; vgg_c has 1x1 convolutions where D has the third 3x3 one of a block.
vgg11_bn ... vgg19_bn, torchvision's, have batch normalisation between each convolution and its ReLU.

From 64 pixels on a network has its published form. From 28 to 63 pixels it has a small form that a CPU trains in minutes: a
quarter of the filters, hidden layers of 512, and no pools after blocks 4 and 5, which such an image does not last for.
`network.form` and its repr say which one it is.

Source: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv 1409.1556.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.models.network import (
    SMALLEST_FULL_IMAGE,
    Conv,
    Form,
    LocalResponseNorm,
    MaxPool,
    Network,
    constructor,
    he,
    narrow,
    with_hidden_layers,
)
from minicnn.nn import init

LRN = LocalResponseNorm()
POOL = MaxPool(2, stride=2)

# Block by block the filters of each 3x3 convolution; a pool follows each block.
BLOCKS = {
    "a": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "a_lrn": ((64, LRN), (128,), (256, 256), (512, 512), (512, 512)),
    "b": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "c": ((64, 64), (128, 128), (256, 256, Conv(256, 1)), (512, 512, Conv(512, 1)), (512, 512, Conv(512, 1))),
    "d": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "e": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


def form_of(configuration: str, image_size: int, batch_norm: bool = False) -> Form:
    """The rows of the table that images of this size are for."""
    full = image_size >= SMALLEST_FULL_IMAGE
    pools, divisor = (5, 1) if full else (3, 4)
    rows = []
    for number, block in enumerate(BLOCKS[configuration], start=1):
        rows += [Conv(row) if isinstance(row, int) else row for row in block]
        rows += [POOL] if number <= pools else []
    rows = narrow([row._replace(batch_norm=batch_norm) if isinstance(row, Conv) else row for row in rows], divisor)
    return Form("full", rows, hidden=4096) if full else Form("small", rows, hidden=512)


def _normal(std: float):
    """Weights ~ N(0, std^2), biases 0."""

    def initialize(network: Network) -> None:
        for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
            init.normal_(layer.weight, std)

    return initialize


INITIALIZERS = {"he": he, "paper": _normal(std=0.1), "paper-0.01": _normal(std=0.01)}


def _constructor(name: str, configuration: str, batch_norm: bool = False):
    doc = f"""VGG, configuration {configuration.upper().replace("_", "-")}{", with batch normalisation" * batch_norm}.

    num_classes, in_channels  of the data
    image_size  pixels of its square images: 224 as published, any size from 64 on, and from 28 to 63 the small form that
                the module describes
    initialize  "he": He's normal weights and zero biases, so that the signal keeps its size through the layers and all
                configurations train from the start; None: zeros, for weights that are loaded or only counted; "paper":
                N(0, variance 0.01), as section 3.1 has it, from which the
                first loss is in the millions; "paper-0.01": the same with 0.01 read as the standard deviation, from which
                the signal of the deeper configurations vanishes
    dropout     probability of dropping a hidden unit of the two fully connected layers

    Raises ValueError that says which argument does not fit.
    """

    def make(name: str, options: dict) -> Network:
        return with_hidden_layers(name, form_of(configuration, options["image_size"], batch_norm), options)

    return constructor(name, make, INITIALIZERS, doc, dropout=0.5)


vgg_a = _constructor("vgg_a", "a")
vgg_a_lrn = _constructor("vgg_a_lrn", "a_lrn")
vgg_b = _constructor("vgg_b", "b")
vgg_c = _constructor("vgg_c", "c")
vgg_d = _constructor("vgg_d", "d")
vgg_e = _constructor("vgg_e", "e")
vgg11 = _constructor("vgg11", "a")
vgg13 = _constructor("vgg13", "b")
vgg16 = _constructor("vgg16", "d")
vgg19 = _constructor("vgg19", "e")
vgg11_bn = _constructor("vgg11_bn", "a", batch_norm=True)
vgg13_bn = _constructor("vgg13_bn", "b", batch_norm=True)
vgg16_bn = _constructor("vgg16_bn", "d", batch_norm=True)
vgg19_bn = _constructor("vgg19_bn", "e", batch_norm=True)
