"""Dropout."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicnn import random
from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.philox import random_words
from minicnn.tensor import Accumulate, Tensor

BLOCK = 1 << 13  # quads of elements: what Philox works on stays in a core's second-level cache


class DropoutKey(NamedTuple):
    """What a mask is a function of.

    seed     of the run, a host integer
    layer    (1,) int64 on x's device: keeps apart the layers of a network
    counter  (1,) int64 on x's device: how many masks this layer has drawn; each training forward pass adds one, there,
             so that a captured graph draws a new mask whenever it runs
    """

    seed: int
    layer: Tensor
    counter: Tensor

    @classmethod
    def fresh(cls, device) -> DropoutKey:
        """The key of a mask that nobody else draws."""
        layer, counter = (device.array(np.array([n])) for n in (random.next_stream(), 0))
        return cls(random.seed(), Tensor(layer, device), Tensor(counter, device))


def check_probability(p: float) -> None:
    if not 0 <= p < 1:
        raise OpError(f"dropout: p, the share of units to drop, must be at least 0 and below 1, got {p}")


def keep_mask(p: float, seed: int, layer: int, counter: int, count: int) -> np.ndarray:
    """(count,) bool: True where a unit stays.

    A unit stays where the 24 high bits of word i % 4 of random_words(seed, counter, i // 4, layer), as a number in [0,
    1), are at least p, as a float32.
    """
    least = math.ceil(float(np.float32(p)) * 2**24)
    keep = np.empty((-(-count // 4), 4), bool)
    for start in range(0, len(keep), BLOCK):
        block = keep[start : start + BLOCK]
        words = random_words(seed, counter, np.arange(start, start + len(block)), layer)
        for word, out in zip(words, block.T, strict=True):
            np.greater_equal(word >> np.uint64(8), np.uint64(least), out=out)
    return keep.reshape(-1)[:count]


class DropoutMask:
    """What dropout multiplies by: 0 where a unit is dropped (probability p), 1 / (1 - p) where it is kept.

    Drawn once in a forward pass, by NumPy as an array; the kernels draw it from `arguments` wherever they need it: the
    integer arithmetic hides behind the memory traffic, to which a saved mask would add.
    """

    def __init__(self, p: float, key: DropoutKey | None = None):
        check_probability(p)
        self.p, self.scale, self.key = p, 1 / (1 - p), key

    def check(self, x) -> None:
        if self.key is None:
            self.key = DropoutKey.fresh(x.device)
        for name, tensor in (("layer", self.key.layer), ("counter", self.key.counter)):
            if tensor.shape != (1,) or tensor.dtype != np.int64:
                raise OpError(f"dropout: key.{name} must be (1,) int64, got {tensor.shape} {tensor.dtype.name}")
            if tensor.device is not x.device:
                raise OpError(
                    f"dropout: key.{name} is on {tensor.device.name}, x on {x.device.name}; move the model by .to(...)"
                )

    def draw_numpy(self, shape, dtype) -> None:
        layer, counter = self.key.layer.data, self.key.counter.data
        keep = keep_mask(self.p, self.key.seed, int(layer[0]), int(counter[0]), math.prod(shape))
        counter += 1
        self.multiplier = np.multiply(keep.reshape(shape), self.scale, dtype=dtype)

    def draw_kernel(self, op: Op) -> None:
        self.drawn = op.empty((2,), np.int64)  # (layer, counter) of this mask
        op.kernels.dropout_draw(self.key.layer.data, self.key.counter.data, self.drawn)

    @property
    def arguments(self) -> tuple:
        """(seed, drawn, p, scale), for kernels."""
        return self.key.seed % 2**64, self.drawn, self.p, self.scale

    def apply_kernel(self, op: Op, x, relu_mask, y, accumulate) -> None:
        """y (+)= x * mask, and 0 where relu_mask (None is none) is not above 0."""
        op.kernels.dropout_apply(x, relu_mask, y, accumulate, *self.arguments, x.size)


class Dropout(Op):
    """y = x * m, with m = 0 where the unit is dropped (probability p) and 1 / (1 - p) where it is kept; any shape.

    m is drawn by Philox4x32-10 from the key, as `keep_mask` says: the same bits on every device. dx = dy * m.

    Source: Srivastava et al. 2014, section 10 (the inverted form, whose test-time network is the plain one).
    """

    name = "dropout"

    def __init__(self, mask: DropoutMask):
        self.mask = mask

    def check(self, x):
        self.mask.check(x)
        return x.shape

    def forward_numpy(self, x, y):
        self.mask.draw_numpy(x.shape, x.dtype)
        np.multiply(x, self.mask.multiplier, out=y)

    def backward_numpy(self, dy):
        np.multiply(dy, self.mask.multiplier, out=self.grad_array(0))

    def forward_kernel(self, x, y):
        self.mask.draw_kernel(self)
        self.mask.apply_kernel(self, x, None, y, Accumulate.overwrite)

    def backward_kernel(self, dy):
        self.mask.apply_kernel(self, dy, self.grad_mask(0), *self.grad_out(0))
