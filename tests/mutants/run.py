"""Runs the tests of the kernels once for each fault, in processes forked from one that has collected them already.

First every test runs without a fault: it must pass, and says which faults it passes by and how long it takes. A fault then
meets only the tests that pass by it, the quickest first, until one fails.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import pickle
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import pytest

from .build import ROOT, Switch

TESTS = [str(ROOT / "tests" / "ops"), str(ROOT / "tests" / "kernels")]
NOT_OF_KERNELS = {"test_emulation.py", "test_bindings.py"}
OPTIONS = ["-q", "-s", "--tb=line", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:logging"]

SECONDS, TIMES_AS_LONG = 2.0, 20.0  # of processor time: what a test with a fault may take, beside as many times its own
MOST_SECONDS = 60.0  # that all tests of one fault may take together: what none has found by then counts as alive
MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class Result:
    number: int
    outcome: str  # killed, killed by time, survived, not reached, not run
    by: str = ""  # the test that failed
    why: str = ""
    passed: tuple[str, ...] = ()  # of a survivor: the tests that pass by it


Baseline = list[tuple[float, frozenset[int]]]  # of each test: its seconds, and the faults that it passes by


def run_mutants(
    module: Path,
    count: int,
    numbers: list[int],
    tests: set[str],
    processes: int,
    seconds: float,
    on_result: Callable[[Result], None],
) -> None:
    """Tells what these tests (all, where none is named) say of these faults, in this order, while there is time: the
    seconds count from when the tests have passed without a fault.

    To be called before minicnn is imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINICNN_THREADS"):
        os.environ[name] = "1"
    # The checkout's folder of sources, which stands on the path of `python -m`, would hide an installed minicnn.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    switch = Switch(module, count)
    switch.install()
    # Once, and not in each process: the seconds would count as a test's. An optimiser of torch imports the second.
    with contextlib.suppress(ImportError):
        for name in ("torch", "torch._dynamo"):
            importlib.import_module(name)
    conductor = Conductor(switch, numbers, tests, processes, seconds, on_result)
    checked = ["--checked"] if switch.name == "_emulated_checked" else []
    with silence():
        pytest.main([*OPTIONS, *checked, "--rootdir", str(ROOT), *TESTS], plugins=[conductor])
    if conductor.complaint:
        raise SystemExit(f"mutants: {conductor.complaint}")


def run_and_send(pipe: Connection, *arguments) -> None:
    """run_mutants() in a process of its own."""
    run_mutants(*arguments, pipe.send)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """pytest's own output goes nowhere; whoever reports has kept a copy of the terminal."""
    kept = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    yield
    for copy, number in zip(kept, (1, 2), strict=True):
        os.dup2(copy, number)


