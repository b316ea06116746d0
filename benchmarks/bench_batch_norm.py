"""Batch normalisation behind VGG's convolutions. Floor: x twice and y once forward; x and dy twice and dx once backward."""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import batch_norm


def ours(x, weight, bias):
    return batch_norm(x, None, None, weight, bias, training=True)


def theirs(x, weight, bias):
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.ReLU, batch, ("vgg_a",)):
        if len(layer.input_shape) != 4:
            continue
        x = rng.standard_normal(layer.input_shape, np.float32)
        weight, bias = (rng.standard_normal(x.shape[3], np.float32) for _ in range(2))
        passes = {"forward": ((), 6 * x.size, 12 * x.size), "backward": ((0, 1, 2), 10 * x.size, 20 * x.size)}
        yield Case(layer.name, [x, weight, bias], ours, theirs, passes)


if __name__ == "__main__":
    main("batch_norm", cases)
