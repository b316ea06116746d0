"""Arrays shared with other libraries, without a copy: DLPack both ways, and CUDA's array interface."""

from __future__ import annotations

import numpy as np

from minicnn import backend
from minicnn.creation import DTYPES
from minicnn.errors import DeviceError
from minicnn.tensor import Tensor

CPU, CUDA = 1, 2  # DLPack's numbers of devices
ON_HOST = ("cpu", "numpy")


def from_dlpack(source, device: str | None = None) -> Tensor:
    """A leaf that shares its memory with `source`: an array or tensor of PyTorch, CuPy, NumPy, ... that speaks DLPack.

    device  "cpu" or "numpy" for memory of the host ("cpu" by default); a GPU's memory stays on that GPU

    What is not C-contiguous is copied: of PyTorch's images in channels_last, `t.permute(0, 2, 3, 1)` is contiguous. What the
    other side writes later is seen here, but is no write that backward() could refuse.

    Raises TypeError where source does not speak DLPack or has a dtype that tensors cannot have, DeviceError for another
    device.
    """
    if not hasattr(source, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: {type(source).__name__} does not speak DLPack (it has no __dlpack__)")
    kind, index = source.__dlpack_device__()
    here = {CPU: ON_HOST, CUDA: (f"cuda:{index}",)}.get(int(kind), ())
    name = backend.device(device).name if device is not None else next(iter(here), "")
    if name not in here:
        where = " or ".join(map(repr, here)) or "no device of minicnn"
        raise DeviceError(
            f"from_dlpack: this memory can be shared with {where}, not with {device!r}; use minicnn.tensor"
        )
    place = backend.device(name)
    array = place.from_dlpack(source)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"from_dlpack: dtype {array.dtype.name} is not supported, choose one of {', '.join(DTYPES)}")
    return Tensor(array if array.flags.c_contiguous else array.copy(), place)


def _dlpack(self: Tensor, **keywords):
    """For the other side's from_dlpack: this tensor's own memory. BufferError where gradients would flow to it."""
    if self.requires_grad:
        raise BufferError("a tensor that requires a gradient is not shared by DLPack: share tensor.detach()")
    return self.data.__dlpack__(**keywords)


def _dlpack_device(self: Tensor) -> tuple[int, int]:
    return self.data.__dlpack_device__()


def _cuda_array_interface(self: Tensor) -> dict:
    """Of CUDA tensors only, so that `hasattr` tells them from others."""
    if isinstance(self.data, np.ndarray):
        raise AttributeError(f"__cuda_array_interface__: this tensor is on {self.device.name!r}")
    return self.data.__cuda_array_interface__


Tensor.__dlpack__, Tensor.__dlpack_device__ = _dlpack, _dlpack_device
Tensor.__cuda_array_interface__ = property(_cuda_array_interface)
