"""What becomes of ONNX's operators: OPERATORS for single ones, CHAINS for several that are one layer here."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minicnn import nn
from minicnn.tensor import Tensor


class OnnxImportError(ValueError):
    """A graph, or an operator in it, that has no counterpart here."""


class Layout(enum.Enum):
    """How a value of the file lies here."""

    IMAGES = enum.auto()  # (N, C, H, W) there, (N, H, W, C) here
    SAME = enum.auto()


IMAGES, SAME = Layout.IMAGES, Layout.SAME
TO_LAST, TO_SECOND = [0, 2, 3, 1], [0, 3, 1, 2]


class Value(NamedTuple):
    """A value that depends on the input.

    place   its number in the network
    x       what it is for a batch of one zero
    layout  of x
    order   of a flattened map: x[:, i] is element order[i] of the file's; None where the order is the same
    """

    place: int
    x: Tensor
    layout: Layout
    order: np.ndarray | None = None


class Node:
    """A node of the graph: its operator, its attributes, and a way to become a layer."""

    def __init__(self, walk, proto):
        from onnx import helper

        self.walk, self.proto, self.operator = walk, proto, proto.op_type
        self.attributes = {each.name: helper.get_attribute_value(each) for each in proto.attribute}

    def __str__(self) -> str:
        return f"{self.proto.name or self.output} ({self.operator})"

    @property
    def output(self) -> str:
        return self.proto.output[0]

    @property
    def inputs(self) -> list:
        """The values and arrays it reads; None for what is left out, or not computed yet."""
        return [self.walk.values.get(name) for name in self.proto.input]

    def get(self, name: str, default=None):
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, why: str) -> OnnxImportError:
        return OnnxImportError(f"{self}: {why}")

    def array(self, value, what: str) -> np.ndarray:
        """A constant of the file; OnnxImportError for what is computed."""
        if not isinstance(value, np.ndarray):
            raise self.refuse(f"{what} must be a constant of the file")
        return value

    def images(self, value: Value) -> Value:
        if value.layout is not IMAGES:
            raise self.refuse(f"it wants images (N, C, H, W), its input is {value.x.shape}")
        return value

    def layer(self, module: nn.Module, *values: Value) -> Value:
        """A step whose result lies as its first input does."""
        return self.walk.apply(module, list(values), values[0].layout, values[0].order)

    def then(self, module: nn.Module, value: Value, layout: Layout, order=None) -> Value:
        return self.walk.apply(module, [value], layout, order)


OPERATORS: dict[str, Callable] = {}
CHAINS: list[tuple[tuple[str, ...], Callable]] = []


def operator(function):
    """Register the maker of the operator of its name: (node, *inputs) -> Value."""
    OPERATORS[function.__name__] = function
    return function


def chain(*operators: str):
    """Register the maker of these in a row: (*nodes) -> Value, or None where they are not that layer after all."""

    def register(function):
        CHAINS.append((operators, function))
        return function

    return register


def put(tensor: Tensor, array) -> None:
    tensor.copy_(np.asarray(array, np.float32))


def reordered(weight: np.ndarray, value: Value) -> np.ndarray:
    """What reads the features of `value` along its last axis, as it must read them here."""
    return weight if value.order is None else weight[..., value.order]


def window(node: Node, x: Tensor, size) -> tuple[tuple, tuple, tuple, tuple]:
    """(size, stride, padding, dilation) along height and width."""
    if len(size) != 2:
        raise node.refuse(f"windows have two axes here, not {len(size)}")
    stride, dilation = (tuple(node.get(name) or (1, 1)) for name in ("strides", "dilations"))
    pads = paddings(node, x.shape[1:3], size, stride, dilation)
    if pads[:2] != pads[2:]:
        raise node.refuse(f"pads {pads} are not the same on both sides, which no layer here has")
    return tuple(size), stride, tuple(pads[:2]), dilation


def paddings(node: Node, extents, size, stride, dilation) -> list[int]:
    """[top, left, bottom, right]; "same" pads as much as makes ceil(extent / stride) windows."""
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        return list(node.get("pads") or [0] * 4) if automatic == "NOTSET" else [0] * 4
    totals = [
        max((math.ceil(extent / s) - 1) * s + d * (r - 1) + 1 - extent, 0)
        for extent, r, s, d in zip(extents, size, stride, dilation, strict=True)
    ]
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return smaller + larger if automatic == "SAME_UPPER" else larger + smaller


@operator
def Conv(node, x, weight, bias=None, padded=(0, 0)):
    """padded: of a Pad in front of it."""
    weight = node.array(weight, "the weight")
    size, stride, padding, dilation = window(node, node.images(x).x, weight.shape[2:])
    padding = tuple(a + b for a, b in zip(padding, padded, strict=True))
    groups = node.get("group", 1)
    channels = weight.shape[1] * groups
    conv = nn.Conv2d(channels, len(weight), size, stride, padding, dilation, groups, bias=bias is not None)
    put(conv.weight, weight.transpose(0, 2, 3, 1))
    if bias is not None:
        put(conv.bias, node.array(bias, "the bias"))
    return node.layer(conv, x)


def linear(node: Node, x: Value, weight: np.ndarray, bias: np.ndarray | None) -> Value:
    """weight (out, in) and bias, which may be a scalar, of the file."""
    if x.x.ndim != 2:
        raise node.refuse(f"it wants rows (N, features), its input is {x.x.shape}")
    layer = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
    put(layer.weight, reordered(weight, x))
    if bias is not None:
        put(layer.bias, np.broadcast_to(bias, (1, len(weight)))[0])
    return node.then(layer, x, SAME)


@operator
def Gemm(node, x, weight, bias=None):
    if node.get("transA", 0) or not isinstance(x, Value):
        raise node.refuse("its first matrix must be the rows, as they are")
    weight = node.array(weight, "the weight") * np.float32(node.get("alpha", 1.0))
    if bias is not None:
        bias = node.array(bias, "the bias") * np.float32(node.get("beta", 1.0))
    return linear(node, x, weight if node.get("transB", 0) else weight.T, bias)


@operator
def MatMul(node, x, weight):
    if not isinstance(x, Value):
        raise node.refuse("its first matrix must be the rows")
    return linear(node, x, node.array(weight, "the weight").T, None)


@chain("MatMul", "Add")
def matmul_add(product, total):
    x, weight = product.inputs
    others = [value for value in total.inputs if isinstance(value, np.ndarray)]
    if not isinstance(x, Value) or not isinstance(weight, np.ndarray) or len(others) != 1 or weight.ndim != 2:
        return None
    return linear(product, x, weight.T, others[0])


@operator
def BatchNormalization(node, x, *arrays):
    if node.get("training_mode", 0):
        raise node.refuse("it is in training mode")
    arrays = [node.array(each, "each of its arrays") for each in arrays]
    kind = nn.BatchNorm2d if x.layout is IMAGES else nn.BatchNorm1d
    norm = kind(len(arrays[0]), node.get("epsilon", 1e-5), 1 - node.get("momentum", 0.9))
    for tensor, array in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), arrays, strict=True):
        put(tensor, reordered(array, x))
    return node.layer(norm, x)


@operator
def MaxPool(node, x):
    size, stride, padding, dilation = window(node, node.images(x).x, node.get("kernel_shape"))
    if dilation != (1, 1):
        raise node.refuse(f"dilations {dilation}: windows of pools lie close here")
    return node.layer(nn.MaxPool2d(size, stride, padding, bool(node.get("ceil_mode", 0))), x)


@operator
def AveragePool(node, x, padded=(0, 0)):
    """padded: of a Pad in front of it, whose zeros always count."""
    size, stride, padding, dilation = window(node, node.images(x).x, node.get("kernel_shape"))
    if dilation != (1, 1) or (any(padded) and any(padding)):
        raise node.refuse("dilations, and padding twice, have no counterpart here")
    counts = bool(node.get("count_include_pad", 0)) or any(padded)
    padding = padded if any(padded) else padding
    return node.layer(nn.AvgPool2d(size, stride, padding, bool(node.get("ceil_mode", 0)), counts), x)


@chain("Pad", "Conv")
def pad_conv(pad, conv):
    padding = padding_of(pad)
    return padding and Conv(conv, pad.inputs[0], *conv.inputs[1:], padded=padding)


@chain("Pad", "AveragePool")
def pad_average(pad, pool):
    padding = padding_of(pad)
    return padding and AveragePool(pool, pad.inputs[0], padded=padding)


def padding_of(pad: Node) -> tuple[int, int] | None:
    """(height, width) of a Pad with zeros, the same on both sides of an image; None of another."""
    _, pads, *rest = [*pad.inputs, pad.get("pads")]
    pads, fill = np.asarray(pads).tolist(), [value for value in rest[:-1] if value is not None]
    one_sided = len(pads) != 8 or pads[:4] != pads[4:] or any(pads[:2])
    return None if one_sided or pad.get("mode", "constant") != "constant" or np.any(fill) else tuple(pads[2:4])


@chain("Slice", "Pad")
def pad_shortcut(cut, pad):
    """Every stride-th pixel, and zeros for the new channels."""
    x, starts, _, axes, steps = cut.inputs
    pads = np.asarray(pad.inputs[1]).tolist()
    kept, added = pads[:1] + pads[2:5] + pads[6:], pads[5]
    if axes.tolist() != [2, 3] or any(starts) or len(set(steps.tolist())) != 1 or any(kept) or pads[1]:
        return None
    channels = x.x.shape[3]
    return cut.layer(nn.PadShortcut(channels, channels + added, int(steps[0])), x)


@operator
def GlobalAveragePool(node, x):
    return node.layer(nn.AdaptiveAvgPool2d(1), node.images(x))


@operator
def GlobalMaxPool(node, x):
    return node.layer(nn.MaxPool2d(node.images(x).x.shape[1:3]), x)


@operator
def ReduceMean(node, x, axes=None):
    """Over height and width."""
    axes = node.get("axes") if axes is None else node.array(axes, "the axes").tolist()
    if x.layout is not IMAGES or sorted(axis % 4 for axis in axes or []) != [2, 3]:
        raise node.refuse("only means over height and width have a counterpart here")
    mean = node.layer(nn.AdaptiveAvgPool2d(1), x)
    return mean if node.get("keepdims", 1) else node.then(nn.Flatten(), mean, SAME)


@operator
def LRN(node, x):
    size, alpha, beta, k = node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    kind = nn.LocalResponseNorm if size % 2 else nn.MirroredLocalResponseNorm
    return node.layer(kind(size, alpha, beta, k), node.images(x))


@chain("Reshape", "LRN", "Reshape")
def grouped_lrn(apart, lrn, together):
    """Each group of channels as an image of its own."""
    (x, group), (_, whole) = apart.inputs, sorted_inputs(together)
    if not isinstance(x, Value) or x.layout is not IMAGES or not isinstance(group, np.ndarray) or whole is None:
        return None
    (_, h, w, c), size = x.x.shape, lrn.get("size")
    if group.tolist() != [-1, group[1], h, w] or whole.tolist() != [-1, c, h, w] or c % group[1] or size % 2 == 0:
        return None
    constants = lrn.get("alpha", 1e-4), lrn.get("beta", 0.75), lrn.get("bias", 1.0)
    return lrn.layer(nn.LocalResponseNorm(size, *constants, groups=int(c // group[1])), x)


def element_wise(name: str, module: Callable[[], nn.Module]) -> None:
    OPERATORS[name] = lambda node, x: node.layer(module(), x)


element_wise("Relu", nn.ReLU)
element_wise("Sigmoid", nn.Sigmoid)
element_wise("Tanh", nn.Tanh)


@operator
def Identity(node, x):
    return x


@operator
def Dropout(node, x, ratio=None, _training=None):
    p = node.get("ratio", 0.5) if ratio is None else float(node.array(ratio, "the ratio"))
    return node.layer(nn.Dropout(p), x)


def axis_here(node: Node, axis: int, x: Value) -> int:
    axis %= x.x.ndim
    return (0, 3, 1, 2)[axis] if x.layout is IMAGES else axis


@operator
def Softmax(node, x):
    """Before opset 13 all axes from `axis` on were one."""
    old = node.walk.opset < 13
    if old and x.x.ndim != 2:
        raise node.refuse("before opset 13 it goes over several axes at once: only rows have a counterpart here")
    return node.layer(nn.Softmax(axis_here(node, node.get("axis", 1 if old else -1), x)), x)


def same_layout(node: Node, values) -> None:
    if not all(isinstance(value, Value) for value in values):
        raise node.refuse("a constant as an operand has no layer here")
    if len({value.layout for value in values}) > 1:
        raise node.refuse("its inputs are images and something else")


@operator
def Concat(node, *values):
    same_layout(node, values)
    axis, first = axis_here(node, node.get("axis"), values[0]), values[0]
    join = nn.Concatenate(axis)
    if all(value.order is None for value in values):
        return node.layer(join, *values)
    starts = np.cumsum([0] + [value.x.shape[1] for value in values])
    orders = [np.arange(value.x.shape[1]) if value.order is None else value.order for value in values]
    order = np.concatenate([start + order for start, order in zip(starts, orders, strict=False)])
    return node.walk.apply(join, list(values), first.layout, order)


@operator
def Add(node, *values):
    same_layout(node, values)
    if len(values) != 2 or values[0].x.shape != values[1].x.shape:
        raise node.refuse(f"its inputs are {', '.join(str(value.x.shape) for value in values)}, not two of one shape")
    orders = [value.order for value in values]
    if not (orders[0] is orders[1] is None or np.array_equal(*orders)):
        raise node.refuse("its inputs are maps that were flattened in different orders")
    return node.layer(nn.Add(), *values)


OPERATORS["Sum"] = Add


@operator
def Transpose(node, x):
    """Between (N, C, H, W) and (N, H, W, C): the same images here."""
    wanted = TO_LAST if x.layout is IMAGES else TO_SECOND
    if node.get("perm") != wanted:
        raise node.refuse(
            f"perm {node.get('perm')}: only {TO_LAST} of images, and the way back, have a counterpart here"
        )
    return x._replace(layout=SAME if x.layout is IMAGES else IMAGES)


@operator
def Flatten(node, x):
    if node.get("axis", 1) not in (1, 1 - x.x.ndim):
        raise node.refuse(f"axis {node.get('axis')}: maps are flattened from axis 1 on here")
    return flat(node, x)


def flat(node: Node, x: Value) -> Value:
    """(N, rest); of images the order of the rest in the file is (C, H, W)."""
    if x.x.ndim == 2:
        return x
    _, h, w, c = x.x.shape
    if x.layout is SAME or h * w == 1:
        return node.then(nn.Flatten(), x, SAME)
    order = np.arange(c * h * w).reshape(c, h, w).transpose(1, 2, 0).reshape(-1)
    return node.then(nn.Flatten(), x, SAME, order)


@operator
def Reshape(node, x, shape):
    """To (N, features) only."""
    extents = node.array(shape, "the shape").tolist()
    if len(extents) != 2 or extents[1] not in (-1, x.x.size) or (extents[0] not in (0, 1, -1)):
        raise node.refuse(f"shape {extents}: maps become rows (N, {x.x.size}) here, and nothing else")
    return flat(node, x)


@operator
def Squeeze(node, x, axes=None):
    axes = node.get("axes") if axes is None else node.array(axes, "the axes").tolist()
    if x.layout is not IMAGES or x.x.shape[1:3] != (1, 1) or sorted(axis % 4 for axis in axes or []) != [2, 3]:
        raise node.refuse("only height and width of a map of one pixel")
    return flat(node, x)


@operator
def Shape(node, x):
    """As a constant: the batch is of one."""
    shape = x.x.shape
    return np.array([shape[0], shape[3], *shape[1:3]] if x.layout is IMAGES else shape)


@chain("Mul", "Tanh", "Mul")
def scaled_tanh(slope, _tanh, amplitude):
    (x, factor), (_, outer) = sorted_inputs(slope), sorted_inputs(amplitude)
    expected = np.float32(nn.ScaledTanh.slope), np.float32(nn.ScaledTanh.amplitude)
    if factor is None or outer is None or factor.size != 1 or (factor.item(), outer.item()) != expected:
        return None
    return slope.layer(nn.ScaledTanh(), x)


def sorted_inputs(node: Node) -> tuple:
    """(value, constant) of a node of two inputs, in either order; None for what is not there."""
    values, arrays = ([v for v in node.inputs if isinstance(v, kind)] for kind in (Value, np.ndarray))
    return next(iter(values), None), next(iter(arrays), None)


@chain("AveragePool", "Mul", "Add")
def subsampling(pool, scale, shift):
    (x,) = pool.inputs
    size, stride, padding, _ = window(pool, pool.images(x).x, pool.get("kernel_shape"))
    (_, weight), (_, bias) = sorted_inputs(scale), sorted_inputs(shift)
    if weight is None or bias is None or size != stride or size[0] != size[1] or any(padding):
        return None
    channels = x.x.shape[3]
    if weight.shape != (channels, 1, 1) or bias.shape != (channels, 1, 1) or pool.get("ceil_mode", 0):
        return None
    layer = nn.Subsampling2d(channels, size[0])
    put(layer.weight, weight.reshape(-1) / size[0] ** 2)
    put(layer.bias, bias.reshape(-1))
    return pool.layer(layer, x)


@chain("Unsqueeze", "Sub", "Mul", "ReduceSum", "Neg")
def radial_basis(rows, difference, square, total, _negative):
    (x, _), (_, codes) = rows.inputs, sorted_inputs(difference)
    axes = np.asarray(total.inputs[1]).tolist()
    if codes is None or codes.ndim != 2 or set(square.proto.input) != {difference.output} or axes != [2]:
        return None
    return rows.then(nn.RadialBasis(reordered(codes, x)), x, SAME)
