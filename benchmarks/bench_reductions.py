"""Sum, mean and maximum over rows, columns and everything. Floor: every element is read once."""

import numpy as np
import torch
from harness import Case, main

AXES = {"all": None, "rows": 1, "columns": 0}


def cases(batch):
    x = np.random.default_rng(0).standard_normal((64 * batch, 4096), np.float32)
    for name, axis in AXES.items():
        work = {"forward": ((), x.size, 4 * x.size), "backward": ((0,), x.size, 4 * x.size)}
        yield Case(
            f"sum, {name}",
            [x],
            lambda x, axis=axis: x.sum() if axis is None else x.sum(axis),
            lambda x, axis=axis: torch.sum(x) if axis is None else torch.sum(x, axis),
            work,
        )
        yield Case(
            f"max, {name}",
            [x],
            lambda x, axis=axis: x.max() if axis is None else x.max(axis),
            lambda x, axis=axis: torch.max(x) if axis is None else torch.max(x, axis).values,
            work,
        )


if __name__ == "__main__":
    main("reductions", cases)
