"""Device "emulated"."""

from __future__ import annotations

import contextlib
import functools
import threading

from minicnn.backend.host import HostDevice
from minicnn.backend.kernels import Kernels
from minicnn.errors import DeviceError
from minicnn.host_memory import GuardedMemory


class Capture(threading.local):
    """What this thread has recorded; None where it does not."""

    calls: list | None = None


class EmulatedGraph:
    """Kernels, copies and zeroes that were recorded once, and are done again as they were: on the same arrays, with the
    same numbers, by no more of the host than `replay()`.

    `capture(work)` returns what work() returns, and records what it queues, of which nothing is done yet. Arrays that work()
    makes live as long as the graph. Values that it copies from the host, or reads, are refused with a DeviceError.
    Before it, run the same work once `with memory()`: the graph then has room for its arrays.
    """

    def __init__(self, device: EmulatedDevice):
        self.device, self.calls = device, []

    @contextlib.contextmanager
    def memory(self):
        yield  # the calls hold their arrays

    def capture(self, work):
        self.device.capture.calls = self.calls = []
        try:
            return work()
        finally:
            self.device.capture.calls = None

    def replay(self) -> None:
        for call in self.calls:
            call()


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
        self.capture = Capture()

    def block_size(self, nbytes: int) -> int:
        return max(nbytes, 1)  # exact: one byte past the end is somebody's bug

    def launcher(self, name: str, function, signature):
        """What is queued on a stream may be recorded instead; what answers at once may not."""
        launch = super().launcher(name, function, signature)
        return functools.partial(self._queue, launch) if signature[-1:] == ("stream",) else launch

    def array(self, values):
        self._refuse_in_capture("copied to the device")
        return self._written(super().array(values))

    def write(self, array, values) -> None:
        self._refuse_in_capture("copied to the device")
        super().write(array, values)
        self._written(array)

    def to_numpy(self, array):
        self._refuse_in_capture("read from the device")
        return super().to_numpy(array)

    def on_host(self, array):
        self._refuse_in_capture("read from the device")
        return super().on_host(array)

    def copy(self, source, target) -> None:
        self._queue(self._copy, source, target)

    def zero(self, array) -> None:
        self._queue(self._zero, array)

    def new_graph(self) -> EmulatedGraph:
        return EmulatedGraph(self)

    def _copy(self, source, target) -> None:
        super().copy(source, target)
        self._written(target)

    def _zero(self, array) -> None:
        super().zero(array)
        self._written(array)

    def _queue(self, work, *arguments) -> None:
        """Done at once, as the emulation has no queue, or kept for the graph that this thread captures."""
        if self.capture.calls is None:
            work(*arguments)
        else:
            self.capture.calls.append(functools.partial(work, *arguments))

    def _refuse_in_capture(self, what: str) -> None:
        if self.capture.calls is not None:
            raise DeviceError(
                f"a graph cannot be captured of work within which values are {what}: it would not be repeated"
            )

    def _written(self, array):
        if array.flags.c_contiguous:
            self.module.mark_written(self.address(array), array.nbytes)
        return array
