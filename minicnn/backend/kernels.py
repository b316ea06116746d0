"""A compiled module's functions, and the arrays that they take."""

from __future__ import annotations

import numpy as np

from minicnn.errors import DeviceError


class Kernels:
    """A compiled module, called with arrays: `kernels.relu_forward(x, y, count)`.

    Each array must have the dtype that the C++ signature says, and be contiguous; the stream is added.
    """

    def __init__(self, module, device):
        self._module, self._device = module, device

    def __getattr__(self, name: str):
        launch = self._device.launcher(name, getattr(self._module, name), self._module.signatures[name])
        setattr(self, name, launch)
        return launch


def check_arrays(name: str, signature, arguments) -> None:
    """DeviceError for the first array that is not what the signature says."""
    for i, (argument, kind) in enumerate(zip(arguments, signature, strict=False)):
        dtype = ARRAYS.get(kind)
        if dtype is None or argument is None or (argument.dtype == dtype and argument.flags.c_contiguous):
            continue
        layout = "" if argument.flags.c_contiguous else "strided "
        raise DeviceError(
            f"{name}: argument {i} must be a contiguous {dtype} array, got a {layout}{argument.dtype} one"
        )


# The dtype of an array by what the C++ signature calls it: NumPy has no bfloat16, its bits are uint16.
ARRAYS = {
    name: np.dtype(name)
    for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
} | {"bfloat16": np.dtype("uint16")}
