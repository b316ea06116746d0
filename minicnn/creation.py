"""Tensors from host values, and their journeys between devices."""

from __future__ import annotations

import numpy as np

from minicnn import backend
from minicnn.tensor import Tensor

DTYPES = ("float32", "float64", "int64", "uint8")


def tensor(array, dtype=None, device="cpu", requires_grad: bool = False) -> Tensor:
    """A copy of `array` (nested lists, a NumPy array or a Tensor) as a leaf on `device`.

    dtype: "float32", "float64", "int64" or "uint8"; by default a NumPy array's own, float32 for Python floats, int64 for
    integers. Raises TypeError for other dtypes, and for a gradient of integers.

    >>> tensor([1.0, 2.0]).shape
    (2,)
    """
    values = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    if dtype is None and not isinstance(array, (np.ndarray, np.generic, Tensor)):
        dtype = {"f": "float32", "i": "int64", "b": "int64"}.get(values.dtype.kind)
    values = values if dtype is None else values.astype(dtype)
    if values.dtype.name not in DTYPES:
        raise TypeError(f"tensor: dtype {values.dtype.name} is not supported, choose one of {', '.join(DTYPES)}")
    if requires_grad and values.dtype.kind != "f":
        raise TypeError(f"tensor: only floating-point tensors have gradients, this one is {values.dtype.name}")
    place = backend.device("cpu" if device is None else device)
    return Tensor(place.array(np.ascontiguousarray(values).reshape(values.shape)), place, requires_grad)


def to(self: Tensor, device) -> Tensor:
    """This tensor on `device`: itself where it is there already, else a copy that is a leaf outside the graph."""
    place = backend.device(device)
    if place is self.device:
        return self
    return Tensor(place.array(self.numpy()), place, self.requires_grad and self.op is None)


Tensor.to = to
