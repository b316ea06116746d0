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


OTHER_WRITER = "thread 1 writes in the place of thread 0, and block_sum() has given both of them the same sums"

EQUIVALENT = (
    Equivalent("csrc/ops/clip_grad_norm.cu", "threadIdx.x > 0", "threadIdx.x - 1 > 0", OTHER_WRITER),
    Equivalent("csrc/ops/cross_entropy.cu", "threadIdx.x > 0", "threadIdx.x - 1 > 0", OTHER_WRITER),
)


def argument(mutant: Mutant) -> str:
    """Why a fault is none; "" for the others."""
    same = (
        e.why for e in EQUIVALENT if (e.file, e.original, e.faulty) == (mutant.file, mutant.original, mutant.faulty)
    )
    return next(same, "")
