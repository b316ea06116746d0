"""Device "emulated"."""

from __future__ import annotations

import collections
import contextlib
import functools
from typing import NamedTuple

import numpy as np

from minicnn.backend.device import Capture
from minicnn.backend.feed import Feed
from minicnn.backend.host import HostDevice
from minicnn.backend.kernels import Kernels
from minicnn.host_memory import GuardedMemory


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
        self.device.capture.graph, self.calls = self, []
        try:
            return work()
        finally:
            self.device.capture.graph = None

    def replay(self) -> None:
        for call in self.calls:
            self.device.stream.queue(call)


class EmulatedStream:
    """Work, done in the order in which it is queued: by an eager stream at once, by a lazy one no sooner than somebody waits
    for it. Of two streams that nothing orders a GPU may do either first. Laziness tries the one, and the other: whoever
    waits for too little reads what was there before, or overwrites what is still to be read.
    """

    def __init__(self, lazy: bool):
        self.lazy, self.pending, self.done = lazy, collections.deque(), 0

    def queue(self, work, *arguments) -> None:
        if self.lazy:
            self.pending.append(functools.partial(work, *arguments))
        else:
            work(*arguments)

    def record(self) -> EmulatedEvent:
        return EmulatedEvent(self, self.done + len(self.pending))

    def wait_event(self, event: EmulatedEvent) -> None:
        self.queue(event.synchronize)

    def synchronize(self) -> None:
        self.record().synchronize()

    def run(self, count: int) -> None:
        """Until `count` of all works that it ever put off are done."""
        while self.done < count:
            self.done += 1
            self.pending.popleft()()


class EmulatedEvent(NamedTuple):
    """The moment at which a stream has done so much."""

    stream: EmulatedStream
    count: int

    def synchronize(self) -> None:
        self.stream.run(self.count)


class EmulatedDevice(HostDevice):
    """The CUDA kernels on the CPU, each array alone between guard pages (csrc/emulation).

    The checked module knows what kernels have written; what the host writes here, it is told. Of what NumPy writes
    elsewhere it sees only that it is no longer the 0xFF of fresh memory.
    """

    computes_on_host = keeps_free_blocks = False
    smallest_block = 0
    feed_type = Feed
    lazy_copies = True

    def __init__(self, module):
        super().__init__("emulated", GuardedMemory(module))
        self.module = module
        self.kernels = Kernels(module, self)
        self.capture = Capture()
        self.stream = EmulatedStream(lazy=False)

    def put_off(self, *, copies: bool, kernels: bool) -> None:
        """Which work is done as late as may be, from here on: what other streams copy, what the main one computes."""
        self.synchronize()
        self.lazy_copies, self.stream.lazy = copies, kernels

    def block_size(self, nbytes: int) -> int:
        return max(nbytes, 1)  # exact: one byte past the end is somebody's bug

    def launcher(self, name: str, function, signature):
        """What is queued on a stream may be recorded instead; what answers at once may not."""
        launch = super().launcher(name, function, signature)
        return functools.partial(self._queue, launch) if signature[-1:] == ("stream",) else launch

    def array(self, values):
        self.refuse_in_capture("copied to the device")
        return self._written(super().array(values))

    def write(self, array, values) -> None:
        """In the stream's order; the values are those of now."""
        self.refuse_in_capture("copied to the device")
        self.stream.queue(self._copy, np.array(values), array)

    def to_numpy(self, array):
        self.refuse_in_capture("read from the device")
        self.synchronize()
        return super().to_numpy(array)

    def on_host(self, array):
        self.refuse_in_capture("read from the device")
        self.synchronize()
        return super().on_host(array)

    def copy(self, source, target) -> None:
        self._queue(self._copy, source, target)

    def zero(self, array) -> None:
        self._queue(self._zero, array)

    def new_graph(self) -> EmulatedGraph:
        return EmulatedGraph(self)

    def new_stream(self) -> EmulatedStream:
        return EmulatedStream(self.lazy_copies)

    def pinned(self, shape, dtype) -> np.ndarray:
        return np.empty(shape, dtype)

    def copy_from_host(self, source, target, stream: EmulatedStream) -> None:
        stream.queue(self._copy, source, target)

    def synchronize(self, after: str = "") -> None:
        self.stream.synchronize()

    def _copy(self, source, target) -> None:
        super().copy(source, target)
        self._written(target)

    def _zero(self, array) -> None:
        super().zero(array)
        self._written(array)

    def _queue(self, work, *arguments) -> None:
        """On the stream, or kept for the graph that this thread captures."""
        if self.capture.graph is None:
            self.stream.queue(work, *arguments)
        else:
            self.capture.graph.calls.append(functools.partial(work, *arguments))

    def _written(self, array):
        if array.flags.c_contiguous:
            self.module.mark_written(self.address(array), array.nbytes)
        return array
