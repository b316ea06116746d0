"""Networks out of ONNX files: graphs in the layout (N, C, H, W) become modules of minicnn.nn, which compute in (N, H, W, C).

The graph is walked once, each operator applied to a batch of one zero image: so every shape is known, and what does not fit is
found here. minicnn/onnx_operators.py says what becomes of each operator.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import nn
from minicnn.autograd import no_grad
from minicnn.checkpoint import CheckpointError
from minicnn.creation import tensor
from minicnn.errors import OpError
from minicnn.onnx_operators import CHAINS, OPERATORS, Layout, Node, OnnxImportError, Value
from minicnn.tensor import Tensor


def load_onnx(path: str | Path, input_shape: tuple[int, ...] | None = None) -> nn.Module:
    """The network of an ONNX file, with its weights, in evaluation mode: nn.Sequential where the graph is a chain.

    input_shape  of one x in our layout, (N, H, W, C) or (N, features), of which N does not matter; needed where the file leaves
                 extents open

    Images enter it as (N, H, W, C), normalised as for whoever wrote the file, and leave it so. Weights are permuted: also those
    that read a flattened map, whose order is (C, H, W) in the file and (H, W, C) here. Convolution, linear layers, pooling,
    normalisation, activations, dropout, concatenation and sums are known, and every network that export_onnx writes.

    Raises OnnxImportError that names the node and the operator for what has no counterpart here, CheckpointError where the
    file cannot be read, ModuleNotFoundError without the package onnx (`pip install minicnn[onnx]`).
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as an ONNX file: {error}") from error
    with no_grad(), nn.init.skipped():
        return Walk(model, input_shape).network()


class Walk:
    """One walk through a model's graph: a value for each name, and the steps that make them."""

    def __init__(self, model, input_shape):
        from onnx import numpy_helper

        self.graph = model.graph
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.values = {"": None} | {each.name: numpy_helper.to_array(each) for each in self.graph.initializer}
        self.steps: list[Step] = []
        self.places = 0
        self.consumers: dict[str, list] = {}
        for proto in self.graph.node:
            for name in set(proto.input):
                self.consumers.setdefault(name, []).append(proto)
        self.input, self.output = self._only("input"), self._only("output")
        self.values[self.input.name] = self._zeros(input_shape)

    def _only(self, kind: str):
        entries = [entry for entry in getattr(self.graph, kind) if entry.name not in self.values]
        if len(entries) != 1:
            raise OnnxImportError(
                f"the graph has {len(entries)} {kind}s ({', '.join(e.name for e in entries)}), not one"
            )
        return entries[0]

    def _zeros(self, input_shape) -> Value:
        """A batch of one zero, in our layout."""
        extents = [entry.dim_value or None for entry in self.input.type.tensor_type.shape.dim][1:]
        users = self.consumers.get(self.input.name, [])
        last = bool(users) and all(Node(self, user).get("perm") == [0, 3, 1, 2] for user in users)
        layout = Layout.SAME if last or len(extents) != 3 else Layout.IMAGES
        ours = [*extents[1:], extents[0]] if layout is Layout.IMAGES else extents
        shape = ours if input_shape is None else list(input_shape[1:])
        if len(shape) not in (1, 3) or None in shape:
            raise OnnxImportError(
                f"input {self.input.name} has the shape (N, {', '.join(map(str, ours))}): pass input_shape"
            )
        if any(known not in (None, wanted) for known, wanted in zip(ours, shape, strict=True)):
            raise OnnxImportError(f"input_shape is {tuple(input_shape)}, the file has (N, {', '.join(map(str, ours))})")
        return self.value(tensor(np.zeros((1, *shape), np.float32)), layout)

    def value(self, x: Tensor, layout: Layout, order=None) -> Value:
        self.places += 1
        return Value(self.places - 1, x, layout, order)

    def apply(self, module: nn.Module, inputs: list[Value], layout: Layout, order=None) -> Value:
        """Add a step; the value that it makes."""
        y = self.value(module.eval()(*(value.x for value in inputs)), layout, order)
        self.steps.append(Step([module], [value.place for value in inputs], y.place))
        return y

    def network(self) -> nn.Module:
        done: set[int] = set()
        for proto in self.graph.node:
            if id(proto) not in done:
                done |= self._follow(proto)
        y = self.values[self.output.name]
        if not isinstance(y, Value):
            raise OnnxImportError(f"output {self.output.name} does not depend on the input")
        if y.order is not None:
            raise OnnxImportError(
                f"output {self.output.name} is a flattened map in the order (C, H, W): end the graph before it is flattened"
            )
        return joined(self.steps, y.place)

    def _follow(self, proto) -> set[int]:
        """Take this node, and the ones behind it that are one layer with it; the identities of those taken."""
        node = Node(self, proto)
        try:
            for operators, make in CHAINS:
                chain = self._chain(node, operators)
                if chain and (y := make(*chain)) is not None:
                    self.values[chain[-1].output] = y
                    return {id(each.proto) for each in chain}
            self.values[node.output] = self._single(node)
        except OpError as error:
            raise OnnxImportError(f"{node}: {error}") from error
        return {id(proto)}

    def _chain(self, node: Node, operators: tuple[str, ...]) -> list[Node] | None:
        """Nodes of these operators from this one on, each the only one that sees what the one before it makes."""
        chain = [node]
        for _ in operators[1:]:
            followers = self.consumers.get(chain[-1].output, [])
            if len(followers) != 1 or chain[-1].output == self.output.name:
                return None
            chain.append(Node(self, followers[0]))
        return chain if tuple(each.operator for each in chain) == operators else None

    def _single(self, node: Node):
        inputs = [self.values[name] for name in node.proto.input]
        if not any(isinstance(value, Value) for value in inputs):
            return self._constant(node, inputs)
        if node.operator not in OPERATORS:
            raise OnnxImportError(
                f"{node}: this operator has no counterpart here; known are {', '.join(sorted(OPERATORS))}"
            )
        if sum(bool(name) for name in node.proto.output) > 1:
            raise OnnxImportError(f"{node}: only its first output has a counterpart here")
        return OPERATORS[node.operator](node, *inputs)

    def _constant(self, node: Node, inputs: list) -> np.ndarray:
        """What depends on no input is computed here, by ONNX's own reference."""
        from onnx.reference import ReferenceEvaluator

        feeds = {name: value for name, value in zip(node.proto.input, inputs, strict=True) if name}
        return ReferenceEvaluator(node.proto, opsets={"": self.opset}).run(None, feeds)[0]


