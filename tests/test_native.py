"""The native kernels beyond what all kernels are asked: instruction sets, threads, elementary functions, memory."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from checks import leaf, run
from conftest import unavailable
from tolerances import assert_close

import minicnn
from minicnn import backend, doctor, nn
from minicnn import functional as F
from minicnn.errors import DeviceError
from minicnn.host_memory import LINE

SETS = ("avx512", "avx2", "baseline")


def module_of(instructions: str):
    baseline = backend.native_module() and backend._module("_native_baseline")
    if baseline is None or instructions not in baseline.instruction_sets():
        return unavailable(f"native kernels for {instructions}", "not compiled, or not for this processor")
    return backend._module(f"_native_{instructions}")


@pytest.fixture(params=SETS)
def device(request):
    """Device "cpu" with the kernels of each instruction set."""
    return backend.NativeDevice(module_of(request.param))


@pytest.fixture
def with_threads():
    """with_threads(device, count): that many threads until the test's end."""
    changed = []

    def change(device, count):
        changed.append((device.module, device.module.thread_count()))
        device.module.set_thread_count(count)

    yield change
    for module, count in reversed(changed):
        module.set_thread_count(count)


# Instruction sets


def test_a_module_says_what_it_was_compiled_for(device):
    name = device.module.__name__.rpartition("_")[2]
    assert device.module.instruction_set().startswith(name)


def test_every_set_has_the_same_functions(device):
    best = backend.native_module()
    assert (device.module.signatures, device.module.shape_fields) == (best.signatures, best.shape_fields)


def test_the_signatures_are_those_of_the_device_kernels(device):
    emulated = backend._module(backend.emulated_module()).signatures
    assert {name: emulated[name] for name in device.module.signatures} == device.module.signatures


def test_a_lesser_set_may_be_asked_for(monkeypatch):
    module_of("avx2")
    monkeypatch.setenv("MINICNN_INSTRUCTIONS", "avx2")
    assert backend.native_module.__wrapped__().instruction_set() == "avx2"


def test_a_set_that_is_not_there_is_refused(monkeypatch):
    module_of("baseline")
    monkeypatch.setenv("MINICNN_INSTRUCTIONS", "mmx")
    with pytest.raises(DeviceError, match=r"^MINICNN_INSTRUCTIONS=mmx: this processor runs (\w+, )*baseline$"):
        backend.native_module.__wrapped__()


def test_doctor_names_the_set(capsys):
    doctor.doctor()
    kernels = f"{backend.native_module().instruction_set()} kernels" if backend.native_module() else "NumPy"
    assert f"  cpu       yes, {kernels}, " in capsys.readouterr().out


# Elementary functions

FUNCTIONS = {
    "exp": (np.exp, 1.5, (-104, 89)),
    "log": (np.log, 1.5, (0, np.inf)),
    "tanh": (np.tanh, 3, (-np.inf, np.inf)),
    "sqrt": (np.sqrt, 0.5, (0, np.inf)),
}


def floats(low, high):
    """One in 1009 of all numbers of float32 between low and high, with NaN, infinities, zeros and ones."""
    every = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], np.float32)
    return np.concatenate([every[(every >= low) & (every <= high)], special])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_stay_within_their_error(name, device):
    exact_function, most, (low, high) = FUNCTIONS[name]
    x = device.array(floats(low, high))
    y = device.empty(x.shape)
    getattr(device.kernels, f"{name}_forward")(x, y, x.size)
    with np.errstate(all="ignore"):
        exact = exact_function(x.astype(np.float64))
        expected = exact.astype(np.float32)
        units = np.abs(y - exact) / np.spacing(np.maximum(np.abs(expected), np.float32(1e-38)))
    special = ~np.isfinite(expected)
    np.testing.assert_array_equal(y[special], expected[special])
    assert units[~special].max() <= most


# Threads

IMAGES = (4, 24, 26, 160)  # enough for sixteen threads to have a share


