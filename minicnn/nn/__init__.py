"""Building blocks of networks."""

from minicnn.arena import Parameter
from minicnn.nn import init
from minicnn.nn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    Flatten,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from minicnn.nn.module import Buffer, Module, Sequential, parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Dropout",
    "Flatten",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
    "parameter",
]
