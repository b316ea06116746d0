"""Which of all faults are tried: drawn by a seed, spread evenly over the classes and over the files of each class."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from .rules import CLASSES, Mutant


def draw(mutants: Sequence[Mutant], total: int, seed: str) -> list[int]:
    """The numbers (from 1) of `total` faults, or of all, in a random order. The same seed draws the same."""
    rng = random.Random(seed)
    by_class = defaultdict(list)
    for number, mutant in enumerate(mutants, 1):
        by_class[mutant.kind].append(number)
    drawn: list[int] = []
    scarcest_first = sorted(CLASSES, key=lambda kind: len(by_class[kind]))
    for i, kind in enumerate(scarcest_first):
        share = (total - len(drawn)) // (len(CLASSES) - i)
        drawn += over_files(by_class[kind], mutants, rng)[:share]
    rng.shuffle(drawn)
    return drawn


def over_files(numbers: list[int], mutants: Sequence[Mutant], rng: random.Random) -> list[int]:
    """The numbers in an order that takes one of each file in turn."""
    files = defaultdict(list)
    for number in rng.sample(numbers, len(numbers)):
        files[mutants[number - 1].file].append(number)
    turns = [(turn, rng.random(), number) for file in files.values() for turn, number in enumerate(file)]
    return [number for _, _, number in sorted(turns)]
