"""Building blocks of networks."""

from minicnn.arena import Parameter
from minicnn.nn import init
from minicnn.nn.layers import Linear, ReLU
from minicnn.nn.module import Buffer, Module, Sequential, parameter

__all__ = ["Buffer", "Linear", "Module", "Parameter", "ReLU", "Sequential", "init", "parameter"]
