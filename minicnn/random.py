"""The one source of randomness that the process shares: initial values, and the seed of every dropout mask."""

from __future__ import annotations

import itertools

import numpy as np

_seed = 0
_stream_numbers = itertools.count()
_generator = np.random.Generator(np.random.Philox(0))


def manual_seed(seed: int) -> None:
    """Start over: what is drawn from here on depends on `seed` alone."""
    global _seed, _generator, _stream_numbers
    _seed, _generator = int(seed), np.random.Generator(np.random.Philox(int(seed)))
    _stream_numbers = itertools.count()


def seed() -> int:
    return _seed


def generator() -> np.random.Generator:
    """The generator that initial values are drawn from."""
    return _generator


def next_stream() -> int:
    """A number that no other stream of random masks has had since manual_seed: 0, 1, 2, ... in order of asking."""
    return next(_stream_numbers)
