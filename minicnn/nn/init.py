"""Initial values. Layers start with He's; `paper_` rules of a network are its own (minicnn.models)."""

from __future__ import annotations

import math

import numpy as np

from minicnn import random
from minicnn.arena import Parameter


def fan_in(weight: Parameter) -> int:
    """Inputs of one output: C for a linear weight (K, C), R*S*C/groups for a conv weight (K, R, S, C/groups)."""
    return math.prod(weight.shape[1:])


def normal_(weight: Parameter, std: float, mean: float = 0.0) -> None:
    """weight ~ N(mean, std^2)."""
    weight.copy_(mean + std * random.generator().standard_normal(weight.shape))


def constant_(weight: Parameter, value: float) -> None:
    weight.copy_(np.full(weight.shape, value))


def he_normal_(weight: Parameter, gain: float = math.sqrt(2.0)) -> None:
    """weight ~ N(0, gain^2 / fan_in): the variance of a ReLU network's signal stays what it is from layer to layer.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2.
    """
    normal_(weight, gain / math.sqrt(fan_in(weight)))
