"""Philox4x32-10: random words as a pure function of what they are for. The twin of csrc/device/philox.h.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
LOW_32 = 0xFFFFFFFF


def philox4x32(counter, key) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four random words for every counter.

    `counter` is four 32-bit words (each an int or an array (N,)), `key` two ints; the result is four arrays (N,) uint64
    that hold 32-bit words: a round needs both halves of a 32 x 32-bit product.
    """
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = key
    low, half = np.uint64(LOW_32), np.uint64(32)
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1 = (product1 >> half) ^ c1 ^ np.uint64(k0), product1 & low
        c2, c3 = (product0 >> half) ^ c3 ^ np.uint64(k1), product0 & low
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & LOW_32, (k1 + KEY_INCREMENTS[1]) & LOW_32
    return c0, c1, c2, c3


def random_words(seed: int, step: int, numbers, stream: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four uint64 arrays (N,) of 32-bit words for `numbers` (N,) of up to 64 bits; `stream` keeps uses apart."""
    numbers = np.asarray(numbers).astype(np.uint64)
    counter = (numbers & np.uint64(LOW_32), numbers >> np.uint64(32), step & LOW_32, stream & LOW_32)
    return philox4x32(counter, (seed & LOW_32, seed >> 32 & LOW_32))


def permutation(seed: int, step: int, count: int, stream: int) -> np.ndarray:
    """A random order of range(count), (count,) int64: the numbers sorted by 64 random bits each."""
    high, low, _, _ = random_words(seed, step, np.arange(count), stream)
    return np.argsort(high << np.uint64(32) | low, kind="stable")
