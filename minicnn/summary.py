"""What a network costs, layer by layer: parameters, multiply-accumulates, memory, time at the floor; and what a layer sees."""

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
from minicnn.shapes import pair

IN_PLACE = (nn.Dropout, nn.Flatten, nn.ReLU)  # backward needs one of input and output: the pair counts as one array
SEES_ALL = (nn.Linear, nn.RadialBasis)  # their outputs have no place in the image


class Machine(NamedTuple):
    """Ceilings of a device: float32 operations a second, bytes a second from and to its memory."""

    name: str
    flops: float
    bandwidth: float


H100 = Machine("H100 SXM by its data sheet", flops=67e12, bandwidth=3.35e12)


class Row(NamedTuple):
    """One layer.

    macs             multiply-accumulates of the forward pass; 0 where a layer has no method `macs(x_shape)`
    receptive_field  pixels of the image, along its height, that one output sees; None where it sees the whole of it
    floor_seconds    of its part in a training step, below which no kernel comes on the summary's machine
    """

    path: str
    layer: str
    out_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: int | None
    floor_seconds: float

    @property
    def flops(self) -> int:
        """Floating-point operations: two a multiply-accumulate."""
        return 2 * self.macs


class Summary(NamedTuple):
    """The layers in the order in which they ran, and the sums over them; str() is a table, as_dict() goes into JSON.

    rows              layers that have parameters but run in training only stand last, without an output
    activation_bytes  what a training step keeps until backward, x included: the outputs of all layers but those that
                      could write over their input (ReLU, dropout, flatten)
    machine           whose ceilings give the floor. A layer's floor in a step: its forward pass reads x and the weights
                      and writes y, its backward pass reads dy, x and the weights and writes dx and dw, each array once;
                      the backward pass multiplies twice as much as the forward one (as much in the layers that read the
                      image, which needs no gradient). Each pass takes the longer of its operations and its bytes
    """

    title: str
    input_shape: tuple[int, ...]
    rows: list[Row]
    parameters: int
    activation_bytes: int
    machine: Machine

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def floor_seconds(self) -> float:
        return sum(row.floor_seconds for row in self.rows)

    def share(self, row: Row) -> float:
        """Of the step at the floor, the part that this layer takes."""
        return row.floor_seconds / self.floor_seconds if self.floor_seconds else 0.0

    def as_dict(self) -> dict:
        """Everything as numbers, strings, lists and dicts."""
        layers = [row._asdict() | {"flops": row.flops, "floor_share": self.share(row)} for row in self.rows]
        totals = {name: getattr(self, name) for name in ("parameters", "macs", "flops", "activation_bytes")}
        machine = self.machine._asdict()
        return {"title": self.title, "input_shape": self.input_shape, "layers": layers} | {
            "total": totals | {"floor_seconds": self.floor_seconds},
            "machine": machine,
        }

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.title}: x {self.input_shape}", show_footer=True)
        totals = [f"{self.parameters:,}", f"{self.macs:,}", f"{self.flops:,}", memory(self.activation_bytes)]
        table.add_column("layer", "total", no_wrap=True)
        table.add_column("", no_wrap=True)
        headings = ("output", "parameters", "MACs", "FLOPs", "activations", "sees", "floor")
        for heading, total in zip(headings, ["", *totals, "", f"{self.floor_seconds * 1e3:.3g} ms"], strict=True):
            table.add_column(heading, total, justify="right", no_wrap=True)
        for row in self.rows:
            numbers = (f"{n:,}" if n else "" for n in (row.parameters, row.macs, row.flops))
            shape = str(row.out_shape) if row.out_shape else "training only"
            sees = "all" if row.receptive_field is None else str(row.receptive_field)
            share = f"{self.share(row):.1%}" if row.floor_seconds else ""
            kept = memory(row.activation_bytes)
            table.add_row(row.path, row.layer, shape, *numbers, kept, sees if row.out_shape else "", share)
        text = io.StringIO()
        Console(file=text, width=180, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        return "\n".join([*lines, f"floor: a training step at the ceilings of {self.machine.name}"])


def memory(count: int) -> str:
    """Bytes in the largest unit that fits; nothing for nothing."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B" if count else ""


@no_grad()
def summary(model: nn.Module, input_shape: tuple[int, ...] | None = None, machine: Machine = H100) -> Summary:
    """Run zeros of shape `input_shape` through `model`, on its device and in evaluation mode, and count.

    input_shape  of x, (N, H, W, C); by default one image of the size that a network of minicnn.models was built for
    machine      whose floor is reckoned with

    Rows are the innermost modules. One of your own is counted like the others: its parameters, its output, and the
    multiply-accumulates that its method `macs(x_shape)` says, if it has one.

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
    x = tensor(np.zeros(input_shape, like.dtype), device=like.device)
    recorder = Recorder(x, machine)
    with _recorded(model, recorder):
        model(x)
    return Summary(
        title=f"{model.name}, {model.form} form" if isinstance(model, Network) else type(model).__name__,
        input_shape=tuple(input_shape),
        rows=recorder.rows + recorder.not_run(model),
        parameters=sum(p.size for p in parameters),
        activation_bytes=math.prod(input_shape) * like.dtype.itemsize
        + sum(row.activation_bytes for row in recorder.rows),
        machine=machine,
    )


class View(NamedTuple):
    """What one element of a map sees of the image along its height: `field` pixels, `jump` pixels beside its neighbour's."""

    field: int
    jump: int

    def through(self, kernel: int, stride: int = 1, dilation: int = 1) -> View:
        return View(self.field + dilation * (kernel - 1) * self.jump, self.jump * stride)


class Recorder:
    """The rows of a summary, one a call of an innermost layer."""

    def __init__(self, x, machine: Machine):
        self.image, self.machine = x, machine
        self.rows: list[Row] = []
        self.views: dict[int, View | None] = {id(x): View(1, 1)}
        self.kept = [x]  # while they live, no other tensor has their id

    def record(self, path: str, layer: nn.Module, inputs: tuple, y) -> None:
        kept = 0 if isinstance(layer, IN_PLACE) else y.size * y.dtype.itemsize
        macs = layer.macs(inputs[0].shape) if hasattr(layer, "macs") else 0
        view = self.views[id(y)] = _view_behind(layer, inputs[0], y, self._view(inputs))
        self.kept.append(y)
        field = None if view is None else view.field
        parameters = sum(p.size for p in layer.parameters())
        floor = self._floor(layer, inputs, y, macs, parameters)
        self.rows.append(Row(path, type(layer).__name__, y.shape, parameters, macs, kept, field, floor))

    def _view(self, inputs) -> View | None:
        """The widest of the inputs'; of a tensor that no layer made (a sum in somebody's forward, say) the widest so far."""
        found = [self.views.get(id(x), "unknown") for x in inputs]
        found = list(self.views.values()) if "unknown" in found else found
        return None if None in found else max(found)

    def _floor(self, layer, inputs, y, macs: int, parameters: int) -> float:
        if isinstance(layer, nn.Flatten):
            return 0.0  # the same memory
        x, itemsize = sum(each.size for each in inputs), y.dtype.itemsize
        dx = 0 if inputs[0] is self.image else x
        forward = max(2 * macs / self.machine.flops, itemsize * (x + parameters + y.size) / self.machine.bandwidth)
        products = 1 if inputs[0] is self.image else 2
        moved = y.size + x + 2 * parameters + dx
        backward = max(2 * products * macs / self.machine.flops, itemsize * moved / self.machine.bandwidth)
        return forward + backward

    def not_run(self, model: nn.Module) -> list[Row]:
        """A row for each layer with parameters that only training calls."""
        ran = {row.path for row in self.rows}
        return [
            Row(path, type(layer).__name__, (), count, 0, 0, None, 0.0)
            for path, layer in _innermost(model).items()
            if path not in ran and (count := sum(p.size for p in layer.parameters()))
        ]


def _view_behind(layer: nn.Module, x, y, view: View | None) -> View | None:
    """The view of y's elements, where `view` is that of x's; None for the whole image."""
    if view is None or isinstance(layer, SEES_ALL) or x.ndim != 4 or y.ndim != 4:
        return None
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        h, p = x.shape[1], y.shape[1]
        return view.through(max(-(-(i + 1) * h // p) - i * h // p for i in range(p)), max(1, h // p))
    return view.through(*_window(layer))


def _window(layer: nn.Module) -> tuple[int, int, int]:
    """(kernel, stride, dilation) along the height; (1, 1, 1) of a layer without windows."""
    if not hasattr(layer, "kernel_size"):
        return 1, getattr(layer, "stride", 1), 1
    return tuple(
        pair(getattr(layer, name, 1) or layer.kernel_size, name, 1)[0] for name in ("kernel_size", "stride", "dilation")
    )


def _innermost(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold no others, each by the path of its first place."""
    found: dict[nn.Module, str] = {}
    for path, module in model.named_modules():
        if not any(module.children()) and not isinstance(module, nn.Sequential):
            found.setdefault(module, path)
    return {path: module for module, path in found.items()}


@contextlib.contextmanager
def _recorded(model: nn.Module, recorder: Recorder):
    """The model in evaluation mode, each of its innermost layers adding a row; afterwards as it was."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    removers = [
        layer.register_forward_hook(lambda layer, inputs, y, path=path: recorder.record(path, layer, inputs, y))
        for path, layer in _innermost(model).items()
    ]
    model.eval()
    try:
        yield
    finally:
        for remove in removers:
            remove()
        for module, training in modes:
            module.training = training


def receptive_field(layers: Iterable[nn.Module]) -> int:
    """How many pixels, along the height, one output of these successive layers sees: 1 + sum of (kernel - 1) * jump, where
    jump is the product of the strides before and a dilated kernel counts with its span.

    >>> receptive_field([nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)])
    7
    """
    view = View(1, 1)
    for layer in layers:
        view = view.through(*_window(layer))
    return view.field
