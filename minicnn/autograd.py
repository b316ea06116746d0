"""Op: a step of the graph and its gradient. backward(): the walk from a result to the leaves."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable

import numpy as np

from minicnn.errors import GraphError, OpError
from minicnn.tensor import Accumulate, GradSlot, Tensor, elements, to_hold
from minicnn.threads import one_blas_thread

_state = threading.local()
_numbers = itertools.count()


class no_grad:
    """Within `with no_grad():`, or under `@no_grad()`, ops record nothing: results are leaves that need no gradient."""

    def __init__(self):
        self.before: list[bool] = []  # a stack: the same object may be entered again inside itself

    def __enter__(self):
        self.before.append(grad_enabled())
        _state.enabled = False

    def __exit__(self, *_):
        _state.enabled = self.before.pop()

    def __call__(self, function):
        @functools.wraps(function)
        def without_grad(*arguments, **keywords):
            with no_grad():
                return function(*arguments, **keywords)

        return without_grad


def grad_enabled() -> bool:
    return getattr(_state, "enabled", True)


class backward_through:
    """Within `with backward_through(around):` a walk backward runs each op as around(op, run), which must call run()."""

    def __init__(self, around: Callable[[Op, Callable[[], None]], None]):
        self.around = around

    def __enter__(self):
        self.before, _state.around = getattr(_state, "around", None), self.around

    def __exit__(self, *_):
        _state.around = self.before


class Op:
    """One application of one operation: `MaxPool2d(3, 2, 0)(x)` computes, and stays in the graph as its own record.

    An op of the framework is a subclass with six short methods:

        check(*inputs)             refuse what does not fit (raise OpError), return the shape of y
        forward_numpy(*arrays, y)  write y with NumPy; remember what backward needs as attributes of self
        backward_numpy(dy)         for each input i: write self.grad_array(i), unless it is None
        forward_kernel(*arrays, y), backward_kernel(dy)
                                   the same through self.kernels, whose gradients go to self.grad_out(i)

    Nothing is returned and nothing copied: the engine allocates y, gradients are written where they belong.
    """

    name: str  # as users call it: minicnn.functional.<name>
    kernels = None  # of its device and dtype; None where NumPy computes
    number = -1  # of its record in the graph, in order of creation
    released = False
    is_view = False  # whether y is the array of the first input in another shape
    relu_within = False  # whether y went through ReLU before it was written
    steps_weight = False  # whether it obeys slots[1].step: moves input 1 in place of writing its gradient
    narrow = None  # the numbers of 16 bits that y is made of, and that dy may come in; None: both are of dtype
    rounds_gradient = False  # whether it rounds dy to such numbers before anything else

    def check(self, *inputs: Tensor) -> tuple[int, ...]:
        raise NotImplementedError

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._agree(inputs)
        out_shape = self.check(*inputs)
        recorded = grad_enabled() and any(x.requires_grad for x in inputs)
        if recorded:
            self.number = next(_numbers)
            self.record(inputs, out_shape)
        y = to_hold(self.forward(out_shape, *map(self.read, inputs)), self.narrow)
        alias_of = inputs[0] if self.is_view else None
        y = Tensor(y, self.device, recorded, self if recorded else None, alias_of, out_shape)
        if recorded:
            self.seen = [(x.writes, x.version, x.shape) for x in (*inputs, y)]
            if self.relu_within:
                self.slot.mask = y.held
        return y

    def record(self, inputs, out_shape: tuple[int, ...]) -> None:
        """Become a part of the graph, in which gradients go to the slots of the inputs and come from this op's own."""
        self.slots = [x.slot if x.requires_grad else None for x in inputs]
        self.parents = [x.op for x in inputs if x.op is not None]
        self.slot = GradSlot(self.device, out_shape, self.dtype)
        self.slot.numbers, self.slot.rounds = self.narrow, self.rounds_gradient
        for slot in self.slots:
            if slot is not None:
                slot.writers += 1

    def read(self, x: Tensor):
        """What forward takes of an input: an op that can read 16 bits asks for them."""
        return x.data

    def _agree(self, inputs) -> None:
        """One device for all inputs, one dtype for the floating-point ones, and one that the device can compute."""
        strangers = [x for x in inputs if not isinstance(x, Tensor)]
        if strangers:
            raise OpError(
                f"{self.name}: inputs must be tensors, got {type(strangers[0]).__name__}; use minicnn.tensor(...)"
            )
        devices = {x.device.name: x.device for x in inputs}
        if len(devices) > 1:
            raise OpError(
                f"{self.name}: inputs are on different devices ({', '.join(devices)}); move them with .to(device)"
            )
        dtypes = {dtype for x in inputs if (dtype := x.dtype).kind == "f"}
        if len(dtypes) != 1:
            raise OpError(
                f"{self.name}: inputs must share one floating-point dtype, got {', '.join(x.dtype.name for x in inputs)}"
            )
        self.device, self.dtype = inputs[0].device, dtypes.pop()
        self.kernels = self.device.kernels_for(self.dtype)
        if self.kernels is not None and self.dtype != np.float32:
            raise OpError(
                f"{self.name}: the kernels of {self.device.name!r} compute in float32, x is {self.dtype.name}"
            )

    def forward(self, out_shape, *arrays):
        y = self.empty(out_shape, self.narrow and self.narrow.dtype)
        if self.kernels is not None:
            self.forward_kernel(*arrays, y)
        else:
            with np.errstate(all="ignore"), one_blas_thread():  # infinities and NaN are values here, as in the kernels
                self.forward_numpy(*arrays, y)
        return y

    def backward(self, dy) -> None:
        if self.kernels is not None:
            return self.backward_kernel(dy)
        self.meeting = []  # (where a gradient already stood, what must be added to it)
        with np.errstate(all="ignore"), one_blas_thread():
            self.backward_numpy(dy)
            for array, addend in self.meeting:
                array += addend

    def empty(self, shape, dtype=None):
        """Memory for results and scratch, on this op's device."""
        return self.device.empty(shape, self.dtype if dtype is None else dtype)

    def workspace(self, kernel: str, *extents):
        """The scratch that `<kernel>_workspace(*extents)` asks for, until the next op."""
        return self.device.scratch(getattr(self.kernels, f"{kernel}_workspace")(*extents))

    def needs_grad(self, i: int) -> bool:
        return self.slots[i] is not None

    def grad_out(self, i: int, numbers=None, rounded: bool = True) -> tuple[object, Accumulate]:
        """For kernels: (array of input i's gradient, overwrite or add); (None, overwrite) where none is wanted. For those
        that can write `numbers` of 16 bits it is of these where GradSlot.open says so."""
        return self.slots[i].open(numbers, rounded) if self.needs_grad(i) else (None, Accumulate.overwrite)

    def grad_mask(self, i: int, numbers=None):
        """For kernels that can mask what they write to grad_out(i), and then do: the array that must be above 0 where the
        gradient is not 0, y of the ReLU that input i came through; None where it came through none. In 16 bits where it
        is held in these `numbers`."""
        slot = self.slots[i]
        slot.unmasked -= slot.mask is not None
        return elements(slot.mask, numbers)

    @property
    def pending_mask(self):
        """In backward, y where dy has yet to become 0 wherever ReLU cut y; None where all that wrote dy have seen to it, or
        y came through no ReLU. Who writes a dy in 16 bits sees to it."""
        return elements(self.slot.mask) if self.slot.unmasked else None

    def grad_array(self, i: int):
        """For NumPy: the array that backward_numpy must overwrite with input i's gradient; None where none is wanted."""
        array, accumulate = self.grad_out(i)
        if accumulate is Accumulate.add:
            self.meeting.append((array, self.empty(array.shape, array.dtype)))
            return self.meeting[-1][1]
        return array

    def _check_intact(self) -> None:
        """Refuse a walk through this op if its saved arrays are gone or no longer what forward saw."""
        if self.released:
            raise GraphError(
                f"backward: a second walk through {self.name}, whose saved arrays were freed by the first; "
                "compute the forward pass again"
            )
        for writes, version, shape in self.seen:
            if writes.count != version:
                raise GraphError(
                    f"backward: a tensor of shape {shape} that {self.name} uses was changed in place or moved after "
                    f"the forward pass (version {writes.count}, forward saw {version}); call backward before that"
                )

    def _run_backward(self) -> None:
        dy, self.slot.array = self.slot.read(self.narrow), None
        self.backward(dy)
        self.release()

    def release(self) -> None:
        """Let go of all saved arrays; what remains is enough to refuse a second backward."""
        vars(self).clear()
        self.released = True


