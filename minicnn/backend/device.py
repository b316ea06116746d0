"""What every device has."""

from __future__ import annotations

import threading

import numpy as np

from minicnn import _build_info
from minicnn.backend.feed import Feed, HostFeed
from minicnn.backend.kernels import Kernels
from minicnn.choices import Choices
from minicnn.errors import DeviceError
from minicnn.host_memory import SharedScratch

FLOAT32 = np.dtype(np.float32)


class Capture(threading.local):
    """What this thread captures of its work on a device: `graph` is what that will be, None where it captures none."""

    graph = None


class Device:
    """What ops and tensors ask of the place where arrays live. `kernels` is None where NumPy computes."""

    name: str
    kernels: Kernels | None = None
    computes_on_host = False  # whether NumPy computes what the kernels do not
    shared_scratch: SharedScratch | None = None  # where kernels return before the next one begins
    keeps_free_blocks = False  # whether `Pool` has its memory
    smallest_block = 0  # bytes: what is smaller comes from elsewhere and does not count
    choices = Choices()  # of schedules
    prefers_graphs = False
    feed_type: type = HostFeed
    capture: Capture

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

    def new_graph(self):
        """An empty graph: EmulatedGraph says what it is. DeviceError where NumPy computes, or another's kernels."""
        raise DeviceError(f"device {self.name!r} has no graphs: 'cuda' has them, and 'emulated'")

    def refuse_in_capture(self, what: str) -> None:
        """DeviceError where this thread captures a graph, of work within which values are `what`."""
        if self.capture.graph is not None:
            raise DeviceError(
                f"a graph cannot be captured of work within which values are {what}: it would not be repeated"
            )

    def new_feed(self) -> HostFeed | Feed:
        """A way for batches to the device: `push(arrays)` returns them there, to be read before the next push."""
        return self.feed_type(self)

    def side_by_side(self, works: list) -> list:
        """What these functions return, of which none needs another's result: here one after the other."""
        return [work() for work in works]

    def hardware(self) -> str:
        """What it is; "" where it does not say."""
        return ""

    def identity(self) -> str:
        """What measurements on it hold for: the device, its driver, and this version of the kernels."""
        return f"{self.hardware() or self.name}, minicnn {_build_info.version}"

    def begin_range(self, name: str) -> None:
        """What is started until `end_range` bears this name where a profiler of the device watches."""

    def end_range(self) -> None:
        """The end of the last range begun."""

    def __repr__(self) -> str:
        return f"<device {self.name}>"
