"""Processes that decode images into memory which they share with the one that trains.

A worker is a fresh interpreter that runs `serve`, not a fork: a fork would copy locks that other threads hold, and CUDA's
state. It does not import the script that trains either, so that needs no `if __name__ == "__main__"`. Worker and parent
talk over a socket pair; when either ends, by whatever means, the other finds the socket closed. The shared memory has no
name in any file system. So nothing is left behind, not even after SIGKILL.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

import numpy as np

# Arguments: the two file descriptors and sys.path, on which minicnn and the dataset's class are to be found.
COMMAND = (
    "import sys; connection, memory, *sys.path = sys.argv[1:]; "
    "from minicnn.data.workers import serve; serve(int(connection), int(memory))"
)


class WorkerError(ChildProcessError):
    """A worker process ended before its work did."""


class WorkerTraceback(Exception):
    """Where in a worker process an exception was raised: the cause of that exception in the parent."""


class Workers:
    """`count` processes that read batches of `shape` (B, H, W, C) uint8, at most `ahead` of them at a time.

    Every batch is parted among all workers: it is there as soon as it can be, whichever of its images are slow. The
    processes are ended by close(), or else together with this object.
    """

    def __init__(self, count: int, dataset, transform, seed: int, shape: tuple[int, ...], ahead: int):
        try:
            setup = pickle.dumps((dataset, transform, seed, (ahead, *shape)))
        except Exception as error:  # whatever the classes of a user's own raise
            raise TypeError(
                f"{type(dataset).__name__} and {type(transform).__name__} cannot be sent to worker processes "
                f'({error}): use worker_type="thread"'
            ) from error
        descriptor = _shared_memory(int(np.prod((ahead, *shape), dtype=np.int64)))
        try:
            self.slots = _slots(descriptor, (ahead, *shape))
            self.workers: list[Worker] = []
            self.submitted = 0
            self.close = weakref.finalize(self, _end_all, self.workers)
            self.workers += (Worker(descriptor) for _ in range(count))
            for worker in self.workers:
                worker.send_bytes(setup)
        finally:
            os.close(descriptor)

    def submit(self, indices: np.ndarray, epoch: int) -> Callable[[], np.ndarray]:
        """Start on a batch; the call on what is returned waits for its images. In the order of submission, each once."""
        number = self.submitted % len(self.slots)
        self.submitted += 1
        bounds = [len(indices) * i // len(self.workers) for i in range(len(self.workers) + 1)]
        shares = list(zip(self.workers, bounds, bounds[1:], strict=False))
        for worker, start, stop in shares:
            worker.send((number, start, indices[start:stop], epoch))

        def images() -> np.ndarray:
            failures = [failure for worker, *_ in shares if (failure := worker.receive()) is not None]
            if failures:
                error, where = failures[0]
                raise error from WorkerTraceback(where)
            return self.slots[number, : len(indices)].copy()  # the next batch of this number may come at once

        return images


class Worker:
    """One process, and this end of the socket pair to it."""

    def __init__(self, memory: int):
        self.connection, theirs = Pipe()
        descriptors = theirs.fileno(), memory
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, descriptors), *sys.path],
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C on the terminal is for the parent, which ends its workers itself
        )
        theirs.close()

    def send_bytes(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except OSError as error:
            raise self._death() from error

    def send(self, task: tuple) -> None:
        self.send_bytes(pickle.dumps(task))

    def receive(self):
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> WorkerError:
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        advice = "the system does so where memory runs out: take fewer workers, or smaller batches"
        return WorkerError(
            f"the worker process {self.process.pid}, which decodes images, {how}"
            + (f" ({advice})" if code == -signal.SIGKILL else "")
        )


def _end_all(workers: list[Worker]) -> None:
    """At once, whatever they are doing: they hold nothing that anyone will miss."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
        worker.connection.close()


def serve(connection_descriptor: int, memory_descriptor: int) -> None:
    """The worker: read shares of batches into their slots, each on request, until the parent closes the connection."""
    connection = Connection(connection_descriptor)
    threading.Thread(target=_end_with, args=(connection_descriptor,), daemon=True).start()
    try:
        read = _reader(connection.recv_bytes(), memory_descriptor)
        while True:
            connection.send(read(connection.recv()))
    except (EOFError, OSError):
        return


def _end_with(connection_descriptor: int) -> None:
    """End this process when the parent's end is closed, also in the middle of a file that does not come."""
    poller = select.poll()
    poller.register(connection_descriptor, 0)  # of no interest but that the other end is closed
    poller.poll()
    os._exit(0)


def _reader(setup: bytes, memory_descriptor: int) -> Callable:
    """A function that carries out one task and returns None, or what went wrong."""
    try:
        dataset, transform, seed, shape = pickle.loads(setup)
    except Exception as error:
        failure = _failure(
            TypeError(
                f"the dataset or its transform cannot be had in a worker process ({error}): define their classes in a "
                'module that can be imported, or use worker_type="thread"'
            )
        )
        return lambda task: failure
    slots = _slots(memory_descriptor, shape)

    def read(task):
        number, start, indices, epoch = task
        try:
            slots[number, start : start + len(indices)] = transform.read(dataset, indices, epoch, seed)
        except Exception as error:
            return _failure(error)

    return read


def _failure(error: Exception) -> tuple[Exception, str]:
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, where


def _shared_memory(size: int) -> int:
    """The descriptor of `size` bytes, freed when the last process that has it ends."""
    if hasattr(os, "memfd_create"):  # Linux; /dev/shm is kept small in containers
        descriptor = os.memfd_create("minicnn")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(size, 1))
    return descriptor


def _slots(descriptor: int, shape: tuple[int, ...]) -> np.ndarray:
    """The shared memory as batches, (ahead, B, H, W, C) uint8."""
    memory = mmap.mmap(descriptor, 0)
    return np.ndarray(shape, np.uint8, memory)
