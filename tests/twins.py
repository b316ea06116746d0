"""Networks for tests: narrow ones, and ones in float64."""

import numpy as np

from minicnn.models.alexnet import form_of as alexnet_form
from minicnn.models.network import Conv, Network
from minicnn.models.vgg import form_of as vgg_form
from minicnn.tensor import GradSlot


def network(name: str, image_size: int, divisor: int, hidden: int, num_classes=10, in_channels=3) -> Network:
    """The network `name` with a `divisor`-th of its filters, `hidden` units a hidden layer, and no dropout."""
    is_vgg = name.startswith("vgg_")
    form = vgg_form(name.removeprefix("vgg_"), image_size) if is_vgg else alexnet_form(name, image_size)
    rows = (row._replace(channels=row.channels // divisor) if isinstance(row, Conv) else row for row in form.features)
    options = {"num_classes": num_classes, "image_size": image_size, "in_channels": in_channels, "dropout": 0.0}
    return Network(name, form._replace(features=tuple(rows), hidden=hidden), options)


def as_float64(model):
    """Parameters and their gradients in float64, where they are."""
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
        p.slot = GradSlot(p.device, p.shape, p.dtype)
    return model
