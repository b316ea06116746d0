"""ONNX graphs computed by our ops: for each operator of theirs that we have, one function.

ONNX puts channels second, so images and filters are permuted on the way in and out, by our own op. Signals (N, C, W) are
images of height 1.
"""

import functools
import math

import numpy as np

import minicnn
from minicnn import functional

try:
    import onnx
except ImportError:  # tests that compute graphs ask for the fixture `onnx` first
    onnx = None

# Why a case is left out: what it asks for and the ops do not have.
DTYPE = "of another dtype than float32"
VOLUMES = "with three spatial axes"
ONE_SIDED = "with more padding on one side than on the other"
DILATED_POOLING = "of dilated pooling"
PLACES = "that return the places of maxima or a mask"
WEIGHTED = "with class weights or an ignored class"
RANDOM = "with NumPy's random numbers"
NO_MATRIX = "of products of other than two matrices"
EXPONENTS = "with an exponent for each element"
NOTHING = "of the maximum of nothing"
BACKWARD = "of slices that step backward"


class LeftOut(Exception):
    """Our ops do not have what this case asks for; the message is the reason."""


OPERATORS = {}


def operator(function):
    """Register a function (node, *inputs) -> output or tuple of outputs under its name in ONNX, which is its own."""
    OPERATORS[function.__name__] = function
    return function


class Node:
    """One node: attributes as Python values, the version of its operator set, and which outputs are asked for."""

    def __init__(self, proto, version: int):
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        self.version, self.inputs, self.outputs, self.type = (
            version,
            list(proto.input),
            list(proto.output),
            proto.op_type,
        )

    def get(self, name: str, default=None):
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value


def compute(model, inputs, device) -> list[np.ndarray]:
    """The outputs of a model's graph for these host arrays, by our ops on `device`. Raises LeftOut."""
    graph = model.graph
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    values = {"": None} | {v.name: onnx.numpy_helper.to_array(v) for v in graph.initializer}
    fed = [v.name for v in graph.input if v.name not in values]
    values |= dict(zip(fed, inputs, strict=True))
    values = {name: placed(value, device) for name, value in values.items()}
    for proto in graph.node:
        node = Node(proto, version)
        node.values, node.device = values, device
        arguments = [values[name] for name in node.inputs]
        results = OPERATORS[node.type](node, *arguments)
        results = results if isinstance(results, tuple) else (results,)
        values |= zip(node.outputs, results, strict=False)
    return [v.numpy() if isinstance(v, minicnn.Tensor) else v for v in (values[o.name] for o in graph.output)]


def placed(value, device):
    """float32 as a tensor that requires a gradient; what else there is (axes, shapes, classes) stays on the host."""
    if value is None or value.dtype != np.float32:
        return value
    return minicnn.tensor(value, device=device, requires_grad=True)


def require_tensors(*values):
    if not all(isinstance(value, minicnn.Tensor) for value in values):
        raise LeftOut(DTYPE)


def channels_last(x):
    """(N, C, ...) -> (N, ..., C)."""
    return x.permute(0, *range(2, x.ndim), 1)


def channels_second(x):
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def on_images(function):
    """function(x (N, H, W, C), ...) as one of x (N, C, H, W), or of (N, C, W) as images of height 1."""

    def of_channels_second(x, *arguments, **options):
        require_tensors(x)
        if x.ndim == 5:
            raise LeftOut(VOLUMES)
        y = channels_second(function(channels_last(as_images(x)), *arguments, **options))
        return y.reshape(*y.shape[:2], y.shape[3]) if x.ndim == 3 else y

    return of_channels_second


def as_images(x):
    return x.reshape(*x.shape[:2], 1, x.shape[2]) if x.ndim == 3 else x


def window(node, x, kernel_shape) -> dict[str, tuple[int, int]]:
    """size, stride, padding and dilation along height and width, as pairs; height 1 is added to signals."""
    axes = x.ndim - 2
    if axes == 3:
        raise LeftOut(VOLUMES)
    strides, dilations = (node.get(name) or [1] * axes for name in ("strides", "dilations"))
    before, after = paddings(node, x.shape[2:], kernel_shape, strides, dilations)
    if before != after:
        raise LeftOut(ONE_SIDED)
    fill = 2 - axes
    return {
        "size": (1,) * fill + tuple(kernel_shape),
        "stride": (1,) * fill + tuple(strides),
        "padding": (0,) * fill + tuple(before),
        "dilation": (1,) * fill + tuple(dilations),
    }


