"""Building blocks of networks."""

from minicnn.arena import Parameter
from minicnn.nn import init
from minicnn.nn.layers import BatchNorm1d, BatchNorm2d, Dropout, Linear, ReLU, Softmax
from minicnn.nn.module import Buffer, Module, Sequential, parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Dropout",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Softmax",
    "init",
    "parameter",
]
