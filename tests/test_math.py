"""The choice of arithmetic: by the environment, and down to the kernels of each layer."""

import numpy as np
import pytest
from checks import run

from minicnn import functional, shapes
from minicnn.ops import affine
from minicnn.shapes import Math, Schedule


@pytest.mark.parametrize("math", Math)
def test_the_environment_names_the_arithmetic(math, monkeypatch):
    monkeypatch.setenv("MINICNN_MATH", math.name)
    assert shapes._math() is math


def test_float32_unless_asked(monkeypatch):
    monkeypatch.delenv("MINICNN_MATH", raising=False)
    assert shapes._math() is Math.float32


def test_an_arithmetic_that_there_is_not(monkeypatch):
    monkeypatch.setenv("MINICNN_MATH", "float64")
    with pytest.raises(ValueError, match=r"^MINICNN_MATH must be one of float32, tf32, tf32x3, got 'float64'$"):
        shapes._math()


FINE = 1 + 2.0**-12  # of which TF32 keeps 1

LAYERS = {
    "linear": ((2, 8), (4, 8)),
    "conv2d": ((1, 4, 4, 8), (4, 3, 3, 8)),
}


@pytest.mark.parametrize("math", Math)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_pass_of_a_layer_computes_as_asked(layer, math, ladder_device, monkeypatch):
    monkeypatch.setattr(affine, "AUTOMATIC", Schedule(math=math))
    rounded = 1 if math is Math.tf32 else FINE
    x, weight = (np.full(shape, FINE, np.float32) for shape in LAYERS[layer])
    function = getattr(functional, layer)
    counts = run(function, [np.ones(v.shape) for v in (x, weight)], "numpy")
    got = run(function, [x, weight], ladder_device, np.full(counts[0].shape, FINE))
    for result, count in zip((got[0], *got[1]), (counts[0], *counts[1]), strict=True):
        np.testing.assert_allclose(result, count * rounded**2, rtol=2.0**-20)
