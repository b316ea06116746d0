"""Convolution at every layer of AlexNet and VGG: forward, gradient of the input (dgrad), of weight and bias (wgrad).

Floor: 2*N*P*Q*K*R*S*C/groups FLOPs a pass; each of x, weight and y moves once.
"""

import numpy as np
import torch
from harness import Case, add_precision, main
from layers import layers

from minicnn import nn
from minicnn.functional import conv2d
from minicnn.shapes import ConvShape


def cases(batch):
    rng = np.random.default_rng(0)
    for layer in layers(nn.Conv2d, batch):
        conv = layer.module
        options = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": conv.groups}
        weight, bias = conv.weight.numpy(), conv.bias.numpy()
        shape = ConvShape.of("conv2d", layer.input_shape, weight.shape, *options.values())
        x = rng.standard_normal(layer.input_shape, np.float32)
        flops, nbytes = 2 * shape.macs, 4 * (x.size + weight.size + int(np.prod(shape.out)))
        passes = {"forward": ((), flops, nbytes), "dgrad": ((0,), flops, nbytes), "wgrad": ((1, 2), flops, nbytes)}
        if x.shape[3] <= 3:
            del passes["dgrad"]  # nobody asks for the gradient of an image
        yield Case(
            layer.name,
            [x, weight, bias],
            lambda *inputs, options=options: conv2d(*inputs, **options),
            lambda *inputs, options=options: torch.nn.functional.conv2d(*inputs, **options),
            passes,
        )


if __name__ == "__main__":
    main("conv2d", cases, add_precision)
