"""Device "cuda"."""

from __future__ import annotations

import importlib
import os

import numpy as np

from minicnn.backend.device import Device
from minicnn.backend.kernels import ARRAYS, Kernels, check_arrays
from minicnn.errors import DeviceError

CUPY_UNIT = 512  # bytes: CuPy's pool rounds up to it


class CudaDevice(Device):
    """One GPU; arrays, streams and copies are CuPy's, the kernels ours."""

    def __init__(self, index: int, module):
        self.name, self.index = f"cuda:{index}", index
        self.cupy = importlib.import_module("cupy")
        self.cupy.cuda.Device(index).use()
        self.kernels = Kernels(module, self)

    def empty(self, shape, dtype=np.float32):
        return self.cupy.empty(shape, dtype)

    def block_size(self, nbytes: int) -> int:
        return -(-nbytes // CUPY_UNIT) * CUPY_UNIT

    def start_watch(self) -> int:
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        return pool.total_bytes()

    def most_memory(self):
        return None, self.cupy.get_default_memory_pool().total_bytes()  # it gives nothing back of its own accord

    def room(self) -> int | None:
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        return free + self.cupy.get_default_memory_pool().free_bytes()

    def array(self, values):
        return self.cupy.asarray(np.ascontiguousarray(values))

    def to_numpy(self, array) -> np.ndarray:
        return self.cupy.asnumpy(array)

    on_host = to_numpy

    def from_dlpack(self, source):
        return self.cupy.from_dlpack(source)

    def write(self, array, values) -> None:
        array.set(np.ascontiguousarray(values, dtype=array.dtype).reshape(array.shape))

    def copy(self, source, target) -> None:
        target.data.copy_from_device_async(source.data, source.nbytes, self.stream)

    def zero(self, array) -> None:
        array.data.memset_async(0, array.nbytes, self.stream)

    def hardware(self) -> str:
        return self.cupy.cuda.runtime.getDeviceProperties(self.index)["name"].decode()

    def begin_range(self, name: str) -> None:
        self.cupy.cuda.nvtx.RangePush(name)

    def end_range(self) -> None:
        self.cupy.cuda.nvtx.RangePop()

    @property
    def stream(self):
        return self.cupy.cuda.get_current_stream()

    def address(self, array) -> int:
        return array.data.ptr

    def launcher(self, name: str, function, signature):
        is_array = [kind in ARRAYS for kind in signature]
        has_stream = signature[-1:] == ("stream",)
        waits = os.environ.get("MINICNN_SYNC") == "1"

        def launch(*arguments):
            check_arrays(name, signature, arguments)
            addresses = [
                0 if argument is None else self.address(argument) if array else argument
                for argument, array in zip(arguments, is_array, strict=False)
            ]
            result = function(*addresses, *((self.stream.ptr,) if has_stream else ()))
            if waits:
                self.synchronize(after=name)
            return result

        return launch

    def synchronize(self, after: str = "") -> None:
        try:
            self.cupy.cuda.runtime.deviceSynchronize()
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"{after or 'cuda'}: {error}") from error
