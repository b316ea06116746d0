"""Dropout of the fully connected layers. The masks differ from PyTorch's by design: of both, what they hold is compared.

Floor: x is read and y written, with a byte of mask, 9 bytes an element each way.
"""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import dropout

WIDTHS = {"fc6 and fc7": 4096, "conv5 of alexnet": 9216}


def kept_and_scaled(result):
    """The share of zeros, and the mean size of what is left: neither depends on which are dropped."""
    return np.array([(result == 0).mean(), np.abs(result[result != 0]).mean()])


def cases(batch):
    for name, width in WIDTHS.items():
        x = np.ones((batch, width), np.float32)
        passes = {"forward": ((), 10 * x.size, 9 * x.size), "backward": ((0,), x.size, 9 * x.size)}
        ours, theirs = (lambda x: dropout(x, 0.5)), (lambda x: torch.nn.functional.dropout(x, 0.5))
        yield Case(name, [x], ours, theirs, passes, rtol=0.05, compared=kept_and_scaled)


if __name__ == "__main__":
    main("dropout", cases)
