"""The check that every op passes: it finds planted faults and says where they are."""

import re

import numpy as np
import pytest
from checks import leaf

import minicnn
from minicnn import gradcheck
from minicnn.autograd import Op


class Product(Op):
    """y = a * b, with a place for faults."""

    name = "product"

    def check(self, a, b):
        return a.shape

    def forward_numpy(self, a, b, y):
        np.multiply(a, b, out=y)
        self.a, self.b = a, b

    def backward_numpy(self, dy):
        for i, gradient in enumerate(self.gradients(dy)):
            if (dx := self.grad_array(i)) is not None:
                dx[...] = gradient

    def gradients(self, dy):
        return dy * self.b, dy * self.a


class WrongSign(Product):
    def gradients(self, dy):
        return dy * self.b, -dy * self.a


class MissingTerm(Product):
    def gradients(self, dy):
        return dy, dy * self.a


class WrongIndex(Product):
    def gradients(self, dy):
        return np.roll(dy * self.b, 1, axis=-1), dy * self.a


class OneElement(Product):
    def gradients(self, dy):
        da = dy * self.b
        da[1, 2] *= 1.001
        return da, dy * self.a


class NotANumber(Product):
    def gradients(self, dy):
        da = dy * self.b
        da[0, 1] = np.nan
        return da, dy * self.a


class Forgotten(Product):
    """Writes over what other uses of the input have written."""

    def backward_numpy(self, dy):
        for i, gradient in enumerate(self.gradients(dy)):
            self.grad_out(i)[0][...] = gradient


FAULTS = {  # fault, the argument that is wrong
    "wrong_sign": (WrongSign, 1),
    "missing_term": (MissingTerm, 0),
    "wrong_index": (WrongIndex, 0),
    "one_element": (OneElement, 0),
    "not_a_number": (NotANumber, 0),
}


@pytest.fixture
def inputs(rng):
    return [leaf(rng.uniform(1, 2, (2, 3)), "numpy"), leaf(rng.uniform(1, 2, (2, 3)), "numpy")]


def test_a_right_gradient_passes(inputs):
    for elementwise in (True, False):
        gradcheck(lambda a, b: Product()(a, b), inputs, elementwise=elementwise)


@pytest.mark.parametrize("elementwise", [True, False], ids=["element_by_element", "one_direction"])
@pytest.mark.parametrize("fault, argument", FAULTS.values(), ids=FAULTS.keys())
def test_planted_faults_are_found(fault, argument, elementwise, inputs):
    with pytest.raises(AssertionError, match=rf"^gradient of argument {argument} at "):
        gradcheck(lambda a, b: fault()(a, b), inputs, elementwise=elementwise)


def test_a_fault_that_needs_two_uses_is_found(inputs):
    a, _ = inputs
    with pytest.raises(AssertionError, match=r"^gradient of argument 0 at \(0, 0\)"):
        gradcheck(lambda a: Forgotten()(a, a), [a])


def test_the_message_names_place_values_and_step():
    a, b = leaf(np.array([[1.0, 2.0]]), "numpy"), leaf(np.array([[3.0, 5.0]]), "numpy")
    weights = np.array([[1.0, 10.0]])
    with pytest.raises(AssertionError) as raised:
        gradcheck(lambda a, b: WrongSign()(a, b), [a, b], weights=weights, eps=0.5)
    numbers = r"numerical 1, analytical -1, difference 2, allowed 2e-05, step 0\.5"
    assert re.fullmatch(rf"gradient of argument 1 at \(0, 0\): {numbers}", str(raised.value))


def test_small_inputs_are_checked_element_by_element_large_ones_along_a_direction(rng):
    for size, where in ((64, r"\(\d+,\)"), (65, "along a random direction")):
        x = leaf(rng.uniform(1, 2, size), "numpy")
        with pytest.raises(AssertionError, match=rf"^gradient of argument 0 at {where}:"):
            gradcheck(lambda a: WrongSign()(minicnn.tensor(np.ones(a.shape), device="numpy"), a), [x])


def test_values_come_back_and_old_gradients_do_not_disturb(inputs):
    a, b = inputs
    before = [x.numpy() for x in inputs]
    (a * b).sum().backward()
    gradcheck(lambda a, b: Product()(a, b), inputs)
    for x, values in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x.numpy(), values)


def test_only_what_requires_a_gradient_is_checked(inputs):
    a, b = inputs
    gradcheck(lambda a, b: WrongSign()(a, b), [a, b.detach()])
    with pytest.raises(ValueError, match=r"^gradcheck: no input requires a gradient$"):
        gradcheck(lambda a, b: Product()(a, b), [a.detach(), b.detach()])


def test_an_input_that_gets_no_gradient_has_gradient_zero(inputs):
    a, b = inputs
    gradcheck(lambda a, b: Product()(a, a), [a, b])
    with pytest.raises(AssertionError, match=r"^gradient of argument 1 at \(0, 0\): numerical .*, analytical 0, "):
        gradcheck(lambda a, b: Product()(a, b.detach()), [a, b])
