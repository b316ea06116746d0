"""Batch normalisation behind VGG's convolutions, alone and with the ReLU in the same pass.

Floor: x twice and y once forward; x and dy twice and dx once backward, with ReLU also y twice.
"""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import batch_norm


def ours(x, weight, bias):
    return batch_norm(x, None, None, weight, bias, training=True)


def ours_with_relu(x, weight, bias):
    return batch_norm(x, None, None, weight, bias, training=True, activation="relu")


def theirs(x, weight, bias):
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)


def theirs_with_relu(x, weight, bias):
    return torch.relu(theirs(x, weight, bias))


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.ReLU, batch, ("vgg_a",)):
        if len(layer.input_shape) != 4:
            continue
        x = rng.standard_normal(layer.input_shape, np.float32)
        weight, bias = (rng.standard_normal(x.shape[3], np.float32) for _ in range(2))
        passes = {"forward": ((), 6 * x.size, 12 * x.size), "backward": ((0, 1, 2), 10 * x.size, 20 * x.size)}
        yield Case(layer.name, [x, weight, bias], ours, theirs, passes)
        # No y near 0: rounding would put it on one side of the kink here, on the other there.
        inputs = [x + np.copysign(np.float32(0.5), x), np.abs(weight) + 0.5, np.zeros_like(bias)]
        passes = {"forward": ((), 7 * x.size, 12 * x.size), "backward": ((0, 1, 2), 12 * x.size, 28 * x.size)}
        yield Case(f"{layer.name} with ReLU", inputs, ours_with_relu, theirs_with_relu, passes)


if __name__ == "__main__":
    main("batch_norm", cases)
