"""Gradient clipping: norm and factor against torch, kernels, extremes."""

import numpy as np
import pytest
from checks import check_thread_orders
from tolerances import assert_close

from minicnn.ops.clip_grad_norm import clip_norm

SIZES = {
    "one_element": [1],
    "tail_after_vectors": [1037],
    "several_spans": [64, 3, 700],
    "an_empty_span": [0, 5],
    "past_one_grid": [(1 << 20) + 5],  # 1,024 blocks of 1,024 elements, and then some
}


def clip_on(device, grads, max_norm):
    """-> (norm, clipped gradients), on the host."""
    arrays = [device.array(grad) for grad in grads]
    norm = clip_norm(device, arrays, max_norm)
    assert norm.shape == ()
    return device.to_numpy(norm), [device.to_numpy(array) for array in arrays]


@pytest.fixture(params=SIZES.values(), ids=SIZES.keys())
def grads(request, rng):
    return [rng.standard_normal(size).astype(np.float32) for size in request.param]


@pytest.mark.parametrize("share", [0.5, 2.0], ids=["clipped", "small_enough"])
def test_norm_and_gradients_are_those_of_torch(grads, share, device, torch):
    max_norm = share * float(np.sqrt(sum((grad.astype(np.float64) ** 2).sum() for grad in grads)))
    norm, clipped = clip_on(device, grads, max_norm)
    second = [torch.nn.Parameter(torch.tensor(grad.astype(np.float64))) for grad in grads]
    for parameter in second:
        parameter.grad = parameter.detach().clone()
    assert_close(norm, torch.nn.utils.clip_grad_norm_(second, max_norm).numpy())
    for got, parameter in zip(clipped, second, strict=True):
        assert_close(got, parameter.grad.numpy())


def test_small_gradients_keep_their_bits(grads, device):
    _, clipped = clip_on(device, grads, 1e6)
    for got, grad in zip(clipped, grads, strict=True):
        np.testing.assert_array_equal(got, grad)


def test_integers_have_an_exact_norm(device):
    norm, _ = clip_on(device, [np.array([2.0, 0.0, -3.0], np.float32), np.array([6.0], np.float32)], 100.0)
    assert norm == 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_in_torch(value, device, torch):
    grad = np.array([1.0, value, -2.0], np.float32)
    norm, (clipped,) = clip_on(device, [grad], 1.0)
    second = torch.nn.Parameter(torch.zeros(3))
    second.grad = torch.tensor(grad)
    assert_close(norm, torch.nn.utils.clip_grad_norm_([second], 1.0).numpy())
    assert_close(clipped, second.grad.numpy())


def test_zeros_stay(device):
    norm, (clipped,) = clip_on(device, [np.zeros(5, np.float32)], 1.0)
    assert norm == 0
    assert clipped.tolist() == [0] * 5


def test_thread_order_does_not_matter(kernel_device, rng):
    grads = [rng.standard_normal(size).astype(np.float32) for size in (3000, 77)]

    def compute():
        norm, clipped = clip_on(kernel_device, grads, 1.0)
        return norm, *clipped

    check_thread_orders(compute, kernel_device)
