"""Memory of the host: pools that hand blocks out again, and what the machine has left."""

from __future__ import annotations

import contextlib
import mmap
import threading
from pathlib import Path

import numpy as np

LINE, PAGE, HUGE_PAGE = 64, 4096, 2 << 20


class Pool:
    """Host memory that is handed out again after its last array has gone: fresh pages cost more than most ops.

    Free blocks are kept by size. A request that finds none lets go of all of them once they hold more than was in use
    at any time since that last happened, so that a change of batch size does not pile up memory.
    """

    def __init__(self, allocate, release):
        self.allocate, self.release = allocate, release  # (bytes) -> address; (address)
        self.free: dict[int, list[int]] = {}
        self.free_bytes = self.used_bytes = self.peak_bytes = 0
        self.most_used_bytes = self.most_held_bytes = 0  # since `start_watch`
        self.lock = threading.RLock()  # the collector may run within a method, and give blocks back

    def take(self, nbytes: int) -> int:
        with self.lock:
            addresses = self.free.get(nbytes)
            if addresses:
                self.free_bytes -= nbytes
                address = addresses.pop()
            else:
                if self.free_bytes > self.peak_bytes:
                    self.trim()
                address = self.allocate(nbytes)
            self.used_bytes += nbytes
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)
            self.most_used_bytes = max(self.most_used_bytes, self.used_bytes)
            self.most_held_bytes = max(self.most_held_bytes, self.used_bytes + self.free_bytes)
            return address

    def give_back(self, address: int, nbytes: int) -> None:
        with self.lock:
            self.used_bytes -= nbytes
            self.free_bytes += nbytes
            self.free.setdefault(nbytes, []).append(address)

    def trim(self) -> None:
        free, self.free, self.free_bytes, self.peak_bytes = self.free, {}, 0, self.used_bytes
        for addresses in free.values():
            for address in addresses:
                self.release(address)

    def start_watch(self) -> int:
        with self.lock:
            self.trim()
            self.most_used_bytes = self.most_held_bytes = self.used_bytes
            return self.used_bytes


class GuardedMemory:
    """The emulated device's memory. Nothing is kept for the next array behind its back: the emulation poisons what is
    given back, finds what is written there later, and itself hands out the block last released first, at its address.
    """

    def __init__(self, module):
        self.module = module
        self.used_bytes = self.most_used_bytes = 0

    def take(self, nbytes: int) -> int:
        address = self.module.allocate(nbytes)
        self.used_bytes += nbytes
        self.most_used_bytes = max(self.most_used_bytes, self.used_bytes)
        return address

    def give_back(self, address: int, nbytes: int) -> None:
        self.module.release(address)
        self.used_bytes -= nbytes

    @property
    def most_held_bytes(self) -> int:
        return self.most_used_bytes

    def start_watch(self) -> int:
        self.most_used_bytes = self.used_bytes
        return self.used_bytes


class Block:
    """A lease on pool memory: the base of a NumPy array, given back when the last view of it has gone."""

    __slots__ = ("__array_interface__", "address", "nbytes", "pool")

    def __init__(self, pool: Pool | GuardedMemory, nbytes: int, shape: tuple[int, ...], typestr: str):
        self.pool, self.nbytes = pool, nbytes
        self.address = pool.take(nbytes)
        self.__array_interface__ = {"data": (self.address, False), "shape": shape, "typestr": typestr, "version": 3}

    def __del__(self):
        if hasattr(self, "address"):
            self.pool.give_back(self.address, self.nbytes)


class SharedScratch(threading.local):
    """Of each thread the largest scratch that one of its kernels asked for, which all of them share."""

    room: np.ndarray | None = None

    def of(self, device, elements: int) -> np.ndarray:
        if self.room is None or self.room.size < elements:
            self.room = None  # first given back, then taken
            self.room = device.empty((elements,), np.float32)
        return self.room


def host_pool() -> Pool:
    """Blocks that begin on a line of the cache; the large ones on a page, and on huge pages where the kernel has some."""
    kept: dict[int, object] = {}

    def allocate(nbytes: int) -> int:
        if nbytes >= HUGE_PAGE:
            memory = mmap.mmap(-1, nbytes)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                with contextlib.suppress(OSError):  # a kernel built without them
                    memory.madvise(mmap.MADV_HUGEPAGE)
            address = np.frombuffer(memory, np.uint8).ctypes.data
        else:
            memory = np.empty(nbytes + LINE, np.uint8)
            address = -(-memory.ctypes.data // LINE) * LINE
        kept[address] = memory
        return address

    return Pool(allocate, kept.pop)


def host_room() -> int | None:
    """What Linux calls available, or what a control group (a container) has left of its limit, if that is less."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError, ValueError):  # no such control group, or "max": no limit
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
        return min(available, max(0, limit - used))
    return available
