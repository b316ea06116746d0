"""Adaptive average pooling in front of the classifiers. Floor: x is read and y written; backward the same way back."""

import numpy as np
import torch
from harness import Case, main

from minicnn.functional import adaptive_avg_pool2d

SHAPES = {"alexnet_owt at 224": (6, 6, 256), "alexnet_owt at 320": (9, 9, 256), "vgg at 384": (12, 12, 512)}
OUTPUT = {"alexnet_owt at 224": 6, "alexnet_owt at 320": 6, "vgg at 384": 7}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, image in SHAPES.items():
        x, size = rng.standard_normal((batch, *image), np.float32), OUTPUT[name]
        work = (x.size, 4 * (x.size + batch * size * size * image[2]))
        yield Case(
            name,
            [x],
            lambda x, size=size: adaptive_avg_pool2d(x, size),
            lambda x, size=size: torch.nn.functional.adaptive_avg_pool2d(x, size),
            {"forward": ((), *work), "backward": ((0,), *work)},
        )


if __name__ == "__main__":
    main("adaptive_avgpool2d", cases)
