"""As much of CuPy as device "cuda" uses, on a machine without a GPU: arrays in the host's memory, streams that do their
work at once, or record it while they capture. What CuPy refuses is refused here, too.
"""

import contextlib
import ctypes
import math
import threading
import types
import typing
import weakref

import numpy

UNIT = 512


class CUDARuntimeError(RuntimeError):
    pass


class MemoryPool:
    """Counts what is in use and what it would hold; of an array that has gone a graph's pool keeps the memory."""

    def __init__(self):
        self.in_use = self.held = 0
        self.memory = []

    def malloc(self, shape, dtype):
        size = -(-math.prod(shape) * numpy.dtype(dtype).itemsize // UNIT) * UNIT
        memory = numpy.full(size + UNIT, 0xFF, numpy.uint8)
        start = -memory.ctypes.data % UNIT
        array = ndarray(shape, dtype, memory[start:])
        self.in_use += size
        self.held = max(self.held, self.in_use)
        weakref.finalize(array, self.free, size)
        if self is not default_pool:
            self.memory.append(memory)
        return array

    def free(self, size):
        self.in_use -= size

    def free_all_blocks(self):
        self.held = self.in_use

    def total_bytes(self):
        return self.held

    def free_bytes(self):
        return self.held - self.in_use


class MemoryPointer:
    def __init__(self, array):
        self.array, self.ptr = array, array.__array_interface__["data"][0]

    def copy_from_device_async(self, source, size, stream=None):
        self._queue(stream, ctypes.memmove, self.ptr, source.ptr, size)

    def copy_from_host_async(self, address, size, stream=None):
        self._queue(stream, ctypes.memmove, self.ptr, address, size)

    def memset_async(self, value, size, stream=None):
        self._queue(stream, ctypes.memset, self.ptr, value, size)

    def _queue(self, stream, work, *arguments):
        (stream or get_current_stream()).queue(lambda: work(*arguments))


class ndarray(numpy.ndarray):
    @property
    def data(self):
        return MemoryPointer(self)

    def set(self, values, stream=None):
        if (values.shape, values.dtype) != (self.shape, self.dtype):
            raise ValueError(f"{values.dtype} {values.shape} cannot be set to {self.dtype} {self.shape}")
        values = numpy.array(values, order="C")
        self.data.copy_from_host_async(values.ctypes.data, values.nbytes, stream)

    def __array__(self, *_arguments, **_keywords):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


class Event:
    def synchronize(self):
        pass


class Graph:
    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream):
        for call in self.calls:
            stream.queue(call)


class Stream:
    by_address: typing.ClassVar[dict] = {}

    def __init__(self, non_blocking=False):
        self.ptr, self.captured = len(self.by_address), None
        self.by_address[self.ptr] = self

    def queue(self, call):
        if self.captured is None:
            call()
        else:
            self.captured.append(call)

    def record(self):
        return Event()

    def wait_event(self, event):
        pass

    def begin_capture(self, mode):
        if mode != runtime.streamCaptureModeRelaxed:
            raise CUDARuntimeError("a pool of memory may call cudaMalloc in a capture of the relaxed mode only")
        self.captured = []

    def end_capture(self):
        calls, self.captured = self.captured, None
        return Graph(calls)

    def __enter__(self):
        _thread.streams.append(self)

    def __exit__(self, *_):
        _thread.streams.pop()


class _Thread(threading.local):
    def __init__(self):
        self.streams, self.allocators = [null_stream], [default_pool.malloc]


default_pool, null_stream = MemoryPool(), Stream()
_thread = _Thread()


def get_default_memory_pool():
    return default_pool


def get_current_stream():
    return _thread.streams[-1]


@contextlib.contextmanager
def using_allocator(allocator):
    _thread.allocators.append(allocator)
    yield
    _thread.allocators.pop()


def empty(shape, dtype=float):
    return _thread.allocators[-1](shape, dtype)


def asarray(values, order=None):
    values = numpy.asarray(values, order=order)
    array = empty(values.shape, values.dtype)
    array.set(values)
    return array


def asnumpy(array):
    if get_current_stream().captured is not None:
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
    return numpy.array(array.view(numpy.ndarray))


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    streamCaptureModeThreadLocal=1,
    streamCaptureModeRelaxed=2,
    memGetInfo=lambda: (8 << 30, 16 << 30),
    deviceSynchronize=lambda: None,
    getDeviceProperties=lambda index: {"name": b"a stand-in"},
)
cuda = types.SimpleNamespace(
    Device=lambda index: types.SimpleNamespace(use=lambda: None),
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_current_stream=get_current_stream,
    nvtx=types.SimpleNamespace(RangePush=lambda name: None, RangePop=lambda: None),
    runtime=runtime,
    using_allocator=using_allocator,
)
