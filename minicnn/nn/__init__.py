"""Building blocks of networks."""

from minicnn.arena import Parameter
from minicnn.nn import init
from minicnn.nn.layers import AdaptiveAvgPool2d, AvgPool2d, Linear, LocalResponseNorm, MaxPool2d, ReLU
from minicnn.nn.module import Buffer, Module, Sequential, parameter

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "Buffer",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "init",
    "parameter",
]