def paddings(node, extents, sizes, strides, dilations):
    """(in front, behind) along each axis; "same" pads as much as makes ceil(extent / stride) windows."""
    automatic, axes = node.get("auto_pad", "NOTSET"), len(extents)
    if automatic == "NOTSET":
        pads = list(node.get("pads") or [0] * 2 * axes)
        return pads[:axes], pads[axes:]
    totals = [
        0 if automatic == "VALID" else max((-(-extent // stride) - 1) * stride + dilation * (size - 1) + 1 - extent, 0)
        for extent, size, stride, dilation in zip(extents, sizes, strides, dilations, strict=True)
    ]
    return [total // 2 for total in totals], [total - total // 2 for total in totals]


@operator
def Conv(node, x, weight, bias=None):
    require_tensors(x, weight)
    options = window(node, x, weight.shape[2:])
    del options["size"]
    filters = channels_last(as_images(weight))
    return on_images(functional.conv2d)(x, filters, bias, groups=node.get("group", 1), **options)


def pooling(function):
    def pool(node, x, **options):
        require_tensors(x)
        if len(node.outputs) > 1:
            raise LeftOut(PLACES)
        shape = window(node, x, node.get("kernel_shape"))
        if shape["dilation"] != (1, 1):
            raise LeftOut(DILATED_POOLING)
        options["ceil_mode"] = bool(node.get("ceil_mode", 0))
        return on_images(function)(x, shape["size"], shape["stride"], shape["padding"], **options)

    return pool


@operator
def MaxPool(node, x):
    return pooling(functional.max_pool2d)(node, x)


@operator
def AveragePool(node, x):
    return pooling(functional.avg_pool2d)(node, x, count_include_pad=bool(node.get("count_include_pad", 0)))


@operator
def GlobalAveragePool(node, x):
    return on_images(functional.adaptive_avg_pool2d)(x, 1)


@operator
def GlobalMaxPool(node, x):
    return on_images(lambda x: functional.max_pool2d(x, x.shape[1:3]))(x)


@operator
def LRN(node, x):
    size, options = node.get("size"), {"beta": node.get("beta", 0.75), "k": node.get("bias", 1.0)}
    return on_images(functional.local_response_norm)(x, size, node.get("alpha", 1e-4), **options)


@operator
def BatchNormalization(node, x, weight, bias, mean, variance):
    """ONNX's momentum weighs the old statistics, and its variance of the batch is the biased one."""
    require_tensors(x, weight, bias, mean, variance)
    running = [minicnn.tensor(v.numpy(), device=node.device) for v in (mean, variance)]
    kept, training = node.get("momentum", 0.9), bool(node.get("training_mode", 0))
    options = {"training": training, "momentum": 1 - kept, "eps": node.get("epsilon", 1e-5)}
    y = channels_second(functional.batch_norm(channels_last(x), *running, weight, bias, **options))
    if not training:
        return y
    rows, before = x.size // x.shape[1], kept * variance.numpy()
    return y, running[0], before + (running[1].numpy() - before) * (rows - 1) / rows


def unary(name, function):
    def apply(node, x):
        require_tensors(x)
        return function(x)

    OPERATORS[name] = apply


unary("Relu", functional.relu)
unary("Tanh", functional.tanh)
unary("Sigmoid", functional.sigmoid)
unary("Exp", lambda x: x.exp())
unary("Log", lambda x: x.log())
unary("Sqrt", lambda x: x.sqrt())
unary("Neg", lambda x: -x)
unary("Reciprocal", lambda x: 1 / x)


def softmax_like(name, function):
    def apply(node, x):
        """Before version 13 all axes from `axis` on were one."""
        require_tensors(x)
        if node.version >= 13:
            return function(x, dim=node.get("axis", -1))
        axis = node.get("axis", 1) % x.ndim
        return function(x.reshape(math.prod(x.shape[:axis]), -1)).reshape(x.shape)

    OPERATORS[name] = apply


softmax_like("Softmax", functional.softmax)
softmax_like("LogSoftmax", functional.log_softmax)


@operator
def SoftmaxCrossEntropyLoss(node, scores, labels, weights=None):
    require_tensors(scores)
    if weights is not None or "ignore_index" in node.attributes:
        raise LeftOut(WEIGHTED)
    logits = channels_last(scores).reshape(-1, scores.shape[1])
    target = minicnn.tensor(labels.reshape(-1).astype(np.int64), device=node.device)
    loss = functional.cross_entropy(logits, target, reduction=node.get("reduction", "mean"))
    return loss.reshape(labels.shape) if loss.ndim else loss, functional.log_softmax(scores, dim=1)


@operator
def Dropout(node, x, ratio=None, training=None):
    require_tensors(x)
    if len(node.outputs) > 1:
        raise LeftOut(PLACES)
    p = node.get("ratio", 0.5) if ratio is None else ratio.item()
    if training is not None and training.item() and p > 0:
        raise LeftOut(RANDOM)
    return functional.dropout(x, p, training=training is not None and bool(training.item()))


def arithmetic(name, function):
    def apply(node, a, b):
        require_tensors(a, b)
        return function(a, aligned(node, a, b))

    OPERATORS[name] = apply


def aligned(node, a, b):
    """Before version 7, `axis` said with which axis of a the axes of b begin."""
    axis = node.get("axis")
    return b if axis is None else b.reshape(*b.shape, *[1] * (a.ndim - axis % a.ndim - b.ndim))


arithmetic("Add", lambda a, b: a + b)
arithmetic("Sub", lambda a, b: a - b)
arithmetic("Mul", lambda a, b: a * b)
arithmetic("Div", lambda a, b: a / b)


@operator
def Pow(node, x, exponent):
    require_tensors(x)
    if exponent.size != 1:
        raise LeftOut(EXPONENTS)
    return x ** exponent.item()


@operator
def Sum(node, *terms):
    require_tensors(*terms)
    return functools.reduce(lambda a, b: a + b, terms)


@operator
def Mean(node, *terms):
    return Sum(node, *terms) / len(terms)


@operator
def MatMul(node, a, b):
    require_tensors(a, b)
    if (a.ndim, b.ndim) != (2, 2):
        raise LeftOut(NO_MATRIX)
    return a @ b


@operator
def Gemm(node, a, b, c=None):
    """alpha * op(a) op(b) + beta * c: a fully connected layer where it is one."""
    require_tensors(a, b)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.transpose(0, 1) if node.get("transA", 0) else a
    if node.get("transB", 0) and alpha == beta == 1 and c is not None and c.shape == b.shape[:1]:
        return functional.linear(a, b, c)
    product = alpha * (a @ (b.transpose(0, 1) if node.get("transB", 0) else b))
    return product if c is None else product + beta * c


def reduction(name, method):
    def apply(node, x, axes=None):
        require_tensors(x)
        axes = node.get("axes") if axes is None else axes.tolist()
        if not axes and node.get("noop_with_empty_axes", 0):
            return x
        if method == "max" and x.size == 0:
            raise LeftOut(NOTHING)
        return getattr(x, method)(axis=tuple(axes) if axes else None, keepdims=bool(node.get("keepdims", 1)))

    OPERATORS[name] = apply


reduction("ReduceSum", "sum")
reduction("ReduceMean", "mean")
reduction("ReduceMax", "max")


@operator
def Concat(node, *parts):
    require_tensors(*parts)
    return functional.concatenate(parts, axis=node.get("axis"))


@operator
def Reshape(node, x, shape):
    require_tensors(x)
    kept = 0 if node.get("allowzero", 0) else None
    return x.reshape(*(x.shape[i] if extent == 0 and kept is None else int(extent) for i, extent in enumerate(shape)))


@operator
def Flatten(node, x):
    require_tensors(x)
    axis = node.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator
def Transpose(node, x):
    require_tensors(x)
    return x.permute(node.get("perm") or list(reversed(range(x.ndim))))


@operator
def Squeeze(node, x, axes=None):
    require_tensors(x)
    gone = {axis % x.ndim for axis in (node.get("axes") if axes is None else axes.tolist())}
    return x.reshape([extent for axis, extent in enumerate(x.shape) if axis not in gone])


@operator
def Unsqueeze(node, x, axes=None):
    require_tensors(x)
    added = node.get("axes") if axes is None else axes.tolist()
    ndim = x.ndim + len(added)
    added, extents = {axis % ndim for axis in added}, iter(x.shape)
    return x.reshape([1 if axis in added else next(extents) for axis in range(ndim)])


@operator
def Slice(node, x, *given):
    require_tensors(x)
    starts, ends, axes, steps = (
        (*given, None, None, None, None)[:4] if given else map(node.get, ("starts", "ends", "axes", "steps"))
    )
    axes, steps = range(len(starts)) if axes is None else axes, [1] * len(starts) if steps is None else steps
    if min(steps) < 0:
        raise LeftOut(BACKWARD)
    key = [slice(None)] * x.ndim
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        key[axis] = slice(*map(int, bounds))
    return x[tuple(key)]


@operator
def Split(node, x, sizes=None):
    require_tensors(x)
    axis, count = node.get("axis", 0), len(node.outputs)
    sizes = node.get("split") if sizes is None else sizes
    if sizes is None:
        largest = -(-x.shape[axis] // count)
        sizes = [largest] * (count - 1) + [x.shape[axis] - largest * (count - 1)]
    stops = np.cumsum(sizes)
    whole = [slice(None)] * (axis % x.ndim)
    return tuple(x[(*whole, slice(int(b - s), int(b)))] for s, b in zip(sizes, stops, strict=True))


@operator
def Constant(node):
    ((kind, value),) = node.attributes.items()
    if kind == "value":
        return placed(onnx.numpy_helper.to_array(value), node.device)
    return placed(np.array(value, np.float32 if kind.startswith("value_float") else np.int64), node.device)


@operator
def Gradient(node, *_):
    """The gradients of the value `y` of the graph with respect to the values `xs`."""
    y = node.values[node.get("y")]
    y.backward(np.ones(y.shape, np.float32))
    return tuple(node.values[name.decode()].grad for name in node.get("xs"))
