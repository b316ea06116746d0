"""A tensor on another device within the graph: values go there, gradients come back and add up."""

import numpy as np
import pytest

import minicnn
from minicnn import functional


@pytest.mark.parametrize(("source", "target"), [("cpu", "numpy"), ("numpy", "cpu"), ("cpu", "cpu")])
def test_values_and_gradients_travel(source, target, rng):
    values = rng.standard_normal((2, 3)).astype(np.float32)
    x = minicnn.tensor(values, device=source, requires_grad=True)
    y = functional.to_device(x, target)
    assert (y.device.name, x.device.name) == (target, source)
    np.testing.assert_array_equal(y.numpy(), values)
    (y * y).sum().backward()
    assert x.grad.device.name == source
    np.testing.assert_array_equal(x.grad.numpy(), 2 * values)


@pytest.mark.parametrize("used_first", ["here", "there"])
def test_gradients_add_up(used_first, rng):
    values = rng.standard_normal((2, 3)).astype(np.float32)
    x = minicnn.tensor(values, requires_grad=True)
    h = x * 1.0
    uses = [lambda: h * 3.0, lambda: functional.to_device(functional.to_device(h, "numpy") * 2.0, "cpu")]
    first, second = (use() for use in (uses if used_first == "here" else uses[::-1]))
    (first + second).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 5.0))


def test_a_second_backward_adds_to_the_leaf(rng):
    x = minicnn.tensor(rng.standard_normal(4).astype(np.float32), requires_grad=True)
    for count in (1, 2):
        functional.to_device(x, "numpy").sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.full(4, count))
    x.zero_grad()
    functional.to_device(x, "numpy").sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(4))


def test_the_target_changes_nothing_of_the_source(rng):
    x = minicnn.tensor(rng.standard_normal(4).astype(np.float32))
    y = functional.to_device(x, "numpy")
    y.data[...] = 0
    assert np.abs(x.numpy()).max() > 0
