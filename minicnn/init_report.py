"""Whether a network's initial values let it learn: how large signal and gradient are behind each layer, predicted and measured.

Prediction is a mean-field calculation: a layer's output is stood for by the values of some thousand units for two images, as
if weights were independent draws. A layer with weights makes Gaussian pairs of them, with the second moments that fan-in, the
weights' own second moment and the biases give; any other layer does to the values what it does to an array. Neighbouring
pixels count as independent, which overstates the maxima of pools. So a bias is no signal: what all images share tells none
from another.

Sources: Glorot and Bengio 2010; He et al. 2015, section 2.2; for pairs of inputs Poole et al. 2016, "Exponential expressivity
in deep neural networks through transient chaos".
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicnn import nn
from minicnn.autograd import backward_through
from minicnn.creation import tensor
from minicnn.models import Network
from minicnn.nn.layers import BatchNorm
from minicnn.shapes import pair
from minicnn.tensor import Tensor

UNITS = 1 << 14  # that stand for a layer in the prediction
IMAGES = 8  # of noise, in the measurement
VANISHED = 1e-6  # signal of the logits; that of the images is 1
EXPLODED = 2.0  # times ln(classes), in the first loss


class Row(NamedTuple):
    """One layer's output y; None where nobody knows.

    signal    root mean square of what differs from image to image, the images' own being 1
    gradient  root mean square of the loss's gradient in y, that in the logits being 1
    """

    path: str
    layer: str
    predicted_signal: float | None
    measured_signal: float
    predicted_gradient: float | None
    measured_gradient: float | None


class InitReport(NamedTuple):
    """str() is a table and a verdict, as_dict() goes into JSON.

    first_loss  before the first step, measured on images of noise whose classes are drawn
    """

    title: str
    classes: int
    rows: list[Row]
    predicted_first_loss: float | None
    first_loss: float

    @property
    def warning(self) -> str:
        """What is wrong and what to do; empty where training can start."""
        at_rest, logits = math.log(self.classes), self.rows[-1]
        fix = "initialize='he' keeps the signal's size (standard deviation sqrt(2 / fan-in) in each layer)"
        if not self.first_loss < EXPLODED * at_rest:
            return f"the signal explodes, and at an ordinary learning rate the loss is no number after a step. {fix}"
        if logits.measured_signal < VANISHED:
            return (
                f"the signal vanishes: logits differ by {logits.measured_signal:.1g} from image to image, and training will "
                f"sit at ln({self.classes}). {fix}"
            )
        return ""

    @property
    def verdict(self) -> str:
        foreseen = "" if self.predicted_first_loss is None else f" (predicted {self.predicted_first_loss:.3g})"
        first = (
            f"first loss {self.first_loss:.5g}{foreseen}, of a guess ln({self.classes}) = {math.log(self.classes):.5g}"
        )
        return f"{first}: {self.warning or 'signal and gradient pass'}"

    def as_dict(self) -> dict:
        """Everything as numbers, strings, lists and dicts."""
        return self._asdict() | {"rows": [row._asdict() for row in self.rows], "warning": self.warning}

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=self.title)
        for heading in ("layer", ""):
            table.add_column(heading, no_wrap=True)
        for heading in ("signal predicted", "measured", "gradient predicted", "measured"):
            table.add_column(heading, justify="right", no_wrap=True)
        for path, layer, *figures in self.rows:
            table.add_row(path, layer, *("" if figure is None else f"{figure:.3g}" for figure in figures))
        text = io.StringIO()
        Console(file=text, width=180, color_system=None).print(table)
        return "\n".join([*(line.rstrip() for line in text.getvalue().splitlines()), self.verdict])

    def draw(self, path) -> None:
        """The same as a picture."""
        from minicnn import plots

        plots.initial_values(self, path)


def init_report(model: nn.Module, input_shape: tuple[int, int, int] | None = None, *, seed: int = 0) -> InitReport:
    """Run noise of mean 0 and variance 1 through `model` and back, on its device, and tell what became of it.

    input_shape  (H, W, C) of an image; by default that which a network of minicnn.models was built for

    Dropout is off; batch normalisation normalises by the noise's statistics. The model is left as it was, but for gradients,
    which are gone.
    """
    if input_shape is None:
        if not isinstance(model, Network):
            raise ValueError(
                f"init_report: say the shape (H, W, C) of the images that this {type(model).__name__} reads"
            )
        size = model.options["image_size"]
        input_shape = (size, size, model.options["in_channels"])
    rng = np.random.default_rng(seed)
    x = tensor(rng.standard_normal((IMAGES, *input_shape)).astype(np.float32), device=model.parameters()[0].device)
    with _traced(model, x) as calls:
        outputs = model(x)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        values = logits.numpy().astype(np.float64)
        targets = rng.integers(0, values.shape[1], IMAGES)
        _walk_back(calls, logits, values, targets)
    signals, gradients, last = predicted(calls, x, logits, rng)
    return InitReport(
        title=f"{model.name}, {model.form} form" if isinstance(model, Network) else type(model).__name__,
        classes=values.shape[1],
        rows=[
            Row(call.path, type(call.layer).__name__, signal, call.signal, gradient, call.gradient)
            for call, signal, gradient in zip(calls, signals, gradients, strict=True)
        ],
        predicted_first_loss=None if last is None else _loss_of_spread(last.std(), values.shape[1], rng),
        first_loss=float(_losses(values, targets).mean()),
    )


@dataclass
class Call:
    """A layer's y = layer(*inputs), and what was measured of it."""

    path: str
    layer: nn.Module
    inputs: tuple[Tensor, ...]
    y: Tensor
    signal: float
    gradient: float | None = None  # where the loss does not depend on y


