"""Tensor: an array on a device, the gradient that gathers for it, and the op that made it."""

from __future__ import annotations

import enum
import math

import numpy as np


class Accumulate(enum.IntEnum):
    """How a backward pass writes a gradient: the first writer overwrites, later ones add (kernels.h has the twin)."""

    overwrite = 0
    add = 1


class Narrow:
    """Elements that count as float32, in an `array` of 16 bits: for what has been rounded to such `numbers`, the Halves of
    ops.precision, this loses nothing.

    It stands where an array may stand, in a tensor and in a GradSlot; `elements` looks inside. Whoever cannot read 16
    bits makes them float32 for good, so that there is never a second copy to be kept in step with.
    """

    __slots__ = ("array", "numbers")
    dtype = np.dtype(np.float32)

    def __init__(self, array, numbers):
        self.array, self.numbers = array, numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def widen(self):
        if self.numbers is not None:
            self.array, self.numbers = self.numbers.widened(self.array), None
        return self.array


def are_same(numbers, others) -> bool:
    """Whether both are numbers of 16 bits, of one format; None are those of float32."""
    return None not in (numbers, others) and numbers.dtype == others.dtype


def elements(held, numbers=None):
    """The array that is held, or that a Narrow holds: of 16 bits where it is of these `numbers`, else of float32."""
    if not isinstance(held, Narrow):
        return held
    return held.array if are_same(numbers, held.numbers) else held.widen()


def to_hold(array, numbers):
    """What holds the array: a Narrow where its elements are such `numbers` in 16 bits, else the array itself."""
    return Narrow(array, numbers) if numbers is not None and array.dtype == numbers.dtype else array


class GradSlot:
    """Where the gradients of one array meet.

    `array` is allocated by the first writer, or bound beforehand to a view of an arena. A stale slot holds old or no
    contents: the next writer overwrites it, a reader finds zeros. So clearing costs nothing.

    Where an op put ReLU's output y there itself, `mask` is y: the gradient counts only where y is above 0. `unmasked` of
    the writers did not see to it.

    Where y is Narrow, `numbers` are its own. The gradient may then be Narrow too if there is one of the `writers` that
    forward counted: if what it writes are such numbers, or if the op that reads them `rounds` them to such first.

    `step` is set while an optimizer takes its step within the walk (optim.SGD.backward_and_step): an op that can, does
    with it what it would have done with the gradient.
    """

    __slots__ = (
        *("array", "device", "dtype", "mask", "numbers", "rounds"),
        *("shape", "stale", "step", "unmasked", "writers"),
    )

    def __init__(self, device, shape: tuple[int, ...], dtype: np.dtype, array=None):
        self.device, self.shape, self.dtype, self.array = device, shape, dtype, array
        self.stale, self.mask, self.unmasked = True, None, 0
        self.step = self.numbers = None
        self.rounds, self.writers = False, 0

    def open(self, numbers=None, rounded: bool = True) -> tuple[object, Accumulate]:
        """(array, how to write into it), for exactly one writer, who must write all of it.

        A writer that can write `numbers` of 16 bits says so, and whether what it writes has been rounded to them before:
        the array has their dtype where it is to do so. It never adds to them.
        """
        if self.array is None:
            numbers = numbers if self.may_hold(numbers, rounded) else None
            array = self.device.empty(self.shape, self.dtype if numbers is None else numbers.dtype)
            self.array = to_hold(array, numbers)
        accumulate = Accumulate.overwrite if self.stale else Accumulate.add
        self.stale = False
        self.unmasked += 1
        return elements(self.array, numbers if accumulate is Accumulate.overwrite else None), accumulate

    def may_hold(self, numbers, rounded: bool) -> bool:
        """Whether the gradient may be such numbers in 16 bits."""
        return are_same(numbers, self.numbers) and self.writers == 1 and (rounded or self.rounds)

    def adopt(self, array) -> bool:
        """Take `array`, or a Narrow, which nobody else will write, as the gradient itself. False, and nothing done, where
        memory stands here already: then it must be written as ever."""
        if self.array is not None:
            return False
        self.array, self.stale = array, False
        self.unmasked += 1
        return True

    def read(self, numbers=None):
        """The gathered gradient; zeros where nobody wrote. In 16 bits where it is held in these `numbers`."""
        if self.stale:
            array, _ = self.open()
            self.device.zero(array)
        return elements(self.array, numbers)


class Writes:
    """Counts the writes in place to one array; the tensors that share the array share the count."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Tensor:
    """An n-dimensional array of one dtype on one device. Made by `minicnn.tensor`, by ops and by nn.

    data           the device's own array: NumPy's on "numpy", "cpu" and "emulated", CuPy's on "cuda"; C-contiguous.
                   To change it, copy_(): what is written into the array itself nobody counts, and copies of a
                   parameter in 16 bits stay as they were
    requires_grad  whether gradients flow to it
    op             the op that made it, None for a leaf
    version        counts the writes in place, so that backward can refuse values that changed since forward

    What a product in "bfloat16" or "float16" has made is `held` as a Narrow until somebody reads `data`.
    """

    __slots__ = ("__weakref__", "device", "held", "op", "requires_grad", "shape", "slot", "writes")
    __array_ufunc__ = None  # numpy_array * tensor is refused instead of making an array of tensors

    def __init__(self, data, device, requires_grad: bool = False, op=None, alias_of: Tensor | None = None, shape=None):
        self.held, self.shape = data, data.shape if shape is None else shape
        self.device, self.op, self.requires_grad = device, op, requires_grad
        self.writes = Writes() if alias_of is None else alias_of.writes
        self.slot = op.slot if op is not None else GradSlot(device, self.shape, data.dtype)

    @property
    def data(self):
        return self.read()

    @data.setter
    def data(self, array) -> None:
        self.held, self.shape = array, array.shape

    @property
    def numbers(self):
        """Those of 16 bits that the elements are held in; None where they are an array of `dtype`."""
        return self.held.numbers if isinstance(self.held, Narrow) else None

    def read(self, numbers=None):
        """`data`, or its elements in 16 bits where they are held in these `numbers`."""
        if not isinstance(self.held, Narrow):
            return self.held
        return elements(self.held, numbers).reshape(self.shape)  # a Narrow is shared by views, of other shapes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.held.dtype

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
        """The same array, outside the graph; in float32 from here on, so that a captured graph makes it so at every replay."""
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
