"""Matrix product: every layout that its gradients need, exact on integers, PyTorch beside it, refusals."""

import re

import numpy as np
import pytest
from checks import check_accumulates, check_exact, check_kernels, leaf, run
from tolerances import assert_close

import minicnn

SIZES = pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 7), (65, 9, 66), (2, 700, 3)], ids=str)


def matmul(a, b):
    return a @ b


@SIZES
def test_reference_agrees_with_torch(size, rng, torch):
    m, k, n = size
    a, b, dy = rng.standard_normal((m, k)), rng.standard_normal((k, n)), rng.standard_normal((m, n))
    second = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    (second[0] @ second[1]).backward(torch.tensor(dy))
    y, grads = run(matmul, [a, b], "numpy", dy)
    assert_close(y, a @ b)
    for got, expected in zip(grads, second, strict=True):
        assert_close(got, expected.grad.numpy())


@SIZES
def test_gradient_of_the_reference(size, rng):
    m, k, n = size
    minicnn.gradcheck(matmul, [leaf(rng.standard_normal(shape), "numpy") for shape in ((m, k), (k, n))], eps=1.0)


@SIZES
def test_kernels(size, kernel_device, rng):
    m, k, n = size
    check_kernels(matmul, [rng.standard_normal((m, k)), rng.standard_normal((k, n))], kernel_device, rng, atol=5e-5)
    integers = [rng.integers(-3, 4, shape) for shape in ((m, k), (k, n), (m, n))]
    check_exact(matmul, integers[:2], kernel_device, integers[2])


def test_gradient_of_the_kernels(kernel_device, rng):
    leaves = [leaf(rng.standard_normal(shape).astype(np.float32), kernel_device) for shape in ((3, 5), (5, 7))]
    minicnn.gradcheck(matmul, leaves, eps=1.0, rtol=1e-4, atol=1e-4)


def test_gradients_accumulate(device, rng):
    check_accumulates(matmul, [rng.standard_normal((3, 5)), rng.standard_normal((5, 7))], device)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 4), (5, 6), "matmul: a has 4 columns but b 5 rows (a is (3, 4), b (5, 6))"),
        ((3, 4, 5), (5, 6), "matmul: a and b must be matrices, got (3, 4, 5) and (5, 6); reshape them first"),
    ],
)
def test_what_does_not_fit_is_refused(a, b, message, device):
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        matmul(*(minicnn.tensor(np.zeros(shape, np.float32), device=device) for shape in (a, b)))
