"""The instructions of the GPU at hand, by the tests of their twins: what is wrong here is wrong in every kernel above.

The CUDA module needs the probes for this: MINICNN_PROBES=1 at the installation.
"""

import ctypes
import importlib

import numpy as np
import pytest
from conftest import unavailable
from kernels.test_async_copy import test_any_program_of_copies as test_any_program_of_copies
from kernels.test_ldmatrix import test_elements_of_32_bits as test_elements_of_32_bits
from kernels.test_ldmatrix import (
    test_every_lane_gets_the_published_elements as test_every_lane_gets_the_published_elements,
)
from kernels.test_ldmatrix import test_random_bits_from_rows_anywhere as test_random_bits_from_rows_anywhere
from kernels.test_mma import finite as finite
from kernels.test_mma import (
    test_bfloat16_rounds_to_nearest_ties_to_even as test_bfloat16_rounds_to_nearest_ties_to_even,
)
from kernels.test_mma import test_each_element_reaches_its_products as test_each_element_reaches_its_products
from kernels.test_mma import test_float16_rounds_to_nearest_ties_to_even as test_float16_rounds_to_nearest_ties_to_even
from kernels.test_mma import test_integers_are_exact as test_integers_are_exact
from kernels.test_mma import test_product_of_one_warp as test_product_of_one_warp
from kernels.test_mma import test_tf32_rounds_to_nearest_ties_away as test_tf32_rounds_to_nearest_ties_away
from kernels.test_mma import test_widening_is_exact as test_widening_is_exact

from minicnn import backend

pytestmark = pytest.mark.cuda


@pytest.fixture
def cuda():
    why = backend.available()["cuda"]
    return unavailable("cuda", why) if why else backend.device("cuda")


@pytest.fixture
def emulated(cuda):
    """The GPU's instructions, in their twins' place."""
    module = importlib.import_module("minicnn._cuda")
    if not hasattr(module, "instructions"):
        unavailable("instructions", "minicnn._cuda was built without its probes (MINICNN_PROBES=1)")
    return module


@pytest.fixture
def schedule():
    """A GPU has its own."""


@pytest.fixture
def asynchrony():
    """A GPU has its own."""


@pytest.fixture
def on_device(cuda):
    """A function: the values as an array that the host and the GPU share."""
    kept = []

    def make(values):
        values = np.asarray(values)
        kept.append(cuda.cupy.cuda.malloc_managed(values.nbytes))
        memory = (ctypes.c_char * values.nbytes).from_address(kept[-1].ptr)
        array = np.frombuffer(memory, values.dtype).reshape(values.shape)
        array[...] = values
        return array

    return make


@pytest.fixture
def run(cuda):
    def launch(function, *arguments):
        function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments), 0)
        cuda.synchronize()

    return launch
