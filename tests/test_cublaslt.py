"""The calls to cuBLASLt that benchmarks make: put to a library of the same functions that multiplies in the host's memory."""

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# Matrices by columns, as cuBLASLt has them; a is transposed. Of three algorithms the second is of no use.
STAND_IN = r"""
#include <cstddef>
#include <cstdint>
struct Layout { int type; uint64_t rows, columns; int64_t ld; };
struct Product { int compute, scale, transposes_a; };
struct Preference { uint64_t workspace; };
struct Algorithm { uint64_t data[8]; size_t workspace; int state; float waves; int reserved[4]; };
static_assert(sizeof(Algorithm) == 96);
extern "C" {
int cublasLtCreate(void** handle) { *handle = handle; return 0; }
int cublasLtMatmulDescCreate(Product** made, int compute, int scale) {
  *made = new Product{compute, scale, 0};
  return 0;
}
int cublasLtMatmulDescSetAttribute(Product* product, int which, const int* value, size_t size) {
  if (which != 3 || size != sizeof(int)) return 7;
  product->transposes_a = *value;
  return 0;
}
int cublasLtMatrixLayoutCreate(Layout** made, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  *made = new Layout{type, rows, columns, ld};
  return 0;
}
int cublasLtMatmulPreferenceCreate(Preference** made) { *made = new Preference{0}; return 0; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int which, const uint64_t* value, size_t size) {
  if (which != 1 || size != sizeof(uint64_t)) return 7;
  preference->workspace = *value;
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void*, Product*, Layout*, Layout*, Layout*, Layout*, Preference* preference, int asked,
                                   Algorithm* found, int* count) {
  if (asked < 3 || preference->workspace == 0) return 7;
  for (int i = 0; i < 3; ++i) found[i] = Algorithm{{uint64_t(i)}, 0, i == 1 ? 15 : 0, 1.0f, {}};
  *count = 3;
  return 0;
}
int cublasLtMatmul(void*, Product* product, const float* alpha, const float* a, Layout* of_a, const float* b, Layout* of_b,
                   const float* beta, const float* c, Layout* of_c, float* d, Layout* of_d, const Algorithm* algorithm,
                   void*, size_t, void*) {
  if (product->compute != 68 || product->scale != 0 || of_a->type != 0 || !product->transposes_a) return 15;
  if (of_a->rows != of_b->rows || of_d->rows != of_a->columns || of_d->columns != of_b->columns || c != d) return 7;
  for (uint64_t column = 0; column < of_d->columns; ++column)
    for (uint64_t row = 0; row < of_d->rows; ++row) {
      float sum = 0;
      for (uint64_t k = 0; k < of_a->rows; ++k) sum += a[row * of_a->ld + k] * b[column * of_b->ld + k];
      const float before = *beta == 0 ? 0 : *beta * c[column * of_c->ld + row];
      d[column * of_d->ld + row] = *alpha * sum + before + float(algorithm->data[0]);
    }
  return 0;
}
}
"""


@pytest.fixture(scope="module")
def cublaslt():
    spec = importlib.util.spec_from_file_location("cublaslt", BENCHMARKS / "cublaslt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def library(cublaslt, tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("cublaslt")
    (folder / "stand_in.cpp").write_text(STAND_IN)
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-std=c++20",
        str(folder / "stand_in.cpp"),
        "-o",
        str(folder / "stand_in.so"),
    ]
    subprocess.run(command, check=True)
    return cublaslt.CublasLt(ctypes.CDLL(str(folder / "stand_in.so")))


def products(library, precision="float32"):
    """The matrices, and the calls that multiply them."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((5, 7), (3, 7)))
    c = np.full((5, 3), np.nan, np.float32)
    calls = library.products(a.ctypes.data, b.ctypes.data, c.ctypes.data, (5, 3, 7), precision, workspace=0)
    return a, b, c, calls


def test_every_algorithm_of_use_multiplies_rows_by_rows(library):
    a, b, c, calls = products(library)
    assert len(calls) == 2
    for multiply, number in zip(calls.values(), (0, 2), strict=True):  # to which the stand-in adds its own
        multiply()
        np.testing.assert_array_equal(c, a @ b.T + number)


def test_the_structure_is_the_library_s(cublaslt):
    """As the header has it: 64 bytes of algorithm, then workspace, status, waves."""
    offsets = [getattr(cublaslt.Algorithm, name).offset for name in ("algo", "workspace_size", "state", "waves")]
    assert (offsets, ctypes.sizeof(cublaslt.Algorithm)) == ([0, 64, 72, 76], 96)


def test_what_the_library_refuses_is_said(library):
    *_, calls = products(library, "bfloat16")
    with pytest.raises(RuntimeError, match=r"^cublasLtMatmul returned status 15$"):
        next(iter(calls.values()))()


def test_without_the_library_it_says_so(cublaslt, monkeypatch):
    monkeypatch.setattr(cublaslt, "LIBRARIES", ("libcublasLt.so.0",))
    with pytest.raises(
        OSError, match=r"^none of libcublasLt\.so\.0 is loaded or found: PyTorch's CUDA build brings one$"
    ):
        cublaslt.CublasLt()
