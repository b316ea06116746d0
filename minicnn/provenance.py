"""What the bytes of a training run depend on beside its command."""

from __future__ import annotations

import platform

import numpy as np

from minicnn import _build_info, threads


def environment() -> dict[str, str | int]:
    """Versions, the BLAS and the threads of the NumPy path, the compiler of the emulated kernels: for config.json."""
    return {
        "minicnn": _build_info.version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": threads.blas_name(),
        "threads": threads.thread_count(),
        "emulated_by": _build_info.cxx_compiler,
    }
