"""Logistic sigmoid. Floor: 8 bytes an element forward, 12 backward."""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import sigmoid

WIDTHS = {"fc6 and fc7": 4096, "conv1 of alexnet": 55 * 55 * 96}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, width in WIDTHS.items():
        x = rng.standard_normal((batch, width), np.float32)
        passes = {"forward": ((), 10 * x.size, 8 * x.size), "backward": ((0,), 3 * x.size, 12 * x.size)}
        yield Case(name, [x], sigmoid, torch.sigmoid, passes)


if __name__ == "__main__":
    main("sigmoid", cases)
