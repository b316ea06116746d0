"""Average pooling where AlexNet and VGG pool. Floor: x is read and y written; backward the same way back."""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import avg_pool2d
from minicnn.shapes import PoolShape


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.MaxPool2d, batch):
        options = (layer.module.kernel_size, layer.module.stride)
        shape = PoolShape.of("avg_pool2d", layer.input_shape, *options, 0)
        x = rng.standard_normal(layer.input_shape, np.float32)
        outputs = int(np.prod(shape.out))
        work = (outputs * shape.r * shape.s, 4 * (x.size + outputs))
        yield Case(
            layer.name,
            [x],
            lambda x, options=options: avg_pool2d(x, *options),
            lambda x, options=options: torch.nn.functional.avg_pool2d(x, *options),
            {"forward": ((), *work), "backward": ((0,), *work)},
        )


if __name__ == "__main__":
    main("avgpool2d", cases)
