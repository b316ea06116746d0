"""ReLU at the activations of AlexNet and VGG. Floor: y is written and x read once, 8 bytes an element; 12 backward."""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import relu


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.ReLU, batch):
        x = rng.standard_normal(layer.input_shape, np.float32)
        passes = {"forward": ((), x.size, 8 * x.size), "backward": ((0,), x.size, 12 * x.size)}
        yield Case(layer.name, [x], relu, torch.relu, passes)


if __name__ == "__main__":
    main("relu", cases)
