"""Element-wise arithmetic: equal shapes, and a bias along the channels. Floor: 12 bytes an element forward."""

import operator

import numpy as np
from harness import Case, main

OPERATORS = {"add": operator.add, "multiply": operator.mul, "divide": operator.truediv}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, function in OPERATORS.items():
        a, b = (rng.uniform(0.5, 1.5, (batch, 55 * 55 * 96)).astype(np.float32) for _ in range(2))
        work = {"forward": ((), a.size, 12 * a.size), "backward": ((0, 1), 2 * a.size, 20 * a.size)}
        yield Case(f"{name}, equal shapes", [a, b], function, function, work)
        bias = rng.uniform(0.5, 1.5, a.shape[1]).astype(np.float32)
        work = {"forward": ((), a.size, 8 * a.size), "backward": ((0, 1), 2 * a.size, 12 * a.size)}
        yield Case(f"{name}, a row to all rows", [a, bias], function, function, work)


if __name__ == "__main__":
    main("arithmetic", cases)
