"""What the bytes of a training run depend on beside its command."""

from __future__ import annotations

import platform

import numpy as np

from minicnn import _build_info, backend, threads


def environment() -> dict[str, str | int]:
    """Versions, the BLAS of the NumPy path, the threads, the native kernels, the compiler: for config.json."""
    native = backend.native_module()
    return {
        "minicnn": _build_info.version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": threads.blas_name(),
        "threads": threads.thread_count(),
        "native": native.instruction_set() if native else "",
        "compiler": _build_info.cxx_compiler,
    }
