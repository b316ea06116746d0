"""Max-pooling of AlexNet and VGG. Floor: x is read, y and its one-byte index are written; backward the same way back."""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import max_pool2d
from minicnn.shapes import PoolShape


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.MaxPool2d, batch):
        pool = layer.module
        options = (pool.kernel_size, pool.stride, pool.padding)
        shape = PoolShape.of("max_pool2d", layer.input_shape, *options)
        x = rng.standard_normal(layer.input_shape, np.float32)
        outputs = int(np.prod(shape.out))
        work = (outputs * shape.r * shape.s, 4 * x.size + 5 * outputs)
        yield Case(
            f"{layer.name}, {shape.r}x{shape.s}/{shape.stride_h}",
            [x],
            lambda x, options=options: max_pool2d(x, *options),
            lambda x, options=options: torch.nn.functional.max_pool2d(x, *options),
            {"forward": ((), *work), "backward": ((0,), *work)},
        )


if __name__ == "__main__":
    main("maxpool2d", cases)
