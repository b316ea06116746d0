"""Local response normalisation of AlexNet and VGG-A-LRN. Floor: forward 8 bytes an element, backward 12."""

import numpy as np
import torch
from harness import Case, main
from layers import layers

from minicnn import nn
from minicnn.functional import local_response_norm


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.LocalResponseNorm, batch, ("alexnet", "vgg_a_lrn")):
        norm = layer.module
        options = (norm.size, norm.alpha, norm.beta, norm.k)
        x = rng.standard_normal(layer.input_shape, np.float32)
        passes = {"forward": ((), 8 * x.size, 8 * x.size), "backward": ((0,), 16 * x.size, 12 * x.size)}
        yield Case(
            layer.name,
            [x],
            lambda x, options=options: local_response_norm(x, *options),
            lambda x, options=options: torch.nn.functional.local_response_norm(x, *options),
            passes,
        )


if __name__ == "__main__":
    main("lrn", cases)
