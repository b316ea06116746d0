"""Interleaved timing: every contender in every round, in turn and in reverse turn, so that a drifting machine hits all.

Warm: many calls in a row, whose data the caches keep as far as they can. Single: each call behind one of another function,
which empties the caches, or fills them, and on a GPU keeps it busy meanwhile, so that the host's own work does not show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def calls_for(function: Callable, synchronize: Callable, seconds: float) -> int:
    """How many calls fill `seconds`, at least one; the two calls that find out also warm up."""
    function()
    synchronize()
    started = time.perf_counter()
    function()
    synchronize()
    return max(1, int(seconds / max(time.perf_counter() - started, 1e-9)))


def interleaved(
    contenders: dict[str, Callable],
    synchronize: Callable = lambda: None,
    rounds: int = 9,
    seconds: float = 0.02,
    rest: float = 0.0,
) -> dict[str, Timing]:
    """Time each contender over `rounds` rounds of about `seconds` each, `rest` seconds before each of its turns."""
    calls = {name: calls_for(function, synchronize, seconds) for name, function in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for name in turns(contenders, rounds):
        function = contenders[name]
        synchronize()
        time.sleep(rest)
        started = time.perf_counter()
        for _ in range(calls[name]):
            function()
        synchronize()
        samples[name].append((time.perf_counter() - started) / calls[name])
    return {name: timing_of(seconds) for name, seconds in samples.items()}


def single(
    contenders: dict[str, Callable], before: Callable, stopwatch: Callable, rounds: int = 9
) -> dict[str, Timing]:
    """Time single calls by a stopwatch, that of each contender behind `before(contender)`."""
    readings: dict[str, list[Callable]] = {name: [] for name in contenders}
    for name in turns(contenders, rounds):
        before(contenders[name])
        readings[name].append(stopwatch(contenders[name]))
    return {name: timing_of([read() for read in those]) for name, those in readings.items()}


def turns(contenders: dict, rounds: int) -> Iterator[str]:
    for i in range(rounds):
        yield from contenders if i % 2 == 0 else reversed(contenders)


def timing_of(seconds: list[float]) -> Timing:
    return Timing(*(float(np.percentile(seconds, p)) for p in (50, 25, 75)))


def host_stopwatch(synchronize: Callable) -> Callable:
    """A function that calls another and returns a function: how many seconds that took."""

    def timed(function):
        synchronize()
        started = time.perf_counter()
        function()
        synchronize()
        seconds = time.perf_counter() - started
        return lambda: seconds

    return timed


def cuda_stopwatch() -> Callable:
    """The same by events on the stream, to which the host's work does not count while the stream is busy with a flush."""
    import torch

    def timed(function):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()

        def seconds() -> float:
            end.synchronize()
            return begin.elapsed_time(end) / 1e3

        return seconds

    return timed