def backward(tensor: Tensor, grad=None) -> None:
    """Add d(sum(tensor * grad))/d(leaf) to the gradient of every leaf that requires one.

    `grad` (array-like or Tensor of tensor's shape) may be left out for a tensor of one element. Ops run in reverse order
    of their creation, each once, when all that used its result have run; its saved arrays are then freed.

    Raises GraphError for a tensor outside the graph, a missing `grad`, a second walk, or a tensor changed in place;
    then no gradient has been written.
    """
    if tensor.op is None:
        raise GraphError("backward: this tensor was made by no op from anything that requires a gradient")
    order = ops_behind(tensor.op)
    if grad is None:
        if tensor.size != 1:
            raise GraphError(
                f"backward: a tensor of shape {tensor.shape} needs grad=..., only one element has gradient 1"
            )
        grad = np.ones(tensor.shape, tensor.dtype)
    grad = grad if isinstance(grad, Tensor) else np.asarray(grad, tensor.dtype)
    if grad.shape != tensor.shape:
        raise GraphError(f"backward: grad is {grad.shape}, the tensor {tensor.shape}")
    array, _ = tensor.op.slot.open()
    if isinstance(grad, Tensor) and (grad.device, grad.dtype) == (tensor.device, tensor.dtype):
        tensor.device.copy(grad.data, array)
    else:
        tensor.device.write(array, grad.numpy() if isinstance(grad, Tensor) else grad)
    around = getattr(_state, "around", None) or _plainly
    for op in order:
        around(op, op._run_backward)


def _plainly(_op: Op, run: Callable[[], None]) -> None:
    run()


def ops_behind(last: Op) -> list[Op]:
    """Every op that the result of `last` comes from, `last` itself first: each before all whose results it used.

    The whole graph is looked at before any of it runs, so that a walk that is refused has written no gradient.
    """
    found, waiting = {last}, [last]
    while waiting:
        op = waiting.pop()
        op._check_intact()
        new = set(op.parents) - found
        found |= new
        waiting.extend(new)
    return sorted(found, key=lambda op: op.number, reverse=True)


Tensor.backward = backward
