"""Device "cuda"."""

from __future__ import annotations

import contextlib
import importlib
import os
import weakref

import numpy as np

from minicnn import choices, toolchain
from minicnn.backend.device import Capture, Device
from minicnn.backend.feed import Feed
from minicnn.backend.kernels import ARRAYS, Kernels, check_arrays
from minicnn.errors import DeviceError
from minicnn.toolchain import dotted

CUPY_UNIT = 512  # bytes: CuPy's pool rounds up to it


class CudaGraph:
    """EmulatedGraph on a GPU: a CUDA graph, with a stream and a pool of memory of its own."""

    def __init__(self, device: CudaDevice):
        cuda = device.cupy.cuda
        self.device, self.cuda = device, cuda
        self.stream, self.pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()
        self.graph = None

    @contextlib.contextmanager
    def memory(self):
        with self._in_turn(), self.cuda.using_allocator(self.pool.malloc), self.stream:
            yield

    @contextlib.contextmanager
    def _in_turn(self):
        """What is queued on the graph's stream within it comes after what was queued before, and what follows after it."""
        queue = self.cuda.get_current_stream()
        self.stream.wait_event(queue.record())
        yield
        queue.wait_event(self.stream.record())

    def capture(self, work):
        """In the relaxed mode: the pool may ask for more memory, here and in other threads, which is done at once."""
        with self.memory():
            self.stream.begin_capture(self.cuda.runtime.streamCaptureModeRelaxed)
            self.device.capture.graph = self
            try:
                result = work()
            except BaseException as error:
                with contextlib.suppress(self.cuda.runtime.CUDARuntimeError):
                    self.stream.end_capture()
                if isinstance(error, self.cuda.runtime.CUDARuntimeError):
                    raise DeviceError(f"a graph cannot be captured of this work: {error}") from error
                raise
            finally:
                self.device.capture.graph = None
            self.graph = self.stream.end_capture()
            return result

    def replay(self) -> None:
        with self._in_turn():
            self.graph.launch(self.stream)


class CudaDevice(Device):
    """One GPU; arrays, streams and copies are CuPy's, the kernels ours."""

    feed_type = Feed
    prefers_graphs = os.environ.get("MINICNN_SYNC") != "1"  # which waits for each kernel: not possible in a graph

    def __init__(self, index: int, module):
        self.name, self.index = f"cuda:{index}", index
        self.cupy = importlib.import_module("cupy")
        self.cupy.cuda.Device(index).use()
        self.kernels = Kernels(module, self)
        self.graph_pools = weakref.WeakSet()
        self.choices = choices.load(self.identity())
        self.side_streams: list = []
        self.capture = Capture()

    def empty(self, shape, dtype=np.float32):
        return self.cupy.empty(shape, dtype)

    def block_size(self, nbytes: int) -> int:
        return -(-nbytes // CUPY_UNIT) * CUPY_UNIT

    @property
    def pools(self) -> list:
        return [self.cupy.get_default_memory_pool(), *self.graph_pools]

    def start_watch(self) -> int:
        self.cupy.get_default_memory_pool().free_all_blocks()  # in another, graphs still use what is free
        return sum(pool.total_bytes() for pool in self.pools)

    def most_memory(self):
        return None, sum(pool.total_bytes() for pool in self.pools)  # they give nothing back of their own accord

    def room(self) -> int | None:
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        return free + self.cupy.get_default_memory_pool().free_bytes()

    def array(self, values):
        self.refuse_in_capture("copied to the device")
        return self.cupy.asarray(values, order="C")

    def to_numpy(self, array) -> np.ndarray:
        self.refuse_in_capture("read from the device")
        return self.cupy.asnumpy(array)

    on_host = to_numpy

    def from_dlpack(self, source):
        return self.cupy.from_dlpack(source)

    def write(self, array, values) -> None:
        """In the stream's order, without waiting for it: memory that can be paged out has been read on return."""
        self.refuse_in_capture("copied to the device")
        array.set(np.ascontiguousarray(values, dtype=array.dtype).reshape(array.shape), stream=self.stream)

    def copy(self, source, target) -> None:
        target.data.copy_from_device_async(source.data, source.nbytes, self.stream)

    def zero(self, array) -> None:
        array.data.memset_async(0, array.nbytes, self.stream)

    def new_stream(self):
        """One that nothing orders among others but events."""
        return self.cupy.cuda.Stream(non_blocking=True)

    def pinned(self, shape, dtype) -> np.ndarray:
        """Memory of the host that cannot be paged out: copies from it need no help of the processor's."""
        return importlib.import_module("cupyx").empty_pinned(shape, dtype)

    def copy_from_host(self, source: np.ndarray, target, stream) -> None:
        """target[...] = source, pinned memory, when the stream comes to it."""
        target.data.copy_from_host_async(source.ctypes.data, source.nbytes, stream)

    def new_graph(self) -> CudaGraph:
        graph = CudaGraph(self)
        self.graph_pools.add(graph.pool)
        return graph

    def side_by_side(self, works: list) -> list:
        """Each queues its work on a stream of its own, behind all that was queued before and ahead of all that follows."""
        while len(self.side_streams) < len(works):
            self.side_streams.append(self.new_stream())
        queue, results = self.stream, []
        begun = queue.record()
        for stream, work in zip(self.side_streams, works, strict=False):
            stream.wait_event(begun)
            with stream:
                results.append(work())
            queue.wait_event(stream.record())
        return results

    def hardware(self) -> str:
        return self.cupy.cuda.runtime.getDeviceProperties(self.index)["name"].decode()

    def identity(self) -> str:
        return f"{super().identity()}, driver {dotted(toolchain.driver_version())}"

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
