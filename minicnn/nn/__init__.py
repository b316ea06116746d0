"""Building blocks of networks."""

from minicnn.arena import Parameter
from minicnn.nn import init
from minicnn.nn.layers import Flatten, Linear, ReLU, Sigmoid, Tanh
from minicnn.nn.module import Buffer, Module, Sequential, parameter

__all__ = [
    "Buffer",
    "Flatten",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "init",
    "parameter",
]
