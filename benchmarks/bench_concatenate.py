"""Concatenation along channels, as inception modules do it. Floor: 8 bytes an element."""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import concatenate

CHANNELS = (64, 128, 32, 32)


def cases(batch):
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((batch, 28 * 28, c), np.float32) for c in CHANNELS]
    elements = sum(part.size for part in parts)
    wanted = tuple(range(len(parts)))
    passes = {"forward": ((), 0, 8 * elements), "backward": (wanted, 0, 8 * elements)}
    yield Case("inception 3a", parts, lambda *p: concatenate(p, 2), lambda *p: torch.cat(p, 2), passes)


if __name__ == "__main__":
    main("concatenate", cases)