@contextlib.contextmanager
def _traced(model: nn.Module, x: Tensor) -> Iterator[list[Call]]:
    """The list to which each call of an innermost layer is added; modes and buffers are put back afterwards."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    buffers = [(buffer, buffer.numpy()) for _, buffer in model.named_buffers()]
    innermost = {module: path for path, module in model.named_modules() if not any(module.children())}
    calls: list[Call] = []

    def hook(layer, inputs, y):
        if any(y is x for x in inputs):
            return  # dropout: off here
        calls.append(Call(innermost[layer], layer, inputs, y, _spread(y.numpy().astype(np.float64))))

    removers = [layer.register_forward_hook(hook) for layer in innermost]
    model.eval()
    for layer in innermost:
        layer.training = isinstance(layer, BatchNorm)
    try:
        yield calls
    finally:
        for remove in removers:
            remove()
        for module, training in modes:
            module.training = training
        for buffer, values in buffers:
            buffer.copy_(values)
        model.zero_grad()


def _spread(values: np.ndarray) -> float:
    """Root mean square of what differs between the images of a batch."""
    return math.sqrt(values.var(axis=0, ddof=1).mean())


def _walk_back(calls: list[Call], logits: Tensor, values: np.ndarray, targets: np.ndarray) -> None:
    """Measure the gradients, of cross-entropy, in proportion to the logits'."""
    chances = np.exp(values - values.max(axis=1, keepdims=True))
    grad = chances / chances.sum(axis=1, keepdims=True) - np.eye(values.shape[1])[targets]
    of_logits = math.sqrt((grad**2).mean())
    by_op = {call.y.op: call for call in calls}

    def around(op, run):
        if op in by_op:
            dy = op.device.to_numpy(op.slot.read()).astype(np.float64)
            by_op[op].gradient = math.sqrt((dy**2).mean()) / of_logits
        run()

    with backward_through(around):
        logits.backward(grad.astype(np.float32))


def _losses(values: np.ndarray, targets) -> np.ndarray:
    most = values.max(axis=1, keepdims=True)
    of_targets = values[np.arange(len(values)), targets]
    return (most + np.log(np.exp(values - most).sum(axis=1, keepdims=True)))[:, 0] - of_targets


def _loss_of_spread(spread: float, classes: int, rng) -> float:
    """The mean cross-entropy of logits that are independent draws from N(0, spread^2)."""
    return float(_losses(spread * rng.standard_normal((256, classes)), 0).mean())


