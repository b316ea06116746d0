"""Which layer computes: a training step told apart by layer and direction, for whoever counts its time or memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from minicnn.autograd import Op, backward_through
from minicnn.step import Step
from minicnn.tensor import Tensor


class Part(NamedTuple):
    """A part of a step: `forward` or `backward` of the layer at this path, or what is no layer's: "loss", "optimizer",
    and "input", the batch on its way to the device and the walk around the layers."""

    path: str
    direction: str = ""


INPUT, LOSS, OPTIMIZER = Part("input"), Part("loss", "forward"), Part("optimizer")


@contextlib.contextmanager
def told_apart(step: Step, entered: Callable[[Part], None]) -> Iterator[None]:
    """Within the block, while `step` runs, entered(part) is called whenever another part of it begins.

    A layer is the innermost module that runs. What a module takes along into its own op (nn.Sequential: the ReLU behind
    a convolution, say) counts as its own; what an outer module computes between its layers is the outer one's.
    """
    watch = _Watch(entered)
    layers = [(path or "network", module) for path, module in step.network.named_modules()]
    watched = [(module, "forward", Part(path, "forward")) for path, module in layers]
    watched += [(step, "mean_loss", LOSS), *((step, name, OPTIMIZER) for name in ("update", "accept"))]
    with contextlib.ExitStack() as stack, backward_through(watch.backward):
        for thing, method, part in dict.fromkeys(watched):
            stack.enter_context(_replaced(thing, method, watch.around(part, getattr(thing, method))))
        entered(INPUT)
        yield


@contextlib.contextmanager
def _replaced(thing, method: str, function: Callable) -> Iterator[None]:
    """The object has this function instead of its class's method."""
    before = vars(thing).get(method)
    setattr(thing, method, function)
    try:
        yield
    finally:
        delattr(thing, method) if before is None else setattr(thing, method, before)


class _Watch:
    """Where the step is, and which part each op of its graph belongs to."""

    def __init__(self, entered: Callable[[Part], None]):
        self.entered, self.now = entered, INPUT
        self.parts: dict[Op, Part] = {}

    @contextlib.contextmanager
    def within(self, part: Part) -> Iterator[None]:
        before, self.now = self.now, part
        self.entered(part)
        try:
            yield
        finally:
            self.now = before
            self.entered(before)

    def around(self, part: Part, function: Callable) -> Callable:
        def watched(*arguments, **keywords):
            with self.within(part):
                outputs = function(*arguments, **keywords)
                self.claim(_ops(outputs), set(_ops(arguments)), part._replace(direction="backward"))
            return outputs

        return watched

    def claim(self, waiting: list[Op], seen: set[Op], part: Part) -> None:
        """The ops behind the outputs, as far as those in `seen`, that no inner layer has claimed are this part's."""
        while waiting:
            op = waiting.pop()
            if op not in seen:
                seen.add(op)
                self.parts.setdefault(op, part)
                waiting.extend(op.parents)

    def backward(self, op: Op, run: Callable[[], None]) -> None:
        with self.within(self.parts.pop(op)):
            run()


def _ops(tensors) -> list[Op]:
    """Those that made one tensor or several."""
    several = tensors if isinstance(tensors, (tuple, list)) else [tensors]
    return [x.op for x in several if isinstance(x, Tensor) and x.op is not None]
