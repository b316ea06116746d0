"""Cross-entropy: reference, extremes, gradient, kernels, errors."""

import functools
import math

import numpy as np
import pytest
from checks import check_accumulates, check_kernels, check_thread_orders, leaf, run
from tolerances import assert_close

import minicnn
from minicnn.functional import cross_entropy

CASES = {  # (N, classes), label_smoothing, reduction
    "mean": ((5, 7), 0.0, "mean"),
    "sum": ((5, 7), 0.0, "sum"),
    "each_row": ((5, 7), 0.0, "none"),
    "smoothed": ((5, 7), 0.3, "mean"),
    "smoothed_rows": ((5, 7), 0.3, "none"),
    "uniform_target": ((3, 4), 1.0, "sum"),
    "one_class": ((3, 1), 0.1, "mean"),
    "one_row": ((1, 10), 0.0, "mean"),
    "several_warps": ((2, 257), 0.1, "mean"),
    "threads_loop": ((2, 1025), 0.1, "mean"),
    "more_rows_than_the_reduction_has_threads": ((300, 3), 0.0, "mean"),
}
EXTREMES = {
    "huge": [1e30, -1e30, 0.0, 1e30],
    "beyond_exp": [1000.0, 1001.0, 999.0, 1000.0],
    "all_masked": [-np.inf] * 4,
    "others_masked": [-np.inf, 0.0, 1.0, -np.inf],
    "target_masked": [1.0, 0.0, -np.inf, 1.0],
    "infinity": [np.inf, 0.0, 1.0, 2.0],
    "nan": [0.0, np.nan, 1.0, 2.0],
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request, rng):
    shape, label_smoothing, reduction = request.param
    logits, target = 3 * rng.standard_normal(shape), rng.integers(0, shape[1], shape[0])
    return [logits, target], functools.partial(cross_entropy, label_smoothing=label_smoothing, reduction=reduction)


def test_reference_is_the_formula(rng):
    logits, target = rng.standard_normal((3, 4)), [2, 0, 3]
    y, _ = run(
        functools.partial(cross_entropy, label_smoothing=0.2, reduction="none"), [logits, np.array(target)], "numpy"
    )
    for n in range(3):
        log_total = math.log(sum(math.exp(z) for z in logits[n]))
        shares = [0.05 + 0.8 * (c == target[n]) for c in range(4)]
        assert y[n] == pytest.approx(
            sum(q * (log_total - z) for q, z in zip(shares, logits[n], strict=True)), rel=1e-13
        )


def test_reference_matches_torch(case, torch, rng):
    (logits, target), function = case
    dy = rng.standard_normal(len(target) if function.keywords["reduction"] == "none" else ())
    y, (dlogits, _) = run(function, [logits, target], "numpy", dy)
    second = torch.tensor(logits, requires_grad=True)
    result = torch.nn.functional.cross_entropy(second, torch.tensor(target), **function.keywords)
    result.backward(torch.tensor(dy))
    assert_close(y, result.detach().numpy())
    assert_close(dlogits, second.grad.numpy())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("row", EXTREMES.values(), ids=EXTREMES.keys())
def test_extremes_are_as_in_torch(row, label_smoothing, device, torch):
    logits, target = np.array([row, [0.0, 1.0, 2.0, 3.0]], np.float32), np.array([2, 1])
    function = functools.partial(cross_entropy, label_smoothing=label_smoothing, reduction="none")
    y, (dlogits, _) = run(function, [logits, target], device)
    second = torch.tensor(logits, requires_grad=True)
    result = torch.nn.functional.cross_entropy(second, torch.tensor(target), **function.keywords)
    result.sum().backward()
    assert_close(y, result.detach().numpy())
    assert_close(dlogits, second.grad.numpy())


