"""Networks as ONNX files: the layers that run in evaluation, in the layout that ONNX wants, (N, C, H, W)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicnn import nn
from minicnn.autograd import no_grad
from minicnn.checkpoint import replacing
from minicnn.creation import tensor
from minicnn.models import Network
from minicnn.shapes import pair
from minicnn.tensor import Tensor

OPSET = 17  # every operator that is used here has meant the same since opset 13


class ExportError(ValueError):
    """A network that ONNX has no operators for, or that does more than its layers say."""


@no_grad()
def export_onnx(network: nn.Module, path: str | Path, input_shape: tuple[int, ...] | None = None) -> None:
    """Write `network`, as it computes in evaluation, to an ONNX file: input "x", output "y", any batch size.

    input_shape  of one x, (N, H, W, C) or (N, features), of which N does not matter; by default that which a network of
                 minicnn.models was built for. Images enter the file's graph as (N, C, H, W), normalised as in training
                 (minicnn/data/transforms.py): the graph begins behind that

    The file has opset 17 and float32 weights in itself. It is checked by ONNX's own checker before it is written.

    Raises ExportError that names the layer where an operation is not a layer of minicnn.nn or has no counterpart, ValueError
    without a shape, CheckpointError where the file cannot be written, ModuleNotFoundError without the package onnx
    (`pip install minicnn[onnx]`).
    """
    import onnx
    from onnx import helper

    if input_shape is None and not isinstance(network, Network):
        raise ValueError("export_onnx: pass input_shape, (N, H, W, C); only networks of minicnn.models know theirs")
    if input_shape is None:
        size = network.options["image_size"]
        input_shape = (1, size, size, network.options["in_channels"])
    place = next((p.device for p in network.parameters()), "cpu")
    graph = _Graph(helper, tensor(np.zeros((1, *input_shape[1:]), np.float32), device=place))
    y = graph.follow(network)
    nodes = [*graph.nodes, helper.make_node("Identity", [graph.name_of(y, network, "the network")], ["y"])]
    made = helper.make_graph(
        nodes,
        getattr(network, "name", type(network).__name__),
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *_outside(input_shape)[1:]])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", *_outside(y.shape)[1:]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(made, producer_name="minicnn", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8  # of opset 17: runtimes that know the one know the other
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as partial:
        partial.write_bytes(model.SerializeToString())


def _outside(shape) -> tuple[int, ...]:
    """A shape of ours as ONNX has it: images (N, C, H, W), all else as it is."""
    return (shape[0], shape[3], *shape[1:3]) if len(shape) == 4 else tuple(shape)


class _Graph:
    """The nodes so far. Tensors are known by what they are, not by name: `names` maps a tensor's identity to its value's."""

    def __init__(self, helper, x: Tensor):
        self.helper, self.x = helper, x
        self.nodes, self.constants = [], {}
        self.names = {id(x): "x"}
        self.kept = [x]  # so that no identity is used twice

    def follow(self, network: nn.Module) -> Tensor:
        """Run the network in evaluation; every layer that runs adds its nodes."""
        training = {module: module.training for _, module in network.named_modules()}
        with contextlib.ExitStack() as stack:
            for path, module in network.eval().named_modules():
                if type(module) in NODES:
                    stack.callback(module.register_forward_hook(self._hook(path)))
                elif not (isinstance(module, nn.Sequential) or any(True for _ in module.children())):
                    stack.callback(module.register_forward_hook(self._refuse(path)))
            try:
                return network(self.x)
            finally:
                for module, mode in training.items():
                    module.training = mode

    def _hook(self, path: str) -> Callable:
        def add(module, inputs, y):
            names = [self.name_of(x, module, path) for x in inputs]
            self.path = path
            if id(y) not in self.names:
                self.names[id(y)] = NODES[type(module)](self, module, names, inputs, y)
                self.kept.append(y)

        return add

    def _refuse(self, path: str) -> Callable:
        def refuse(module, _inputs, _y):
            raise ExportError(f"{path}: {type(module).__name__} has no counterpart in ONNX here")

        return refuse

    def name_of(self, x: Tensor, module: nn.Module, path: str) -> str:
        if id(x) not in self.names:
            raise ExportError(
                f"{path}: what {type(module).__name__} sees was computed by no layer of minicnn.nn: write that part as a "
                "Module, or use the layer of its name"
            )
        return self.names[id(x)]

    def constant(self, name: str, array) -> str:
        """An array of the file, named after the layer at hand."""
        name = f"{self.path}.{name}"
        self.constants[name] = np.ascontiguousarray(array, None if np.asarray(array).dtype == np.int64 else np.float32)
        return name

    def node(self, operator: str, inputs: list[str], **attributes) -> str:
        """Add one; the name of its result."""
        result = f"{self.path}.{operator}" if self.path else operator
        result += str(sum(node.op_type == operator for node in self.nodes))
        self.nodes.append(self.helper.make_node(operator, inputs, [result], **attributes))
        return result


def _window(size, stride, padding, ceil_mode=False) -> dict:
    height, width = pair(padding, "padding", 0)
    window = {"kernel_shape": pair(size, "kernel_size", 1), "strides": pair(stride, "stride", 1)}
    return window | {"pads": [height, width, height, width]} | ({"ceil_mode": 1} if ceil_mode else {})


def _bias(graph: _Graph, bias) -> list[str]:
    return [] if bias is None else [graph.constant("bias", bias.numpy())]


def _conv2d(graph, layer, names, _inputs, _y):
    weight = graph.constant("weight", layer.weight.numpy().transpose(0, 3, 1, 2))
    options = _window(layer.kernel_size, layer.stride, layer.padding) | {"group": layer.groups}
    options["dilations"] = pair(layer.dilation, "dilation", 1)
    return graph.node("Conv", [*names, weight, *_bias(graph, layer.bias)], **options)


def _partial_conv2d(graph, layer, names, _inputs, _y):
    weight = graph.constant("weight", layer.dense_weight().numpy().transpose(0, 3, 1, 2))
    options = _window(layer.kernel_size, layer.stride, layer.padding)
    return graph.node("Conv", [*names, weight, graph.constant("bias", layer.bias.numpy())], **options)


def _linear(graph, layer, names, _inputs, _y):
    weight = graph.constant("weight", layer.weight.numpy())
    return graph.node("Gemm", [*names, weight, *_bias(graph, layer.bias)], transB=1)


def _batch_norm(graph, layer, names, _inputs, _y):
    arrays = ("weight", "bias", "running_mean", "running_var")
    constants = [graph.constant(name, getattr(layer, name).numpy()) for name in arrays]
    return graph.node("BatchNormalization", [*names, *constants], epsilon=layer.eps)


def _max_pool2d(graph, layer, names, _inputs, _y):
    return graph.node("MaxPool", names, **_window(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode))


def _avg_pool2d(graph, layer, names, _inputs, _y):
    options = _window(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
    return graph.node("AveragePool", names, **options, count_include_pad=int(layer.count_include_pad))


def _adaptive_avg_pool2d(graph, layer, names, inputs, y):
    (_, h, w, _), (_, p, q, _) = inputs[0].shape, y.shape
    if h % p or w % q:
        raise ExportError(
            f"{graph.path}: windows over {h}x{w} that give {p}x{q} are not all of one size: ONNX has none"
        )
    return graph.node("AveragePool", names, **_window((h // p, w // q), (h // p, w // q), 0))


def _local_response_norm(graph, layer, names, inputs, _y):
    if layer.size % 2 == 0:
        raise ExportError(f"{graph.path}: a window of {layer.size} channels lies otherwise in ONNX; odd ones agree")
    alpha = layer.alpha * (layer.size if layer.dialect == "sum" else 1)  # ONNX takes the mean over the window
    options = {"size": layer.size, "alpha": alpha, "beta": layer.beta, "bias": layer.k}
    if layer.groups == 1:
        return graph.node("LRN", names, **options)
    _, h, w, c = inputs[0].shape  # a group becomes an image of its own
    apart, together = (
        graph.constant(name, np.array([-1, k, h, w])) for name, k in (("apart", c // layer.groups), ("together", c))
    )
    return graph.node("Reshape", [graph.node("LRN", [graph.node("Reshape", [*names, apart])], **options), together])


def _mirrored_local_response_norm(graph, layer, names, _inputs, _y):
    return graph.node("LRN", names, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)


def _flatten(graph, layer, names, inputs, _y):
    if layer.start_dim != 1:
        raise ExportError(f"{graph.path}: Flatten from axis {layer.start_dim}: only from axis 1")
    if inputs[0].ndim == 4:  # our order is height, width, channel
        names = [graph.node("Transpose", names, perm=(0, 2, 3, 1))]
    return graph.node("Flatten", names)


def _axis(graph, axis: int, ndim: int) -> int:
    """An axis of ours in ONNX's layout."""
    axis %= ndim
    return (0, 2, 3, 1)[axis] if ndim == 4 else axis


