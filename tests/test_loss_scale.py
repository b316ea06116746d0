"""The loss scale: halves where gradients overflow, doubles after patience, and never falls below 1."""

import math

import pytest

from minicnn.loss_scale import LossScale


@pytest.mark.parametrize("norm", (math.inf, math.nan))
def test_an_overflow_is_refused_and_halves(norm):
    scale = LossScale(value=8.0, good_steps=5)
    assert not scale.accept(norm)
    assert (scale.value, scale.good_steps) == (4.0, 0)


def test_it_doubles_after_patience():
    scale = LossScale(value=8.0, patience=3)
    assert [scale.accept(1.0) and scale.value for _ in range(4)] == [8.0, 8.0, 16.0, 16.0]


def test_it_does_not_fall_below_1():
    scale = LossScale(value=1.0)
    scale.accept(math.inf)
    assert scale.value == 1.0
