"""Devices in the host's memory: "numpy" and "cpu"."""

from __future__ import annotations

import math

import numpy as np

from minicnn.backend.device import Device
from minicnn.backend.kernels import Kernels, check_arrays
from minicnn.host_memory import PAGE, Block, GuardedMemory, Pool, SharedScratch, host_pool, host_room
from minicnn.threads import elementwise, thread_count


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
                check_arrays(name, signature, arguments)
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
