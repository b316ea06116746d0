"""The emulated module itself, below the engine: raw addresses, probes, schedules."""

import ctypes

import numpy as np
import pytest
from conftest import unavailable

from minicnn import backend

SCHEDULES = [("forward", 0, 1), ("reverse", 0, 1), ("random", 1, 1), ("random", 2, 1), ("forward", 0, 3)]


@pytest.fixture
def emulated():
    """The module. Its schedule is put back afterwards, and the guards of its buffers are looked at."""
    why = backend.available()["emulated"]
    if why:
        unavailable("emulated", why)
    module = backend.device("emulated").module
    before = module.configuration()
    yield module
    module.configure(**before)
    module.check_guards()


@pytest.fixture
def plain(emulated):
    """For tests of what the plain module lets a kernel do and the checked one refuses at once (test_detector.py)."""
    if emulated.checked:
        pytest.skip("a fault that the checked module refuses before this test could see it")


@pytest.fixture(params=SCHEDULES, ids=lambda schedule: "{}-seed{}-workers{}".format(*schedule))
def schedule(request, emulated):
    """Each order in which threads may run: a correct kernel gives the same answer in all of them."""
    order, seed, workers = request.param
    emulated.configure(**emulated.configuration() | {"order": order, "seed": seed, "workers": workers})
    return request.param


@pytest.fixture
def on_device(emulated):
    """A function: the values as an array in guarded memory of their exact size, released at the end of the test."""
    addresses = []

    def make(values):
        values = np.asarray(values)
        addresses.append(emulated.allocate(values.nbytes))
        memory = (ctypes.c_char * values.nbytes).from_address(addresses[-1])
        array = np.frombuffer(memory, values.dtype).reshape(values.shape)
        array[...] = values
        emulated.mark_written(array.ctypes.data, array.nbytes)
        return array

    yield make
    for address in addresses:
        emulated.release(address)


@pytest.fixture
def run():
    """A function: launches a kernel with arrays as addresses, on the stream 0."""

    def launch(function, *arguments):
        return function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments), 0)

    return launch
