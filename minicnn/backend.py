"""Devices: who owns memory and who computes. The only importer of CuPy and of the compiled kernel modules.

"numpy"     the reference: every op's forward_numpy / backward_numpy
"cpu"       the native kernels, for the best instruction set that this processor has, in float32; the reference for the
            other dtypes, and where nothing was compiled
"emulated"  the CUDA kernels, run on the CPU; with MINICNN_EMULATED=checked, under a detector of races
"cuda"      the CUDA kernels, run on a GPU; "cuda:1" is the second one
"""

from __future__ import annotations

import functools
import importlib
import math
import os

import numpy as np

from minicnn import _build_info, cuda
from minicnn.errors import DeviceError
from minicnn.host_memory import PAGE, Block, GuardedMemory, Pool, SharedScratch, host_pool, host_room
from minicnn.threads import elementwise, thread_count

FLOAT32 = np.dtype(np.float32)
CUPY_UNIT = 512  # bytes: CuPy's pool rounds up to it


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


def _check_arrays(name: str, signature, arguments) -> None:
    """DeviceError for the first array that is not what the signature says."""
    for i, (argument, kind) in enumerate(zip(arguments, signature, strict=False)):
        dtype = _ARRAYS.get(kind)
        if dtype is None or argument is None or (argument.dtype == dtype and argument.flags.c_contiguous):
            continue
        layout = "" if argument.flags.c_contiguous else "strided "
        raise DeviceError(
            f"{name}: argument {i} must be a contiguous {dtype} array, got a {layout}{argument.dtype} one"
        )


# The dtype of an array by what the C++ signature calls it: NumPy has no bfloat16, its bits are uint16.
_ARRAYS = {
    name: np.dtype(name)
    for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
} | {"bfloat16": np.dtype("uint16")}


class Device:
    """What ops and tensors ask of the place where arrays live. `kernels` is None where NumPy computes."""

    name: str
    kernels: Kernels | None = None
    computes_on_host = False  # whether NumPy computes what the kernels do not
    shared_scratch: SharedScratch | None = None  # where kernels return before the next one begins
    keeps_free_blocks = False  # whether `Pool` has its memory
    smallest_block = 0  # bytes: what is smaller comes from elsewhere and does not count

    def kernels_for(self, dtype) -> Kernels | None:
        """The kernels of ops in `dtype`; None where NumPy computes."""
        return self.kernels if dtype == FLOAT32 or not self.computes_on_host else None

    def empty(self, shape, dtype):
        """The only allocator: a C-contiguous array whose contents are anything."""
        raise NotImplementedError

    def scratch(self, elements: int):
        """Room of float32 for one call of a kernel, contents anything: nothing of it is kept."""
        return self.empty((elements,), np.float32)

    def launcher(self, name: str, function, signature):
        """The kernel `function`, to be called with arrays of this device and without the stream."""
        raise NotImplementedError

    def block_size(self, nbytes: int) -> int:
        """What an array of so many bytes takes from the device's memory."""
        raise NotImplementedError

    def start_watch(self) -> int:
        """Let go of free memory, and count `most_memory` from here; returns the bytes that are in use now."""
        raise NotImplementedError

    def most_memory(self) -> tuple[int | None, int]:
        """Since `start_watch`: the most bytes that were in use at once (None where the device does not count them), and
        the most that it had from the system, for arrays in use and for later ones."""
        raise NotImplementedError

    def room(self) -> int | None:
        """Bytes that arrays may still take before the machine has none left; None where nobody knows."""
        raise NotImplementedError

    def hardware(self) -> str:
        """What it is; "" where it does not say."""
        return ""

    def begin_range(self, name: str) -> None:
        """What is started until `end_range` bears this name where a profiler of the device watches."""

    def end_range(self) -> None:
        """The end of the last range begun."""

    def __repr__(self) -> str:
        return f"<device {self.name}>"


