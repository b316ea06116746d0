"""cuBLASLt through ctypes: the product of two matrices by every algorithm that its heuristic proposes.

A library of cuBLASLt must be loaded already, or found: PyTorch's CUDA build brings one, NVIDIA's wheel nvidia-cublas
another. The constants are those of cublasLt.h, cublas_api.h and library_types.h of CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p

CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF = 0, 2, 14
COMPUTE_32F, COMPUTE_32F_FAST_TF32 = 68, 77
DESC_TRANSA, OP_T = 3, 1
PREF_MAX_WORKSPACE_BYTES = 1
LIBRARIES = ("libcublasLt.so.13", "libcublasLt.so.12")
ASKED_FOR = 64  # algorithms: more than the heuristic has ever had to offer
WORKSPACE = 32 << 20  # bytes, as NVIDIA recommends for its largest GPUs
FORMATS = {  # precision -> element type, how it multiplies; sums are float32
    "float32": (CUDA_R_32F, COMPUTE_32F),
    "tf32": (CUDA_R_32F, COMPUTE_32F_FAST_TF32),
    "float16": (CUDA_R_16F, COMPUTE_32F),
    "bfloat16": (CUDA_R_16BF, COMPUTE_32F),
}


class Algorithm(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algo", c_uint64 * 8),
        ("workspace_size", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


SIGNATURES = {
    "Create": (POINTER(c_void_p),),
    "MatmulDescCreate": (POINTER(c_void_p), c_int, c_int),
    "MatmulDescSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "MatrixLayoutCreate": (POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64),
    "MatmulPreferenceCreate": (POINTER(c_void_p),),
    "MatmulPreferenceSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "MatmulAlgoGetHeuristic": (*(c_void_p,) * 7, c_int, POINTER(Algorithm), POINTER(c_int)),
    "Matmul": (*(c_void_p,) * 13, c_size_t, c_void_p),
}


class CublasLt:
    """products(...) -> name -> a call that computes c (M, N) = a (M, K) b (N, K)^T on a stream. OSError without a library."""

    def __init__(self, library=None):
        self.library = library or load()
        self.handle = self.create("Create")

    def call(self, name: str, *arguments) -> None:
        function = getattr(self.library, f"cublasLt{name}")
        function.argtypes, function.restype = SIGNATURES[name], c_int
        status = function(*arguments)
        if status:
            raise RuntimeError(f"cublasLt{name} returned status {status}")

    def create(self, name: str, *arguments) -> c_void_p:
        made = c_void_p()
        self.call(name, byref(made), *arguments)
        return made

    def products(
        self, a: int, b: int, c: int, shape: tuple[int, int, int], precision: str, workspace: int, stream: int = 0
    ) -> dict[str, Callable]:
        """Of addresses on the device, `workspace` that of WORKSPACE bytes.

        cuBLASLt counts columns first: to it the rows of a, b and c are columns, and what it computes is c^T = b a^T.
        """
        m, n, k = shape
        element, compute = FORMATS[precision]
        product = self.create("MatmulDescCreate", compute, CUDA_R_32F)
        self.call("MatmulDescSetAttribute", product, DESC_TRANSA, byref(c_int(OP_T)), ctypes.sizeof(c_int))
        of_b, of_a, of_c = (
            self.create("MatrixLayoutCreate", element, rows, columns, rows)
            for rows, columns in ((k, n), (k, m), (n, m))
        )
        one, zero = c_float(1), c_float(0)

        def multiply(algorithm: Algorithm) -> None:
            operands = (byref(one), b, of_b, a, of_a, byref(zero), c, of_c, c, of_c)
            self.call("Matmul", self.handle, product, *operands, byref(algorithm), workspace, WORKSPACE, stream)

        algorithms = self.algorithms(product, of_b, of_a, of_c)
        return {f"cuBLASLt {i}": lambda found=found: multiply(found) for i, found in enumerate(algorithms)}

    def algorithms(self, product, of_a, of_b, of_c) -> list[Algorithm]:
        preference = self.create("MatmulPreferenceCreate")
        room = c_uint64(WORKSPACE)
        self.call(
            "MatmulPreferenceSetAttribute", preference, PREF_MAX_WORKSPACE_BYTES, byref(room), ctypes.sizeof(room)
        )
        found, count = (Algorithm * ASKED_FOR)(), c_int()
        layouts = of_a, of_b, of_c, of_c
        self.call("MatmulAlgoGetHeuristic", self.handle, product, *layouts, preference, ASKED_FOR, found, byref(count))
        return [algorithm for algorithm in found[: count.value] if algorithm.state == 0]


def load() -> ctypes.CDLL:
    """The library that this process has loaded, or that the loader finds."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"none of {', '.join(LIBRARIES)} is loaded or found: PyTorch's CUDA build brings one")
