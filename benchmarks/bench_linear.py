"""Fully connected layers of AlexNet and VGG. Floor at small batches: the weights stream through once a pass."""

import numpy as np
import torch
from harness import Case, add_precision, main
from layers import layers

from minicnn import nn
from minicnn.functional import linear


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.Linear, batch):
        weight, bias = layer.module.weight.numpy(), layer.module.bias.numpy()
        x = rng.standard_normal(layer.input_shape, np.float32)
        flops, nbytes = 2 * batch * weight.size, 4 * (x.size + weight.size + batch * len(bias))
        passes = {"forward": ((), flops, nbytes), "dgrad": ((0,), flops, nbytes), "wgrad": ((1, 2), flops, nbytes)}
        yield Case(layer.name, [x, weight, bias], linear, torch.nn.functional.linear, passes)


if __name__ == "__main__":
    main("linear", cases, add_precision)
