"""Fixtures of the whole suite: the devices that are there, and the count of what could not be run."""

import itertools
import math
import os

import numpy as np
import pytest

import minicnn
from minicnn import backend
from minicnn.errors import DeviceError

REQUIRED = set(
    filter(None, os.environ.get("MINICNN_REQUIRE", "").split(","))
)  # what may not be skipped: torch, emulated, cuda


def pytest_addoption(parser):
    parser.addoption(
        "--checked", action="store_true", help="run the emulated kernels under the detector of races (docs/detector.md)"
    )
    parser.addoption(
        "--schedule",
        metavar="order=random,seed=1,asynchrony=late",
        help="how the emulated device schedules, where a test does not say otherwise",
    )


def pytest_configure(config):
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


def _device(name: str):
    why = backend.available()[name]
    return unavailable(name, why) if why else backend.device(name)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def kernel_device(request):
    """Each device that runs the CUDA kernels. On the emulated one every buffer's guard bands are looked at afterwards."""
    device = _device(request.param)
    yield device
    if request.param == "emulated":
        device.module.check_guards()


@pytest.fixture(params=["numpy", "emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Every device: the reference and those that run the kernels."""
    device = _device(request.param)
    yield device
    if request.param == "emulated":
        device.module.check_guards()


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
def rng():
    return np.random.default_rng(20121203)


@pytest.fixture(autouse=True)
def _same_seed():
    minicnn.random.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] = reasons.get(reason.removeprefix("Skipped: "), 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"not run: {count} tests ({reason})")