def steps(rng):
    """Functions of one array, and that array: every native op whose bits do not depend on the number of threads."""
    images, matrix = rng.standard_normal(IMAGES), rng.standard_normal((700, 600))
    target = minicnn.tensor(rng.integers(0, 600, 700))
    norm = nn.BatchNorm2d(IMAGES[-1])
    return {
        "relu": (F.relu, images),
        "tanh": (F.tanh, images),
        "lrn": (lambda x: F.local_response_norm(x, 5), images),
        "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2), images),
        "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2), images),
        "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (5, 7)), images),
        "batch_norm": (norm, images),
        "softmax": (lambda x: F.softmax(x, -1), matrix),
        "cross_entropy": (lambda x: F.cross_entropy(x, leaf(target.numpy(), x.device)), matrix),
        "sum_of_columns": (lambda x: x.sum(0), rng.standard_normal((9000, 40))),
        "sum": (lambda x: x.sum(), images),
        "max": (lambda x: x.max(-1), matrix),
        "arithmetic": (lambda x: x * x[0] / 3.0, matrix),
        "transpose": (lambda x: x.permute(1, 0) * 2.0, matrix),
    }


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_the_number_of_threads_does_not_show(threads, with_threads, rng):
    device = backend.NativeDevice(module_of("baseline"))
    for name, (function, x) in steps(rng).items():
        results = []
        for count in (1, threads):
            with_threads(device, count)
            if isinstance(function, nn.Module):
                function.to(device)
            results.append(run(function, [x.astype(np.float32)], device))
        (y, (dx,)), (again_y, (again_dx,)) = results
        np.testing.assert_array_equal(again_y, y, err_msg=name)
        np.testing.assert_array_equal(again_dx, dx, err_msg=name)


def test_two_threads_of_python_compute_at_once(device, with_threads, rng):
    with_threads(device, 4)
    x = rng.standard_normal((300, 400)).astype(np.float32)
    expected = run(F.tanh, [x], device)[0]
    wrong = []

    def compute():
        for _ in range(100):
            if not np.array_equal(run(F.tanh, [x], device)[0], expected):
                wrong.append(threading.get_ident())

    others = [threading.Thread(target=compute) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert not wrong


def test_a_forked_child_computes(tmp_path):
    """It has none of its parent's threads."""
    module_of("baseline")
    script = """
import os, numpy as np, minicnn
x = minicnn.tensor(np.ones(10**6, np.float32))
def right(): return (minicnn.functional.tanh(x).numpy() == np.float32(np.tanh(1))).all()
assert right()
child = os.fork()
if child == 0:
    os._exit(0 if right() else 1)
assert os.waitpid(child, 0)[1] == 0 and right()
"""
    environment = os.environ | {"MINICNN_THREADS": "3"}
    command = [sys.executable, "-c", script]  # not in the checkout, whose folder it would import
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr


def test_no_share_is_lost(device, with_threads):
    """Far more threads than cores, thousands of ops: none is lost, none waits for ever."""
    with_threads(device, 16)
    x, y = device.array(np.full(16 * 16384, -1.0, np.float32)), device.empty((16 * 16384,))
    for i in range(2000):
        y[::4096] = i
        device.kernels.relu_forward(x, y, x.size)
        assert not y[::4096].any()


# Memory and dtypes


@pytest.mark.parametrize("count", [1024, 5000, 1 << 20])
def test_arrays_begin_on_a_line_of_the_cache(count, device):
    assert device.address(device.empty((count,))) % LINE == 0


def test_float64_is_the_reference(device, rng):
    x = rng.standard_normal((2, 6, 6, 8))
    for function in (F.relu, lambda x: F.local_response_norm(x, 5), lambda x: F.max_pool2d(x, 2)):
        (y, (dx,)), (expected_y, (expected_dx,)) = run(function, [x], device), run(function, [x], "numpy")
        np.testing.assert_array_equal(y, expected_y, strict=True)
        np.testing.assert_array_equal(dx, expected_dx, strict=True)


def test_a_training_step_is_the_reference(device, with_threads, rng):
    """Layers, loss and SGD together, with more threads than cores."""
    with_threads(device, 4)
    images, labels = rng.standard_normal((8, 12, 12, 3)).astype(np.float32), rng.integers(0, 5, 8)
    weights = []
    for place in (device, backend.device("numpy")):
        minicnn.random.manual_seed(0)
        layers = (
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.LocalResponseNorm(5),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(200, 5),
        )
        network = nn.Sequential(*layers).to(place)
        optimizer = minicnn.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(leaf(images, place)), leaf(labels, place)).backward()
            optimizer.step()
        weights.append([parameter.numpy() for parameter in network.parameters()])
    for got, expected in zip(*weights, strict=True):
        assert_close(got, expected, what="weights after three steps", rtol=1e-4, atol=1e-5)
