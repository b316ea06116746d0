"""Tensor: an array on a device, the gradient that gathers for it, and the op that made it."""

from __future__ import annotations

import enum
import math

import numpy as np


class Accumulate(enum.IntEnum):
    """How a backward pass writes a gradient: the first writer overwrites, later ones add (kernels.h has the twin)."""

    overwrite = 0
    add = 1


class GradSlot:
    """Where the gradients of one array meet.

    `array` is allocated by the first writer, or bound beforehand to a view of an arena. A stale slot holds old or no
    contents: the next writer overwrites it, a reader finds zeros. So clearing costs nothing.

    Where an op put ReLU's output y there itself, `mask` is y: the gradient counts only where y is above 0. `unmasked` of
    the writers did not see to it.

    `step` is set while an optimizer takes its step within the walk (optim.SGD.backward_and_step): an op that can, does
    with it what it would have done with the gradient.
    """

    __slots__ = ("array", "device", "dtype", "mask", "shape", "stale", "step", "unmasked")

    def __init__(self, device, shape: tuple[int, ...], dtype: np.dtype, array=None):
        self.device, self.shape, self.dtype, self.array = device, shape, dtype, array
        self.stale, self.mask, self.unmasked = True, None, 0
        self.step = None

    def open(self) -> tuple[object, Accumulate]:
        """(array, how to write into it), for exactly one writer, who must write all of it."""
        if self.array is None:
            self.array = self.device.empty(self.shape, self.dtype)
        accumulate = Accumulate.overwrite if self.stale else Accumulate.add
        self.stale = False
        self.unmasked += 1
        return self.array, accumulate

    def adopt(self, array) -> bool:
        """Take `array`, which nobody else will write, as the gradient itself. False, and nothing done, where memory
        stands here already: then it must be written as ever."""
        if self.array is not None:
            return False
        self.array, self.stale = array, False
        self.unmasked += 1
        return True

    def read(self):
        """The gathered gradient; zeros where nobody wrote."""
        if self.stale:
            array, _ = self.open()
            self.device.zero(array)
        return self.array


class Writes:
    """Counts the writes in place to one array; the tensors that share the array share the count."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Tensor:
    """An n-dimensional array of one dtype on one device. Made by `minicnn.tensor`, by ops and by nn.

    data           the device's own array: NumPy's on "numpy", "cpu" and "emulated", CuPy's on "cuda"; C-contiguous
    requires_grad  whether gradients flow to it
    op             the op that made it, None for a leaf
    version        counts the writes in place, so that backward can refuse values that changed since forward
    """

    __slots__ = ("__weakref__", "data", "device", "op", "requires_grad", "slot", "writes")
    __array_ufunc__ = None  # numpy_array * tensor is refused instead of making an array of tensors

    def __init__(self, data, device, requires_grad: bool = False, op=None, alias_of: Tensor | None = None):
        self.data, self.device, self.op = data, device, op
        self.requires_grad = requires_grad
        self.writes = Writes() if alias_of is None else alias_of.writes
        self.slot = op.slot if op is not None else GradSlot(device, data.shape, data.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return math.prod(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def version(self) -> int:
        return self.writes.count

    @version.setter
    def version(self, count: int) -> None:
        self.writes.count = count

    @property
    def grad(self) -> Tensor | None:
        """The gradient gathered since the last `zero_grad`; None for what has none (yet), and for what an op made."""
        if self.op is not None or not self.requires_grad or self.slot.array is None:
            return None
        return Tensor(self.slot.read(), self.device)

    def zero_grad(self) -> None:
        """Forget the gradient: the next backward overwrites it, a read before that finds zeros."""
        self.slot.stale = True

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        return self.device.to_numpy(self.data)

    def item(self) -> float | int:
        if self.size != 1:
            raise ValueError(f"item() wants a tensor of one element, this one is {self.shape}")
        return self.numpy().reshape(()).item()

    def detach(self) -> Tensor:
        """The same array, outside the graph."""
        return Tensor(self.data, self.device, alias_of=self)

    def copy_(self, values) -> None:
        """Write `values` (array-like or Tensor, same shape) in place: what an optimizer or a checkpoint does."""
        values = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
        if values.shape != self.shape:
            raise ValueError(f"copy_: values are {values.shape}, the tensor is {self.shape}")
        self.device.write(self.data, values)
        self.version += 1

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        made_by = (
            f", op={self.op.name}" if self.op is not None else ", requires_grad=True" if self.requires_grad else ""
        )
        values = np.array2string(self.numpy(), precision=4, threshold=20, separator=", ")
        return f"tensor({values}, device={self.device.name!r}, dtype={self.dtype.name}{made_by})"
