"""Transposition, the one shape op that moves memory. Floor: 8 bytes an element each way."""

import numpy as np
from harness import Case, main

MATRICES = {"square": (4096, 4096), "channels last to first": (55 * 55, 96)}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, (rows, columns) in MATRICES.items():
        x = rng.standard_normal((batch if rows < 4096 else 1, rows, columns), np.float32)
        passes = {"forward": ((), 0, 8 * x.size), "backward": ((0,), 0, 8 * x.size)}
        yield Case(name, [x], lambda x: x.permute(0, 2, 1), lambda x: x.permute(0, 2, 1).contiguous(), passes)


if __name__ == "__main__":
    main("reshape", cases)