@dataclass
class Step:
    """Modules one behind another, from these places to that one."""

    modules: list[nn.Module]
    inputs: list[int]
    output: int


def joined(steps: list[Step], output: int) -> nn.Module:
    """The steps as a network. What only one step sees is handed on within a Sequential, which computes neighbours as one."""
    uses = Counter(place for step in steps for place in step.inputs) + Counter([output])
    ends: dict[int, Step] = {}  # the chains so far by the places that they write, in an order in which they can run
    for step in steps:
        before = ends.get(step.inputs[0])
        if before is not None and len(step.inputs) == len(before.inputs) == 1 and uses[before.output] == 1:
            del ends[before.output]
            step = Step(before.modules + step.modules, before.inputs, step.output)
        ends[step.output] = step
    chains = list(ends.values())
    if len(chains) == 1 and chains[0].inputs == [0]:
        return nn.Sequential(*chains[0].modules).eval()
    return OnnxNetwork(chains, output).eval()


class OnnxNetwork(nn.Module):
    """Parts that see what other parts make: parts[i] reads the places inputs[i] and writes outputs[i]; x stands at place 0."""

    def __init__(self, chains: list[Step], output: int):
        super().__init__()
        self.parts = nn.Sequential(
            *(nn.Sequential(*chain.modules) if len(chain.inputs) == 1 else chain.modules[0] for chain in chains)
        )
        self.inputs, self.outputs = [chain.inputs for chain in chains], [chain.output for chain in chains]
        self.output = output

    def forward(self, x):
        values, unread = {0: x}, Counter(place for inputs in self.inputs for place in inputs) + Counter([self.output])
        for part, inputs, output in zip(self.parts, self.inputs, self.outputs, strict=True):
            values[output] = part(*(values[place] for place in inputs))
            unread -= Counter(inputs)
            values = {place: value for place, value in values.items() if unread[place]}
        return values[self.output]
