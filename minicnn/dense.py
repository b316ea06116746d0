"""Networks applied to whole images of any size: fully connected layers as convolutions, their class map averaged over space.

Source: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv 1409.1556,
section 3.2; after Sermanet et al., "OverFeat", arXiv 1312.6229.
"""

from __future__ import annotations

import math

import numpy as np

from minicnn import functional, nn
from minicnn.autograd import no_grad
from minicnn.creation import tensor
from minicnn.models import Network

ELEMENTWISE = (nn.Dropout, nn.ReLU, nn.Sigmoid, nn.Tanh)  # they compute the same on vectors and on maps


class LinearAsConv2d(nn.Module):
    """A fully connected layer at every place of a map: x (N, H, W, C) -> (N, H - extent + 1, W - extent + 1, out_features).

    The layer reads flattened windows of extent x extent x C, so its weight (out, in) is, in the same memory, a filter
    (out, extent, extent, C).
    """

    def __init__(self, linear: nn.Linear, extent: int):
        super().__init__()
        self.linear, self.extent = linear, extent

    def forward(self, x):
        weight, extent = self.linear.weight, self.extent
        filters = weight.reshape(weight.shape[0], extent, extent, weight.shape[1] // extent**2)
        return functional.conv2d(x, filters, self.linear.bias)

    def extra_repr(self):
        return f"{self.extent}x{self.extent}"


class FullyConvolutional(nn.Module):
    """A network of features and fully connected layers as one of convolutions alone, with the same parameters.

    Images (N, H, W, C) of any size from the network's own on -> logits (N, classes): the mean over the places of
    `class_map`, (N, P, Q, classes). At the network's own size that is one place, and the result is the network's.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.features, extent = _features(network)
        layers = []
        for layer in network.classifier:
            is_linear = isinstance(layer, nn.Linear)
            layers.append(LinearAsConv2d(layer, extent) if is_linear else layer)
            extent = 1 if is_linear else extent
        self.classifier = nn.Sequential(*layers)

    def class_map(self, x):
        return self.classifier(self.features(x))

    def forward(self, x):
        return self.class_map(x).mean((1, 2))


def fully_convolutional(network: Network) -> nn.Module:
    """The network for images of any size, sharing its parameters and its mode.

    AlexNet, VGG and LeNet become `FullyConvolutional`. Networks that end in a global average (Network in Network, GoogLeNet,
    ResNet) are returned as they are: the mean of their class map is what they compute.

    Raises ValueError for other networks, and for an alexnet_owt whose average pool works at its own image size.
    """
    if any(pool.output_size == 1 for pool in network.layers(nn.AdaptiveAvgPool2d)):
        return network
    classifier = list(getattr(network, "classifier", ()))
    foreign = [type(layer).__name__ for layer in classifier if not isinstance(layer, (nn.Linear, *ELEMENTWISE))]
    if not classifier or foreign:
        why = f"has {foreign[0]} among its last layers" if foreign else "has no such layers"
        raise ValueError(
            f"dense evaluation turns fully connected layers into convolutions; {network.name} {why}: use another protocol"
        )
    return FullyConvolutional(network).train(network.training)


def _features(network: Network) -> tuple[nn.Module, int]:
    """The layers before the fully connected ones, and the extent of their map at the network's own image size."""
    *_, last = network.features
    if not isinstance(last, nn.AdaptiveAvgPool2d):
        channels = network.layers(nn.Conv2d)[-1].weight.shape[0]
        return network.features, math.isqrt(network.layers(nn.Linear)[0].in_features // channels)
    features = network.features[:-1]
    extent = _map_extent(network, features)
    if extent != last.output_size:
        raise ValueError(
            f"dense evaluation: at its own image size {network.name} averages {extent}x{extent} maps to "
            f"{last.output_size}x{last.output_size}, which no convolution stands for: use another protocol"
        )
    return features, extent


@no_grad()
def _map_extent(network: Network, features: nn.Module) -> int:
    size, channels = network.options["image_size"], network.options["in_channels"]
    place = network.parameters()[0].device
    return features(tensor(np.zeros((1, size, size, channels), np.float32), device=place)).shape[1]