# ---- prediction: what a layer does to the values (2, UNITS) of some units, for two images ----


def predicted(calls: list[Call], x: Tensor, logits: Tensor, rng) -> tuple[list, list, np.ndarray | None]:
    """(signal behind each call, gradient in it, values of the logits); None where a layer is not known."""
    values: dict[int, np.ndarray | None] = {id(x): rng.standard_normal((2, UNITS))}
    for call in calls:
        inputs = [values.get(id(each)) for each in call.inputs]
        known = all(each is not None for each in inputs)
        values[id(call.y)] = values_behind(call.layer, call, inputs, rng) if known else None
    squares: dict[int, np.ndarray | None] = {id(logits): np.ones(UNITS)}
    for call in reversed(calls):
        dy = squares.get(id(call.y), np.zeros(UNITS))
        known = dy is not None and values[id(call.y)] is not None
        for each in call.inputs:
            dx = gradient_before(call.layer, call, values[id(each)], values[id(call.y)], dy) if known else None
            before = squares.get(id(each), np.zeros(UNITS))
            squares[id(each)] = None if dx is None or before is None else before + dx
    signals = [_distance(values[id(call.y)]) for call in calls]
    gradients = [None if (s := squares.get(id(call.y))) is None else math.sqrt(s.mean()) for call in calls]
    return signals, gradients, values.get(id(logits))


def _distance(values: np.ndarray | None) -> float | None:
    return None if values is None else math.sqrt(((values[0] - values[1]) ** 2).mean() / 2)


@functools.singledispatch
def values_behind(layer, call: Call, inputs: list[np.ndarray], rng) -> np.ndarray | None:
    """y of some units; None for a layer that is not known."""
    return None


