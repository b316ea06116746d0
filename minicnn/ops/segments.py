"""Segments of a flat arena, each with multipliers of its own: what the steps of optimizers go by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BLOCK = 1 << 15  # elements: a block of each array and the scratch stay in a core's second-level cache


class Segment(NamedTuple):
    """Elements start <= i < stop, with their own multipliers; lr_multiplier 0 freezes them, their velocity too."""

    start: int
    stop: int
    lr_multiplier: float = 1.0
    decay_multiplier: float = 1.0


class Segments:
    """The segments of an arena, and the same table on its device."""

    def __init__(self, segments: list[Segment], device):
        self.host = segments
        self.bounds = device.array(np.array([(s.start, s.stop) for s in segments], np.int64))
        self.multipliers = device.array(np.array([s[2:] for s in segments], np.float32))
