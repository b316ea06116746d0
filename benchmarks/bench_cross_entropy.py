"""Cross-entropy of logits. Floor: the logits are read once forward; read once and their gradient written backward."""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import cross_entropy

CLASSES = {"10 classes": 10, "1000 classes": 1000}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, classes in CLASSES.items():
        logits, target = rng.standard_normal((batch, classes), np.float32), rng.integers(0, classes, batch)
        passes = {
            "forward": ((), 5 * logits.size, 4 * logits.size),
            "backward": ((0,), 4 * logits.size, 8 * logits.size),
        }
        yield Case(name, [logits, target], cross_entropy, torch.nn.functional.cross_entropy, passes)


if __name__ == "__main__":
    main("cross_entropy", cases)