def _concatenate(graph, layer, names, inputs, _y):
    return graph.node("Concat", names, axis=_axis(graph, layer.axis, inputs[0].ndim))


def _softmax(graph, layer, names, inputs, _y):
    return graph.node("Softmax", names, axis=_axis(graph, layer.dim, inputs[0].ndim))


def _element_wise(operator: str) -> Callable:
    return lambda graph, _layer, names, _inputs, _y: graph.node(operator, names)


def _scaled_tanh(graph, layer, names, _inputs, _y):
    slope, amplitude = (graph.constant(name, getattr(layer, name)) for name in ("slope", "amplitude"))
    return graph.node("Mul", [graph.node("Tanh", [graph.node("Mul", [*names, slope])]), amplitude])


def _subsampling2d(graph, layer, names, _inputs, _y):
    mean = graph.node("AveragePool", names, **_window(layer.kernel_size, layer.kernel_size, 0))
    scale = layer.weight.numpy() * layer.kernel_size**2
    scaled = graph.node("Mul", [mean, graph.constant("weight", scale.reshape(-1, 1, 1))])
    return graph.node("Add", [scaled, graph.constant("bias", layer.bias.numpy().reshape(-1, 1, 1))])


def _radial_basis(graph, layer, names, _inputs, _y):
    one = graph.constant("axis", np.array([1]))
    difference = graph.node(
        "Sub", [graph.node("Unsqueeze", [*names, one]), graph.constant("codes", layer.codes.numpy())]
    )
    square = graph.node("Mul", [difference, difference])
    return graph.node("Neg", [graph.node("ReduceSum", [square, graph.constant("axes", np.array([2]))], keepdims=0)])


