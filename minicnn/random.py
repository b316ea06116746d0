"""The one source of randomness that the process shares: initial values, and the seed of every dropout mask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

_seed = 0
_streams = 0
_generator = np.random.Generator(np.random.Philox(0))


def manual_seed(seed: int) -> None:
    """Start over: what is drawn from here on depends on `seed` alone."""
    global _seed, _generator, _streams
    _seed, _generator = int(seed), np.random.Generator(np.random.Philox(int(seed)))
    _streams = 0


def seed() -> int:
    return _seed


def generator() -> np.random.Generator:
    """The generator that initial values are drawn from."""
    return _generator


def next_stream() -> int:
    """A number that no other stream of random masks has had since manual_seed: 0, 1, 2, ... in order of asking."""
    global _streams
    _streams += 1
    return _streams - 1


def state() -> dict:
    """All that is drawn from here on depends on, as JSON knows it: for `set_state`."""
    generator = _generator.bit_generator.state
    return {"seed": _seed, "streams": _streams, "generator": _listed(generator)}


def set_state(saved: dict) -> None:
    """Draw from here on what was drawn after `state()`."""
    global _seed, _generator, _streams
    _seed, _streams = saved["seed"], saved["streams"]
    _generator = np.random.Generator(np.random.Philox(_seed))
    _generator.bit_generator.state = saved["generator"]


def _listed(value):
    """NumPy's arrays and integers as Python's."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """The numbers that are given out within the block are given out again behind it."""
    global _streams
    before = _streams
    try:
        yield
    finally:
        _streams = before