@functools.singledispatch
def gradient_before(layer, call: Call, x: np.ndarray, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Squares of the gradient in an input's units, (UNITS,), where `dy` are those of y's: by unit, since where ReLU lets a
    gradient pass and where a maximum sends it are not independent."""
    return np.full(UNITS, dy.mean())


@values_behind.register(nn.Flatten)
def _(layer, call, inputs, rng):
    return inputs[0]


@values_behind.register(nn.Add)
def _(layer, call, inputs, rng):
    return sum(_shuffled(each, rng) for each in inputs)


@values_behind.register(nn.Concatenate)
def _(layer, call, inputs, rng):
    shares = np.cumsum([each.shape[-1] for each in call.inputs]) / call.y.shape[-1]
    parts = np.split(np.arange(UNITS), (shares[:-1] * UNITS).astype(int))
    return np.concatenate([each[:, part] for each, part in zip(inputs, parts, strict=True)], axis=1)


@values_behind.register(nn.Conv2d)
@values_behind.register(nn.Linear)
def _(layer, call, inputs, rng):
    gain = _fan_in(call) * _second_moment(layer.weight)
    square, product = gain * (inputs[0] ** 2).mean(), gain * (inputs[0][0] * inputs[0][1]).mean()
    common, own = rng.standard_normal(UNITS), rng.standard_normal((2, UNITS))
    y = math.sqrt(max(product, 0.0)) * common + math.sqrt(max(square - max(product, 0.0), 0.0)) * own
    return y if layer.bias is None else y + rng.choice(layer.bias.numpy().astype(np.float64), UNITS)


@gradient_before.register(nn.Conv2d)
@gradient_before.register(nn.Linear)
def _(layer, call, x, y, dy):
    fan_out = _fan_in(call) * call.y.size / call.inputs[0].size
    return np.full(UNITS, fan_out * _second_moment(layer.weight) * dy.mean())


@gradient_before.register(nn.Flatten)
def _(layer, call, x, y, dy):
    return dy


@values_behind.register(nn.ReLU)
def _(layer, call, inputs, rng):
    return np.maximum(inputs[0], 0)


@gradient_before.register(nn.ReLU)
def _(layer, call, x, y, dy):
    return dy * (x[0] > 0)


@values_behind.register(nn.Tanh)
def _(layer, call, inputs, rng):
    return np.tanh(inputs[0])


@gradient_before.register(nn.Tanh)
def _(layer, call, x, y, dy):
    return dy * (1 - y[0] ** 2) ** 2


@values_behind.register(nn.Sigmoid)
def _(layer, call, inputs, rng):
    return (1 + np.tanh(inputs[0] / 2)) / 2


@gradient_before.register(nn.Sigmoid)
def _(layer, call, x, y, dy):
    return dy * (y[0] * (1 - y[0])) ** 2


@values_behind.register(nn.MaxPool2d)
def _(layer, call, inputs, rng):
    return np.max([_shuffled(inputs[0], rng) for _ in range(_window(layer))], axis=0)


@gradient_before.register(nn.MaxPool2d)
def _(layer, call, x, y, dy):
    """Above a share r of the other units, one is the greatest of k with probability r^(k - 1)."""
    k, share = _window(layer), np.argsort(np.argsort(x[0], kind="stable")) / UNITS
    return dy.mean() * call.y.size / call.inputs[0].size * k * share ** (k - 1)


@values_behind.register(nn.AvgPool2d)
@values_behind.register(nn.AdaptiveAvgPool2d)
def _(layer, call, inputs, rng):
    return np.mean([_shuffled(inputs[0], rng) for _ in range(_averaged(call))], axis=0)


@gradient_before.register(nn.AvgPool2d)
@gradient_before.register(nn.AdaptiveAvgPool2d)
def _(layer, call, x, y, dy):
    return np.full(UNITS, dy.mean() * call.y.size / call.inputs[0].size / _averaged(call))


@values_behind.register(nn.LocalResponseNorm)
def _(layer, call, inputs, rng):
    return inputs[0] * _local_scale(layer, inputs[0], rng)


@gradient_before.register(nn.LocalResponseNorm)
def _(layer, call, x, y, dy):
    return dy * (y**2).mean() / (x**2).mean()


@values_behind.register(BatchNorm)
def _(layer, call, inputs, rng):
    """What all images share is what a channel's places share, since all are noise: the channel's mean, which goes."""
    weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    own = rng.standard_normal((2, UNITS)) * _distance(inputs[0]) / math.sqrt(_distance(inputs[0]) ** 2 + layer.eps)
    return own * rng.choice(weight, UNITS) + rng.choice(bias, UNITS)


@gradient_before.register(BatchNorm)
def _(layer, call, x, y, dy):
    return dy * _second_moment(layer.weight) / (_distance(x) ** 2 + layer.eps)


def _shuffled(values: np.ndarray, rng) -> np.ndarray:
    """The same units in another order: a neighbour's values."""
    return values[:, rng.permutation(UNITS)]


def _second_moment(weight: Tensor) -> float:
    return float((weight.numpy().astype(np.float64) ** 2).mean())


def _fan_in(call: Call) -> float:
    """Inputs of one output; of a convolution the mean over its outputs, some of which see the padding."""
    shape = call.layer.weight.shape
    if len(shape) == 2:
        return shape[1]
    options = (pair(getattr(call.layer, name), name, 0) for name in ("stride", "padding", "dilation"))
    inside = 1.0
    for axis, (stride, padding, dilation) in enumerate(zip(*options, strict=True), start=1):
        taps = np.arange(call.y.shape[axis])[:, None] * stride - padding + dilation * np.arange(shape[axis])
        inside *= ((taps >= 0) & (taps < call.inputs[0].shape[axis])).mean()
    return inside * math.prod(shape[1:])


def _window(layer) -> int:
    """Elements of a pool's window."""
    return math.prod(pair(layer.kernel_size, "kernel_size", 1))


def _averaged(call: Call) -> int:
    if isinstance(call.layer, nn.AvgPool2d):
        return _window(call.layer)
    return math.prod(-(-x // y) for x, y in zip(call.inputs[0].shape[1:3], call.y.shape[1:3], strict=True))


def _local_scale(layer, values: np.ndarray, rng) -> np.ndarray:
    squares = values**2 + sum(_shuffled(values, rng) ** 2 for _ in range(layer.size - 1))
    alpha = layer.alpha / (layer.size if layer.dialect == "mean" else 1)
    return (layer.k + alpha * squares) ** -layer.beta
