"""What a network costs, layer by layer: parameters, multiply-accumulates, activation memory; and what a layer sees."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from minicnn import nn
from minicnn.autograd import no_grad
from minicnn.creation import tensor
from minicnn.models import Network
from minicnn.shapes import ConvShape, pair

IN_PLACE = (nn.Dropout, nn.Flatten, nn.ReLU)  # backward needs one of input and output: the pair counts as one array


class Row(NamedTuple):
    """One layer. macs: multiply-accumulates of convolutions and fully connected layers, 0 for the others."""

    path: str
    layer: str
    out_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two a multiply-accumulate."""
        return 2 * self.macs


class Summary(NamedTuple):
    """The layers in the order in which they ran, and the sums over them; str() is a table.

    activation_bytes  what a training step keeps until backward, x included: the outputs of all layers but those that
                      could write over their input (ReLU, dropout, flatten)
    """

    title: str
    input_shape: tuple[int, ...]
    rows: list[Row]
    parameters: int
    activation_bytes: int

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        return 2 * self.macs

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.title}: x {self.input_shape}", show_footer=True)
        totals = [f"{self.parameters:,}", f"{self.macs:,}", f"{self.flops:,}", memory(self.activation_bytes)]
        table.add_column("layer", "total", no_wrap=True)
        table.add_column("", no_wrap=True)
        for heading, total in zip(("output", "parameters", "MACs", "FLOPs", "activations"), ["", *totals], strict=True):
            table.add_column(heading, total, justify="right", no_wrap=True)
        for row in self.rows:
            numbers = (f"{n:,}" if n else "" for n in (row.parameters, row.macs, row.flops))
            table.add_row(row.path, row.layer, str(row.out_shape), *numbers, memory(row.activation_bytes))
        text = io.StringIO()
        Console(file=text, width=160, color_system=None).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def memory(count: int) -> str:
    """Bytes in the largest unit that fits; nothing for nothing."""
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B" if count else ""


@no_grad()
def summary(model: nn.Module, input_shape: tuple[int, ...] | None = None) -> Summary:
    """Run zeros of shape `input_shape` through `model`, on its device and in evaluation mode, and count.

    input_shape  of x, (N, H, W, C); by default one image of the size that a network of minicnn.models was built for

    >>> from minicnn.models import alexnet
    >>> summary(alexnet()).parameters
    60965224
    """
    if input_shape is None:
        if not isinstance(model, Network):
            raise ValueError(
                f"summary: say the shape of the input that this {type(model).__name__} reads, (N, H, W, C)"
            )
        size = model.options["image_size"]
        input_shape = (1, size, size, model.options["in_channels"])
    parameters = list(dict.fromkeys(model.parameters()))
    like = parameters[0] if parameters else tensor(0.0)  # where x must lie, and of which dtype
    rows: list[Row] = []
    with _recorded(model, rows):
        model(tensor(np.zeros(input_shape, like.dtype), device=like.device))
    return Summary(
        title=f"{model.name}, {model.form} form" if isinstance(model, Network) else type(model).__name__,
        input_shape=tuple(input_shape),
        rows=rows,
        parameters=sum(p.size for p in parameters),
        activation_bytes=math.prod(input_shape) * like.dtype.itemsize + sum(row.activation_bytes for row in rows),
    )


@contextlib.contextmanager
def _recorded(model: nn.Module, rows: list[Row]):
    """The model in evaluation mode, each of its innermost layers adding a row; afterwards as it was."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    paths: dict[nn.Module, str] = {}  # a layer that is used twice has the path of its first place
    for path, module in model.named_modules():
        if not any(module.children()):
            paths.setdefault(module, path)
    removers = [module.register_forward_hook(_recorder(path, rows)) for module, path in paths.items()]
    model.eval()
    try:
        yield
    finally:
        for remove in removers:
            remove()
        for module, training in modes:
            module.training = training


def _recorder(path: str, rows: list[Row]):
    def record(layer, inputs, y):
        kept = 0 if isinstance(layer, IN_PLACE) else y.size * y.dtype.itemsize
        parameters = sum(p.size for p in layer.parameters())
        rows.append(Row(path, type(layer).__name__, y.shape, parameters, macs(layer, inputs[0].shape), kept))

    return record


def macs(layer: nn.Module, x: tuple[int, ...]) -> int:
    """Multiply-accumulates of a layer's forward pass over an input of shape x; 0 where it multiplies no weights."""
    if isinstance(layer, nn.Conv2d):
        geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return ConvShape.of("conv2d", x, layer.weight.shape, *geometry).macs
    if isinstance(layer, nn.Linear):
        return x[0] * layer.weight.size
    return 0


def receptive_field(layers: Iterable[nn.Module]) -> int:
    """How many pixels, along the height, one output of these successive layers sees: 1 + sum of (kernel - 1) * jump, where
    jump is the product of the strides before and a dilated kernel counts with its span.

    >>> receptive_field([nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)])
    7
    """
    field = jump = 1
    for layer in layers:
        if not hasattr(layer, "kernel_size"):
            continue
        kernel, stride, dilation = (
            pair(getattr(layer, name, 1) or layer.kernel_size, name, 1)[0]
            for name in ("kernel_size", "stride", "dilation")
        )
        field += dilation * (kernel - 1) * jump
        jump *= stride
    return field
