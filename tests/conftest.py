"""Fixtures of the whole suite: the devices that are there, the count of what was run within tests, and of what was not."""

import collections
import functools
import itertools
import math
import os
import secrets

import numpy as np
import pytest

import minicnn
from minicnn import backend
from minicnn.errors import DeviceError

try:
    import hypothesis
except ImportError:
    hypothesis = None
    collect_ignore = ["test_axes.py", "test_random_shapes.py"]

REQUIRED = set(
    filter(None, os.environ.get("MINICNN_REQUIRE", "").split(","))
)  # what may not be skipped: torch, onnx, emulated, cuda

# Random cases a test: --hypothesis-profile=thorough chooses the second. Nothing is kept between runs but the seed.
if hypothesis is not None:
    for profile, cases in (("ordinary", 10), ("thorough", 200)):
        hypothesis.settings.register_profile(
            profile, max_examples=cases, deadline=None, database=None, derandomize=False, print_blob=True
        )
    hypothesis.settings.load_profile("ordinary")


def pytest_addoption(parser):
    parser.addoption(
        "--checked", action="store_true", help="run the emulated kernels under the detector of races (docs/detector.md)"
    )
    parser.addoption(
        "--schedule",
        metavar="order=random,seed=1,asynchrony=late",
        help="how the emulated device schedules, where a test does not say otherwise",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if hypothesis is not None and config.getoption("hypothesis_seed") is None:
        # drawn here: so the summary can name it, and all workers have the same
        config.option.hypothesis_seed = secrets.randbelow(2**32)
    if config.getoption("--checked"):
        os.environ["MINICNN_EMULATED"] = "checked"
    schedule = config.getoption("--schedule")
    if not (config.getoption("--checked") or schedule):
        return
    try:
        module = backend.device("emulated").module
        words = dict(word.split("=") for word in (schedule or "").split(",") if word)
        module.configure(**module.configuration() | words | {"seed": int(words.get("seed", 0))})
    except (DeviceError, TypeError, ValueError) as error:
        raise pytest.UsageError(f"{'--schedule' if schedule else '--checked'}: {error}") from error


def unavailable(what: str, why: str):
    """Skip for want of `what`, or fail where this run must have it."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required by MINICNN_REQUIRE, but: {why}")
    pytest.skip(f"{what}: {why}")


class GuardedNativeDevice(backend.NativeDevice):
    """Device "cpu" with each array alone between the emulated device's guard pages."""

    smallest_block = 0
    block_size = backend.EmulatedDevice.block_size

    def __init__(self):
        super().__init__(backend.native_module())
        self.pool = backend.device("emulated").pool


@functools.cache
def _device(name: str):
    why = backend.available()[name] or (_why_not_native() if name == "cpu" else "")
    if why:
        return unavailable(name, why)
    return GuardedNativeDevice() if name == "cpu" else backend.device(name)


def _why_not_native() -> str:
    return "" if backend.native_module() else f"no native kernels: {backend.available()['emulated']}"


def _guarded(device):
    """The device; every buffer's guard bands are looked at afterwards."""
    yield device
    if isinstance(device, backend.HostDevice) and device.smallest_block == 0:
        backend.device("emulated").module.check_guards()


@pytest.fixture(params=["cpu", "emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def kernel_device(request):
    """Each device that runs kernels: the native ones, and the CUDA ones."""
    yield from _guarded(_device(request.param))


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def ladder_device(request):
    """Each device with the ladder's rungs, which obey a schedule: those that run the CUDA kernels."""
    yield from _guarded(_device(request.param))


@pytest.fixture
def turing_device():
    """The emulated device as a GPU of compute capability 7.5."""
    device = _device("emulated")
    before = device.module.configuration()
    device.module.configure(**before | {"capability": 75})
    yield from _guarded(device)
    device.module.configure(**before)


@pytest.fixture(params=["numpy", "cpu", "emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Every device: the reference and those that run the kernels."""
    yield from _guarded(_device(request.param))


@pytest.fixture(params=["all_arrays", "the_first_of_two", "the_second_of_two"])
def unaligned_device(request, kernel_device, monkeypatch):
    """A device whose arrays begin one element past a 16-byte boundary, as views into larger ones may."""
    empty, numbers = kernel_device.empty, itertools.count()
    shifted = {"all_arrays": (0, 1), "the_first_of_two": (0,), "the_second_of_two": (1,)}[request.param]

    def shifted_empty(shape, dtype=np.float32):
        offset = int(next(numbers) % 2 in shifted)
        return empty((offset + math.prod(shape),), dtype)[offset:].reshape(shape)

    monkeypatch.setattr(kernel_device, "empty", shifted_empty)
    return kernel_device


@pytest.fixture
def torch():
    """PyTorch's CPU build, the second opinion."""
    try:
        import torch
    except ImportError as error:
        return unavailable("torch", str(error))
    return torch


@pytest.fixture
def onnx():
    """ONNX, for the test vectors that it ships."""
    try:
        import onnx
    except ImportError as error:
        return unavailable("onnx", str(error))
    return onnx


@pytest.fixture
def onnxruntime(onnx):
    """Another program that runs ONNX files."""
    try:
        import onnxruntime
    except ImportError as error:
        return unavailable("onnx", str(error))
    return onnxruntime


@pytest.fixture
def direct_sums(monkeypatch):
    """Without Winograd's algorithms, whose rounding tests/ops/test_conv2d_native.py judges, on device "cpu"."""
    monkeypatch.setenv("MINICNN_CONV", "direct")


@pytest.fixture
def rng():
    return np.random.default_rng(20121203)


@pytest.fixture(autouse=True)
def _same_seed():
    minicnn.random.manual_seed(0)


@pytest.fixture
def count(request):
    """count(what, number=1): what this test has done, for the sums of its file in the summary."""
    counts = {}
    request.node.user_properties.append((COUNT, [request.path.stem.removeprefix("test_").replace("_", " "), counts]))

    def add(what: str, number: int = 1):
        counts[what] = counts.get(what, 0) + number

    return add


COUNT = "count"


def pytest_terminal_summary(terminalreporter, config):
    totals: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for report in (*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])):
        for key, value in report.user_properties:
            if key == COUNT:
                totals[value[0]].update(value[1])
    for title, counter in sorted(totals.items()):
        terminalreporter.write_line(f"{title}: " + ", ".join(f"{number} {what}" for what, number in counter.items()))
    if "random shapes" in totals:
        terminalreporter.write_line(f"their seed again: --hypothesis-seed={config.getoption('hypothesis_seed')}")
    skipped = terminalreporter.stats.get("skipped", [])
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] = reasons.get(reason.removeprefix("Skipped: "), 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"not run: {count} tests ({reason})")
