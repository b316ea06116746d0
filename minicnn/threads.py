"""Threads of the NumPy path: ops share their work among the cores themselves, and BLAS keeps to the thread that calls.

BLAS's own threads spin for a while after each product, on the cores that the rest of the step wants.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import ThreadpoolController

FEW = 1 << 17  # operations: they are done before a second thread has woken up


def thread_count() -> int:
    """MINICNN_THREADS, or as many as there are cores for this process."""
    if given := os.environ.get("MINICNN_THREADS"):
        return max(1, int(given))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def share_count(count: int, operations: int) -> int:
    """Into how many shares `in_shares` cuts range(count)."""
    return max(1, min(thread_count(), count)) if operations > FEW else 1


def in_shares(work: Callable[[slice], object], count: int, operations: int) -> list:
    """[work(share), ...] over slices that cover range(count) in order: one a thread, or one alone where `operations`,
    of the whole, are few. What work raises is raised from here.
    """
    threads = share_count(count, operations)
    bounds = [count * i // threads for i in range(threads + 1)]
    mine, *others = map(slice, bounds, bounds[1:])
    # Each in a copy of this context, so that np.errstate holds there too.
    futures = [_pool(threads).submit(contextvars.copy_context().run, work, share) for share in others]
    try:
        return [work(mine), *(future.result() for future in futures)]
    finally:
        for future in futures:  # whatever work raised here, the others write no longer when this returns
            future.exception()


def elementwise(work: Callable, *arrays) -> None:
    """work(*the same elements of each array) on C-contiguous arrays of one shape: a share of each, flat."""
    flat = [array.reshape(-1, copy=False) for array in arrays]
    in_shares(lambda share: work(*(array[share] for array in flat)), flat[0].size, flat[0].size)


@contextlib.contextmanager
def one_blas_thread():
    """Within, the BLAS that NumPy calls starts no threads."""
    libraries = _blas()
    before = [library.num_threads for library in libraries]
    for library in libraries:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in zip(libraries, before, strict=True):
            library.set_num_threads(threads)


def blas_name() -> str:
    """What multiplies NumPy's matrices, for example "openblas 0.3.31 SkylakeX": the kernels are chosen by processor."""
    parts = [(blas.internal_api, blas.version, getattr(blas, "architecture", None)) for blas in _blas()]
    return ", ".join(" ".join(filter(None, part)) for part in parts) or "unknown"


@functools.cache
def _blas() -> list:
    return ThreadpoolController().select(user_api="blas").lib_controllers


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="minicnn")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