class Conductor:
    """A pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, switch, numbers, tests, processes, seconds, on_result):
        self.switch, self.numbers, self.tests, self.on_result = switch, numbers, tests, on_result
        self.processes, self.seconds = processes, seconds
        self.complaint = "the tests could not be collected"
        self.failure = ("", "")  # the test that failed first, and why

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if runs_kernels(item) and (not self.tests or item.nodeid in self.tests)]

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.failure[0]:
            crash = getattr(report.longrepr, "reprcrash", None)
            words = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
            self.failure = (report.nodeid, words[0][:160])

    def pytest_runtestloop(self, session):
        try:
            self.run(session.items)
            self.complaint = ""
        except RuntimeError as error:  # of which pytest would say so nowhere
            self.complaint = str(error)
        return True

    def run(self, items) -> None:
        measured: Baseline = [(0.0, frozenset())] * len(items)
        shares = [
            (share, functools.partial(self.measure, items[share :: self.processes])) for share in range(self.processes)
        ]
        for share, baseline in in_forks(shares, self.processes):
            if isinstance(baseline, signal.Signals):
                raise RuntimeError(f"without a fault, {baseline.name} ended the tests")
            if isinstance(baseline, tuple):
                raise RuntimeError(f"without a fault, {baseline[0]} fails: {baseline[1]}")
            measured[share :: self.processes] = baseline
        tests = {number: tests_of(number, measured) for number in self.numbers}
        for number in self.numbers:
            if not tests[number]:
                self.on_result(Result(number, "not reached"))
        jobs = (
            (number, functools.partial(self.examine, items, number, tests[number], measured))
            for number in self.numbers
            if tests[number]
        )
        for number, outcome in in_forks(jobs, self.processes, time.monotonic() + self.seconds):
            result = Result(number, *outcome_of(outcome))
            if result.outcome == "survived":
                result = replace(result, passed=tuple(items[i].nodeid for i in tests[number]))
            self.on_result(result)

    def measure(self, items) -> Baseline | tuple[str, str]:
        """In a process of its own: every test without a fault; the first failure where there is one."""
        baseline = []
        for item in items:
            self.switch.take_reached()
            begin = time.process_time()
            run_test(item)
            baseline.append((time.process_time() - begin, self.switch.take_reached()))
            if self.failure[0]:
                return self.failure
        return baseline

    def examine(self, items, number: int, tests: list[int], baseline: Baseline) -> tuple[str, str]:
        """In a process of its own: the tests with a fault on; ("", "") where none fails."""
        self.switch.choose(number)
        begin = time.process_time()
        for i in tests:
            signal.setitimer(signal.ITIMER_PROF, SECONDS + TIMES_AS_LONG * baseline[i][0])
            run_test(items[i])
            if self.failure[0] or time.process_time() - begin > MOST_SECONDS:
                break
        return self.failure


def runs_kernels(item) -> bool:
    """Whether a test may reach the emulated kernels."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return (
        item.path.name not in NOT_OF_KERNELS
        and bool({"kernel_device", "ladder_device", "device", "emulated"} & set(item.fixturenames))
        and not {"numpy", "cpu", "cuda"} & {value for value in parameters if isinstance(value, str)}
    )


def run_test(item) -> None:
    item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


def tests_of(number: int, baseline: Baseline) -> list[int]:
    """The tests that pass by a fault, the quickest first."""
    return sorted((i for i, (_, reached) in enumerate(baseline) if number in reached), key=lambda i: baseline[i][0])


def outcome_of(outcome) -> tuple[str, str, str]:
    if outcome == signal.SIGPROF:
        return "killed by time", "", ""
    if isinstance(outcome, signal.Signals):
        return "killed", "", f"the process was ended by {outcome.name}"
    return ("killed" if outcome[0] else "survived", *outcome)


def in_forks(jobs: Iterable[tuple[int, Callable]], processes: int, stop: float = math.inf) -> Iterator[tuple[int, Any]]:
    """Calls each function in a process of its own, while there is time: (its number, its result or what signal ended it)."""
    running, jobs = {}, iter(jobs)
    with selectors.DefaultSelector() as selector:
        while True:
            while len(running) < processes and time.monotonic() < stop and (job := next(jobs, None)):
                pipe, process = fork(job[1])
                running[pipe] = (job[0], process)
                selector.register(pipe, selectors.EVENT_READ)
            if not running:
                return
            for _, process in running.values():
                if resident_bytes(process) > MOST_BYTES:
                    os.kill(process, signal.SIGKILL)
            for key, _ in selector.select(timeout=0.5):
                selector.unregister(key.fileobj)
                number, process = running.pop(key.fileobj)
                with key.fileobj:
                    answer = key.fileobj.read()
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                if status > 0:
                    raise RuntimeError(answer.decode())
                yield number, pickle.loads(answer) if status == 0 else signal.Signals(-status)


def resident_bytes(process: int) -> int:
    """What a process has in memory (the detector reserves far more); 0 where no /proc tells."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def fork(function: Callable) -> tuple[IO, int]:
    """Starts a process that writes the function's result into the pipe that comes back."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return os.fdopen(read, "rb"), process
    status = 1
    try:
        answer = pickle.dumps(function())
        status = 0
    except BaseException:
        answer = traceback.format_exc().encode()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(answer)
    os._exit(status)