class HostDevice(Device):
    """A device whose arrays are NumPy's, in pooled memory."""

    computes_on_host = keeps_free_blocks = True
    smallest_block = PAGE  # what is smaller is NumPy's own

    def __init__(self, name: str, pool: Pool | GuardedMemory):
        self.name, self.pool = name, pool

    def empty(self, shape, dtype=np.float32) -> np.ndarray:
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < self.smallest_block:
            return np.empty(shape, dtype)
        return np.asarray(Block(self.pool, self.block_size(nbytes), shape, dtype.str))

    def block_size(self, nbytes: int) -> int:
        return -(-nbytes // PAGE) * PAGE

    def scratch(self, elements: int) -> np.ndarray:
        return self.shared_scratch.of(self, elements) if self.shared_scratch else super().scratch(elements)

    def start_watch(self) -> int:
        if self.shared_scratch:
            self.shared_scratch.room = None
        return self.pool.start_watch()

    def most_memory(self):
        return self.pool.most_used_bytes, self.pool.most_held_bytes

    def room(self) -> int | None:
        return host_room()

    def address(self, array) -> int:
        return array.__array_interface__["data"][0]

    def launcher(self, name: str, function, signature):
        """The bindings take arrays of the host, and refuse those that do not fit."""
        if not signature or signature[-1] != "stream":
            return function

        def launch(*arguments):
            try:
                return function(*arguments, 0)
            except TypeError:
                _check_arrays(name, signature, arguments)
                raise

        return launch

    def array(self, values) -> np.ndarray:
        """A copy of a host array, on this device."""
        values = np.asarray(values)
        array = self.empty(values.shape, values.dtype)
        array[...] = values
        return array

    def to_numpy(self, array) -> np.ndarray:
        return np.array(array)

    def on_host(self, array) -> np.ndarray:
        """The values of `array` for reading: the array itself, which lies on the host."""
        return array

    def from_dlpack(self, source) -> np.ndarray:
        """The array of another library as one of this device's, the same memory."""
        return np.from_dlpack(source)

    def write(self, array, values) -> None:
        """Overwrite `array` with host values of its shape."""
        array[...] = values

    def copy(self, source, target) -> None:
        """target[...] = source, both on this device, of one shape."""
        target[...] = source

    def elementwise(self, work, *arrays) -> None:
        """NumPy's `work` on the same elements of each array, of one shape, in shares."""
        elementwise(work, *arrays)

    def zero(self, array) -> None:
        array[...] = 0

    def synchronize(self, after: str = "") -> None:
        """Nothing runs behind the caller's back here."""


class NativeDevice(HostDevice):
    """The kernels for this processor (csrc/native), which share the work of each op among threads."""

    def __init__(self, module):
        super().__init__("cpu", host_pool())
        self.module = module
        self.kernels = Kernels(module, self)
        self.shared_scratch = SharedScratch()
        module.set_thread_count(thread_count())


class EmulatedDevice(HostDevice):
    """The CUDA kernels on the CPU, each array alone between guard pages (csrc/emulation).

    The checked module knows what kernels have written; what the host writes here, it is told. Of what NumPy writes
    elsewhere it sees only that it is no longer the 0xFF of fresh memory.
    """

    computes_on_host = keeps_free_blocks = False
    smallest_block = 0

    def __init__(self, module):
        super().__init__("emulated", GuardedMemory(module))
        self.module = module
        self.kernels = Kernels(module, self)

    def block_size(self, nbytes: int) -> int:
        return max(nbytes, 1)  # exact: one byte past the end is somebody's bug

    def array(self, values):
        return self._written(super().array(values))

    def write(self, array, values) -> None:
        super().write(array, values)
        self._written(array)

    def copy(self, source, target) -> None:
        super().copy(source, target)
        self._written(target)

    def zero(self, array) -> None:
        super().zero(array)
        self._written(array)

    def _written(self, array):
        if array.flags.c_contiguous:
            self.module.mark_written(self.address(array), array.nbytes)
        return array


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
        is_array = [kind in _ARRAYS for kind in signature]
        has_stream = signature[-1:] == ("stream",)
        waits = os.environ.get("MINICNN_SYNC") == "1"

        def launch(*arguments):
            _check_arrays(name, signature, arguments)
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


def available() -> dict[str, str]:
    """Every device's name -> "" where it can be used, else the reason why not."""
    return {
        "numpy": "",
        "cpu": "",
        "emulated": "" if _module(emulated_module()) else _why_no_module(emulated_module()),
        "cuda": cuda.why_unavailable(),
    }


def _module(name: str):
    try:
        return importlib.import_module(f"minicnn.{name}")
    except ImportError:
        return None


@functools.cache
def native_module():
    """The module of native kernels for the best instruction set of this processor; None where nothing was compiled.

    The environment variable MINICNN_INSTRUCTIONS may ask for a lesser set: "avx2", "baseline". Raises DeviceError where
    it asks for one that this processor or this installation does not have.
    """
    baseline = _module("_native_baseline")
    if baseline is None:
        return None
    sets = [name for name in baseline.instruction_sets() if _module(f"_native_{name}")]
    wanted = os.environ.get("MINICNN_INSTRUCTIONS") or sets[0]
    if wanted not in sets:
        raise DeviceError(f"MINICNN_INSTRUCTIONS={wanted}: this processor runs {', '.join(sets)}")
    return _module(f"_native_{wanted}")


def emulated_module() -> str:
    """The compiled module of device "emulated": the environment variable MINICNN_EMULATED may ask for the checked one."""
    return "_emulated_checked" if os.environ.get("MINICNN_EMULATED") == "checked" else "_emulated"


def _why_no_module(name: str) -> str:
    why = _build_info.emulated_why or "it is compiled where MINICNN_CHECKED=1 is set for the installation"
    return f"this installation has no compiled module minicnn.{name}: {why}"


def device(name: str | Device = "cpu") -> Device:
    """The device of that name, one object each. "auto": "cuda" where a GPU answers, else "cpu".

    Raises DeviceError with the reason where the device is not there, ValueError for a name that is none.
    """
    if isinstance(name, Device):
        return name
    if name == "auto":
        name = "cuda" if cuda.is_available() else "cpu"
    return _device("cuda:0" if name == "cuda" else name)


@functools.cache
def _device(name: str) -> Device:
    if name == "cpu" and native_module():
        return NativeDevice(native_module())
    if name in ("numpy", "cpu"):
        return HostDevice(name, host_pool())
    if name == "emulated":
        module = _module(emulated_module())
        if module is None:
            raise DeviceError(f"device 'emulated' cannot be used: {_why_no_module(emulated_module())}")
        return EmulatedDevice(module)
    kind, _, index = name.partition(":")
    if kind == "cuda" and index.isdigit():
        why = cuda.why_unavailable()
        if why:
            raise DeviceError(f"device 'cuda' cannot be used: {why}; device='cpu' trains here")
        return CudaDevice(int(index), _module("_cuda"))
    raise ValueError(
        f"unknown device {name!r}: choose one of 'numpy', 'cpu', 'emulated', 'cuda', 'cuda:<index>', 'auto'"
    )
