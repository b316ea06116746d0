"""Interleaved timing: every contender in every round, in turn and in reverse turn, so that a drifting machine hits all."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    contenders: dict[str, Callable], synchronize: Callable = lambda: None, rounds: int = 9, seconds: float = 0.02
) -> dict[str, Timing]:
    """Time each contender over `rounds` rounds of about `seconds` each."""
    calls = {name: calls_for(function, synchronize, seconds) for name, function in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds):
        for name in list(contenders) if i % 2 == 0 else reversed(contenders):
            function = contenders[name]
            synchronize()
            started = time.perf_counter()
            for _ in range(calls[name]):
                function()
            synchronize()
            samples[name].append((time.perf_counter() - started) / calls[name])
    return {name: Timing(*(float(np.percentile(s, p)) for p in (50, 25, 75))) for name, s in samples.items()}
