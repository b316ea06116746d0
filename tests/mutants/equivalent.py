"""Faults that change no result, each with the argument why: they count for nothing, and may be three in a hundred.

One that a test kills after all ends the run: then the argument is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rules import Mutant

MOST = 0.03  # of the faults drawn


@dataclass(frozen=True)
class Equivalent:
    file: str
    original: str
    faulty: str
    why: str


EQUIVALENT: tuple[Equivalent, ...] = ()


def argument(mutant: Mutant) -> str:
    """Why a fault is none; "" for the others."""
    same = (
        e.why for e in EQUIVALENT if (e.file, e.original, e.faulty) == (mutant.file, mutant.original, mutant.faulty)
    )
    return next(same, "")
