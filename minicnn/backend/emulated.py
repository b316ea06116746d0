"""Device "emulated"."""

from __future__ import annotations

from minicnn.backend.host import HostDevice
from minicnn.backend.kernels import Kernels
from minicnn.host_memory import GuardedMemory


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