def _pad_shortcut(graph, layer, names, _inputs, _y):
    bounds = {"starts": [0, 0], "ends": [2**31 - 1] * 2, "axes": [2, 3], "steps": [layer.stride] * 2}
    slice_of = [graph.constant(name, np.array(values)) for name, values in bounds.items()]
    pads = graph.constant("pads", np.array([0, 0, 0, 0, 0, layer.added, 0, 0]))
    return graph.node("Pad", [graph.node("Slice", [*names, *slice_of]), pads])


NODES: dict[type, Callable] = {
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    nn.Add: _element_wise("Add"),
    nn.AvgPool2d: _avg_pool2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Concatenate: _concatenate,
    nn.Conv2d: _conv2d,
    nn.Dropout: _element_wise("Identity"),
    nn.Flatten: _flatten,
    nn.Linear: _linear,
    nn.LocalResponseNorm: _local_response_norm,
    nn.MaxPool2d: _max_pool2d,
    nn.MirroredLocalResponseNorm: _mirrored_local_response_norm,
    nn.PadShortcut: _pad_shortcut,
    nn.PartialConv2d: _partial_conv2d,
    nn.RadialBasis: _radial_basis,
    nn.ReLU: _element_wise("Relu"),
    nn.ScaledTanh: _scaled_tanh,
    nn.Sigmoid: _element_wise("Sigmoid"),
    nn.Softmax: _softmax,
    nn.Subsampling2d: _subsampling2d,
    nn.Tanh: _element_wise("Tanh"),
}
