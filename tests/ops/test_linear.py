"""Fully connected layers: the formula, PyTorch, gradients, kernels, exactness, refusals."""

import re

import numpy as np
import pytest
from checks import check_accumulates, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import linear

# (N, in, out)
CASES = {
    "one_of_each": (1, 1, 1),
    "odd": (5, 33, 7),
    "one_image": (1, 70, 65),
    "a_tile": (64, 64, 64),
    "past_a_tile": (65, 67, 66),
    "a_long_reduction_that_is_cut": (3, 1100, 5),
    "many_outputs_so_the_gradient_of_the_input_is_cut": (3, 5, 1100),
    "many_images_so_the_gradient_of_the_weight_is_cut": (1100, 3, 5),
}
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def given(case, rng, integers=False):
    n, c, k = case
    draw = (
        (lambda *shape: rng.integers(-3, 4, shape).astype(float))
        if integers
        else (lambda *shape: rng.standard_normal(shape))
    )
    return [draw(n, c), draw(k, c), draw(k)]


@CASE
def test_reference_agrees_with_torch(case, rng, torch):
    inputs = given(case, rng)
    second = [torch.tensor(v, requires_grad=True) for v in inputs]
    expected = torch.nn.functional.linear(*second)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    y, grads = run(linear, inputs, "numpy", dy)
    assert_close(y, expected.detach().numpy())
    for got, want in zip(grads, second, strict=True):
        assert_close(got, want.grad.numpy())


def test_reference_is_the_formula():
    y, (dx, dweight, dbias) = run(
        linear, [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], [10.0, 20.0]], "numpy", np.array([[1.0, -1.0]])
    )
    assert y.tolist() == [[21, 37]]
    assert dx.tolist() == [[-2, -2]]
    assert dweight.tolist() == [[1, 2], [-1, -2]]
    assert dbias.tolist() == [1, -1]


@CASE
def test_gradient_of_the_reference(case, rng):
    minicnn.gradcheck(linear, [leaf(v, "numpy") for v in given(case, rng)], eps=1.0)


@CASE
def test_kernels_match_the_reference(case, kernel_device, rng):
    check_kernels(linear, given(case, rng), kernel_device, rng, atol=5e-5)  # sums of up to 1100 terms of size 1


@CASE
def test_kernels_are_exact_on_integers(case, kernel_device, rng):
    check_exact(linear, given(case, rng, integers=True), kernel_device, rng.integers(-3, 4, (case[0], case[2])))


def test_arrays_off_a_16_byte_boundary(unaligned_device, rng):
    check_kernels(linear, given(CASES["a_tile"], rng), unaligned_device, rng, atol=2e-5)


def test_gradient_of_the_kernels(kernel_device, rng):
    leaves = [leaf(v.astype(np.float32), kernel_device) for v in given(CASES["odd"], rng)]
    minicnn.gradcheck(linear, leaves, eps=1.0, rtol=1e-4, atol=1e-3)


def test_an_empty_batch_has_zero_gradients(device):
    inputs = [np.full(shape, 1.0, np.float32) for shape in ((0, 5), (3, 5), (3,))]
    y, (dx, dweight, dbias) = run(linear, inputs, device)
    assert y.shape == (0, 3) and dx.shape == (0, 5)
    assert not dweight.any() and not dbias.any()


@CASE
def test_gradients_accumulate(case, device, rng):
    check_accumulates(linear, given(case, rng), device)


def test_no_bias(device, rng):
    x, weight, _ = (v.astype(np.float32) for v in given(CASES["odd"], rng))
    y, grads = run(linear, [x, weight], device)
    assert_close(y, x.astype(float) @ weight.T.astype(float), atol=2e-5)
    assert len(grads) == 2


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        ((3, 4), (30, 20), (30,), "linear: weight expects 20 features but x has 4 (x is (3, 4), weight (30, 20))"),
        (
            (3, 4, 4, 2),
            (5, 32),
            (5,),
            "linear: x must be (N, in) and weight (out, in), got (3, 4, 4, 2) and (5, 32); flatten x first",
        ),
        ((3, 4), (5, 4), (4,), "linear: bias must be (5,), got (4,)"),
    ],
)
def test_what_does_not_fit_is_refused(x, weight, bias, message, device):
    tensors = [minicnn.tensor(np.zeros(shape, np.float32), device=device) for shape in (x, weight, bias)]
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        linear(*tensors)