def test_large_logits_cost_no_accuracy(device, rng):
    logits = rng.integers(-8, 8, (4, 9)).astype(np.float32)
    target = rng.integers(0, 9, 4)
    y, (dlogits, _) = run(cross_entropy, [logits, target], device)
    shifted_y, (shifted_dlogits, _) = run(cross_entropy, [logits + 2.0**20, target], device)
    assert shifted_y == y
    np.testing.assert_array_equal(shifted_dlogits, dlogits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch_is_as_in_torch(reduction, device, torch):
    logits, target = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    function = functools.partial(cross_entropy, reduction=reduction)
    y, (dlogits, _) = run(function, [logits, target], device)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(target), reduction=reduction)
    np.testing.assert_array_equal(y, expected.numpy())
    assert dlogits.shape == (0, 3)


def test_gradient_of_the_reference(case):
    (logits, target), function = case
    minicnn.gradcheck(function, [leaf(logits, "numpy"), leaf(target, "numpy")])


def test_kernels_match_the_reference(case, kernel_device, rng):
    inputs, function = case
    check_kernels(function, inputs, kernel_device, rng)


def test_gradient_of_the_kernels(case, kernel_device):
    (logits, target), function = case
    inputs = [leaf(logits.astype(np.float32), kernel_device), leaf(target, kernel_device)]
    minicnn.gradcheck(function, inputs, eps=0.02, rtol=5e-3, elementwise=False)  # the difference errs by eps^2


def test_gradients_accumulate(device, rng):
    target = leaf(np.array([2, 0]), device)
    check_accumulates(lambda logits: cross_entropy(logits, target), [rng.standard_normal((2, 3))], device)


def test_thread_order_does_not_matter(kernel_device, rng):
    logits, target = rng.standard_normal((5, 300)).astype(np.float32), rng.integers(0, 300, 5)

    def compute():
        y, (dlogits, _) = run(cross_entropy, [logits, target], kernel_device)
        return y, dlogits

    check_thread_orders(compute, kernel_device)


@pytest.mark.parametrize("wrong", [-1, 3, 2**40])
def test_target_out_of_range(wrong, device):
    logits, target = leaf(np.zeros((3, 3), np.float32), device), leaf(np.array([0, wrong, 2]), device)
    if device.computes_on_host:
        message = rf"^cross_entropy: target\[1\] is {wrong}, but there are 3 classes, 0 to 2$"
        with pytest.raises(minicnn.OpError, match=message):
            cross_entropy(logits, target)
    else:
        y = cross_entropy(logits, target, reduction="none")
        y.backward(np.ones(3, np.float32))
        assert np.isnan(y.numpy()).tolist() == [False, True, False]
        assert np.isnan(logits.grad.numpy()).all(1).tolist() == [False, True, False]
        assert np.isnan(cross_entropy(logits, target).item())


@pytest.mark.parametrize(
    ("logits", "target"), [((3,), (3,)), ((3, 2, 2), (3,)), ((3, 2), (2,)), ((3, 2), (3, 1)), ((3, 0), (3,))]
)
def test_refuses_shapes(logits, target):
    with pytest.raises(minicnn.OpError) as error:
        cross_entropy(minicnn.tensor(np.zeros(logits)), minicnn.tensor(np.zeros(target, np.int64)))
    assert str(error.value) == (
        f"cross_entropy: logits must be (N, classes) and target (N,), got {logits} and {target}"
    )


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_refuses_targets_that_are_no_int64(dtype):
    with pytest.raises(minicnn.OpError) as error:
        cross_entropy(minicnn.tensor(np.zeros((2, 3))), minicnn.tensor(np.zeros(2), dtype))
    assert str(error.value) == f"cross_entropy: target must hold class numbers as int64, got {dtype}"


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.5, math.nan])
def test_refuses_a_smoothing_outside_0_to_1(label_smoothing):
    with pytest.raises(minicnn.OpError) as error:
        cross_entropy(minicnn.tensor(np.zeros((2, 3))), minicnn.tensor(np.zeros(2, np.int64)), label_smoothing)
    assert str(error.value) == f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}"


def test_refuses_an_unknown_reduction():
    with pytest.raises(minicnn.OpError, match=r"^cross_entropy: reduction must be one of mean, sum, none, got 'max'$"):
        cross_entropy(minicnn.tensor(np.zeros((2, 3))), minicnn.tensor(np.zeros(2, np.int64)), reduction="max")
