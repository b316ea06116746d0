"""Precision: which numbers the matrix products of a network read and write. All else is float32, the sums too."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np

from minicnn.shapes import Math
from minicnn.tensor import Accumulate

NAMES = ("float32", "tf32", "bfloat16", "float16")

_state = threading.local()


class precision:
    """Within `with minicnn.precision("bfloat16"):` convolutions and fully connected layers, of float32 tensors, compute in

        "float32"   float32
        "tf32"      operands rounded to 11 significant bits, results float32
        "bfloat16"  operands and results rounded to 8 significant bits, with float32's range
        "float16"   operands and results rounded to 11 significant bits, from 2^-24 to 65504

    Operands are x, weight and dy, results y and dx; to the nearest, of two as near the even one. Sums, the bias, dweight
    and dbias are float32, as are weights, and whatever other layers compute. The gradient of what was computed within is
    computed alike, wherever backward() is called. What functional.prepare_images makes within, a network's input, is
    rounded as a result is: for a product that reads it, it was to be so anyway.

    A tensor's `data` is float32 throughout. On devices with kernels for them, 16 bits lie in memory in its place from a
    product, or the images, to the next one, max pooling and views between them, and also their gradients: until somebody
    reads float32, and only where no number becomes another by it.

    On devices with tensor cores, and on "emulated", these multiply numbers of that format; on "numpy" and "cpu" float32
    numbers that were rounded, with the same result but for the order of sums, and that dbias of "tf32" is there the sum of
    the rounded dy. Raises ValueError for another name.
    """

    def __init__(self, name: str):
        if name not in NAMES:
            raise ValueError(f"precision must be one of {', '.join(NAMES)}, got {name!r}")
        self.name = name
        self.before: list[str] = []  # a stack: the same object may be entered again inside itself

    def __enter__(self):
        self.before.append(active())
        _state.name = self.name

    def __exit__(self, *_):
        _state.name = self.before.pop()


def active() -> str:
    return getattr(_state, "name", "float32")


class Float32:
    """The numbers of a product: what its kernels read and write, and by which kernels and schedule it is computed."""

    suffix = ""  # of the kernels' names
    narrow = None  # these numbers themselves where arrays of 16 bits hold them
    rounds_operands = False
    rounds_results = False

    def scheduled(self, schedule):
        """How kernels compute the product, where `schedule` is how they would in float32."""
        return schedule

    def operand(self, array):
        """What the product reads in place of `array`."""
        return array

    def round_result(self, array) -> None:
        """For NumPy: makes of a result, in place, numbers of the precision."""

    @contextmanager
    def result(self, array, mask=None, accumulate=Accumulate.overwrite):
        """For kernels: yields what to hand to one that is to write array (+)= mask <= 0 ? 0 : value."""
        yield array, mask, accumulate


class Tf32(Float32):
    """float32 arrays, whose elements the tensor cores round as they read them."""

    rounds_operands = True

    def scheduled(self, schedule):
        return schedule._replace(math=Math.tf32)


class Rounded(Float32):
    """Numbers of another format, as float32 numbers on the host."""

    rounds_operands = True

    def __init__(self, name: str, device):
        self.round, self.rounds_results, self.device = ROUNDING[name], name != "tf32", device

    def operand(self, array):
        rounded = self.device.empty(array.shape, np.float32)
        self.device.elementwise(self.round, array, rounded)
        return rounded

    def round_result(self, array) -> None:
        if self.rounds_results:
            self.device.elementwise(self.round, array, array)

    @contextmanager
    def result(self, array, mask=None, accumulate=Accumulate.overwrite):
        if accumulate is Accumulate.overwrite:
            yield array, mask, accumulate
            self.round_result(array)
        else:
            value = self.device.empty(array.shape, np.float32)
            yield value, mask, Accumulate.overwrite
            self.round_result(value)
            self.device.elementwise(lambda array, value: np.add(array, value, out=array), array, value)


class Halves(Float32):
    """Arrays of 16 bits, for the tensor cores; made of float32 arrays, and these of them, where the other side of the
    product has such."""

    rounds_operands = rounds_results = True

    def __init__(self, name: str, device):
        self.suffix, self.device, kernels = f"_{name}", device, device.kernels_for(np.float32)
        self.dtype = np.dtype("float16" if name == "float16" else "uint16")  # NumPy has no bfloat16
        self.round, self.widen = getattr(kernels, f"narrow_{name}"), getattr(kernels, f"widen_{name}")

    @property
    def narrow(self) -> Halves:
        return self

    def operand(self, array):
        if array is None or array.dtype == self.dtype:
            return array
        narrow = self.device.empty(array.shape, self.dtype)
        self.round(array, narrow, array.size)
        return narrow

    def widened(self, array):
        """The same numbers in float32."""
        wide = self.device.empty(array.shape, np.float32)
        self.widen(array, None, wide, Accumulate.overwrite, array.size)
        return wide

    @contextmanager
    def result(self, array, mask=None, accumulate=Accumulate.overwrite):
        if array.dtype == self.dtype:
            yield array, self.operand(mask), accumulate
            return
        narrow = self.device.empty(array.shape, self.dtype)
        masks_now = mask is not None and mask.dtype == self.dtype
        yield narrow, (mask if masks_now else None), Accumulate.overwrite
        self.widen(narrow, (None if masks_now else mask), array, accumulate, array.size)


FLOAT32 = Float32()


def numbers_of(device, dtype) -> Float32:
    """Those of the precision that is active, for a product of arrays of `dtype` on a device."""
    name = active()
    if name == "float32" or dtype != np.float32:
        return FLOAT32
    if device.computes_on_host:
        return Rounded(name, device)
    return Tf32() if name == "tf32" else Halves(name, device)


def _drop_bits(bits: int):
    """A function that writes the nearest numbers with so many bits less of mantissa; to the even one of two."""
    half, last = np.uint32((1 << (bits - 1)) - 1), np.uint32(1)
    kept = np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)

    def round_to_nearest(x, y) -> None:
        number, is_nan = x.view(np.uint32), np.isnan(x)
        rounded = number >> np.uint32(bits)
        rounded &= last
        rounded += half
        rounded += number
        rounded &= kept
        y.view(np.uint32)[...] = rounded
        if is_nan.any():
            y[is_nan] = np.nan

    return round_to_nearest


def _round_to_float16(x, y) -> None:
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        y[...] = x.astype(np.float16)


ROUNDING = {"tf32": _drop_bits(13), "bfloat16": _drop_bits(16), "float16": _round_to_float16}
