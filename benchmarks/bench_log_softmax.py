"""Log-softmax over classes. Floor: 8 bytes an element forward, 12 backward."""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import log_softmax

CLASSES = {"10 classes": 10, "1000 classes": 1000}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, classes in CLASSES.items():
        x = rng.standard_normal((64 * batch, classes), np.float32)
        passes = {"forward": ((), 5 * x.size, 8 * x.size), "backward": ((0,), 4 * x.size, 12 * x.size)}
        yield Case(name, [x], log_softmax, lambda x: torch.log_softmax(x, -1), passes)


if __name__ == "__main__":
    main("log_softmax", cases)
