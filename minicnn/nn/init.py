"""Initial values. Layers start with He's; the `paper` rules of a network are its own (minicnn.models)."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from minicnn import random
from minicnn.arena import Parameter

BLOCK = 1 << 20  # elements drawn from one stream; how many threads draw the blocks does not change a value


def fan_in(weight: Parameter) -> int:
    """Inputs of one output: C for a linear weight (K, C), R*S*C/groups for a conv weight (K, R, S, C/groups)."""
    return math.prod(weight.shape[1:])


_skips = contextvars.ContextVar("skips", default=False)


@contextlib.contextmanager
def skipped():
    """Layers made within do not draw their weights, which stay zero: for those who draw, load or only count them.

    >>> from minicnn import nn
    >>> with skipped():
    ...     layer = nn.Linear(2, 1)
    >>> layer.weight.numpy().tolist()
    [[0.0, 0.0]]
    """
    token = _skips.set(True)
    try:
        yield
    finally:
        _skips.reset(token)


def normal_(weight: Parameter, std: float, mean: float = 0.0) -> None:
    """weight ~ N(mean, std^2), drawn in float32."""
    if _skips.get():
        return
    key = random.generator().integers(0, 2**63, 2, dtype=np.uint64)
    draw = functools.partial(_normal_block, key, weight.size, std, mean)
    starts = range(0, weight.size, BLOCK)
    flat = weight.data.reshape(-1)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start, values in zip(starts, (threads.map if len(starts) > 1 else map)(draw, starts), strict=True):
            weight.device.write(flat[start : start + BLOCK], values)
    weight.version += 1


def _normal_block(key, size: int, std: float, mean: float, start: int) -> np.ndarray:
    """Elements start <= i < start + BLOCK, from the stream whose counter begins at `start`: a block uses up fewer."""
    stream = np.random.Generator(np.random.Philox(key=key, counter=start))
    values = stream.standard_normal(min(BLOCK, size - start), dtype=np.float32)
    values *= std
    values += mean
    return values


def uniform_(weight: Parameter, bound: float) -> None:
    """weight ~ U(-bound, bound)."""
    if not _skips.get():
        weight.copy_(random.generator().uniform(-bound, bound, weight.shape))


def constant_(weight: Parameter, value: float) -> None:
    weight.copy_(np.full(weight.shape, value))


def he_normal_(weight: Parameter, gain: float = math.sqrt(2.0)) -> None:
    """weight ~ N(0, gain^2 / fan_in): the variance of a ReLU network's signal stays what it is from layer to layer.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2.
    """
    normal_(weight, gain / math.sqrt(fan_in(weight)))
