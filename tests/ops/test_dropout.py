"""Dropout: the mask is a function of its key, on every device the same; expectation, gradient, layers, errors."""

import functools
import re

import numpy as np
import pytest
from checks import check_accumulates, check_thread_orders, leaf, run

import minicnn
from minicnn import nn, random
from minicnn.functional import DropoutKey, dropout
from minicnn.ops.dropout import keep_mask

SHAPES = {
    "empty": (0, 4),
    "one_element": (1,),
    "shorter_than_a_vector_access": (3,),
    "whole_vectors": (2, 4, 4, 8),
    "tail_after_vectors": (3, 7, 5, 3),
    "past_one_block": (1037,),
}


def key(device, seed=7, layer=3, counter=0):
    return DropoutKey(seed, leaf(np.array([layer]), device), leaf(np.array([counter]), device))


def mask(device, count=1000, p=0.5, **which):
    """Which of `count` units stay."""
    return dropout(leaf(np.ones(count, np.float32), device), p, key=key(device, **which)).numpy() != 0


def philox_one_by_one(seed, counter):
    """Philox4x32-10 in Python's integers: the formula of Salmon et al. 2011."""
    counter, key = list(counter), [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        low, high = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            high >> 32 ^ counter[1] ^ key[0],
            high & 0xFFFFFFFF,
            low >> 32 ^ counter[3] ^ key[1],
            low & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_mask_is_the_formula(p, device):
    seed, layer, step = 5 + (9 << 32), 2, 11
    words = [philox_one_by_one(seed, (i // 4, 0, step, layer))[i % 4] for i in range(50)]
    expected = [word >> 8 >= np.float32(p) * 2**24 for word in words]
    assert mask(device, 50, p, seed=seed, layer=layer, counter=step).tolist() == expected


def test_a_unit_whose_number_is_p_itself_stays(device):
    """p is dropped from what is below it: [0, p) holds p of all numbers."""
    word = philox_one_by_one(7, (0, 0, 0, 3))[0] >> 8
    assert mask(device, 1, word / 2**24)[0]
    assert not mask(device, 1, (word + 1) / 2**24)[0]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_kernels_give_the_bits_of_the_reference(shape, kernel_device, rng):
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    y, (dx,) = run(lambda x: dropout(x, 0.3, key=key("numpy")), [x], "numpy", dy)
    kernel_y, (kernel_dx,) = run(lambda x: dropout(x, 0.3, key=key(kernel_device)), [x], kernel_device, dy)
    np.testing.assert_array_equal(kernel_y, y)
    np.testing.assert_array_equal(kernel_dx, dx)


def test_each_part_of_the_key_changes_the_mask(device):
    ways = [{}, {"seed": 8}, {"seed": 7 + (1 << 32)}, {"seed": -7}, {"layer": 4}, {"counter": 1}]
    masks = [mask(device, **way) for way in ways]
    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert 0.4 < (first != second).mean() < 0.6
    np.testing.assert_array_equal(mask(device), masks[0])


def test_each_draw_advances_the_counter(device):
    x, own = leaf(np.ones(1000, np.float32), device), key(device)
    drawn = [dropout(x, key=own).numpy() != 0 for _ in range(3)]
    assert own.counter.numpy().tolist() == [3]
    for step, got in enumerate(drawn):
        np.testing.assert_array_equal(got, mask(device, counter=step))


def test_backward_uses_the_mask_of_its_own_forward(device):
    x, own = leaf(np.ones(1000, np.float32), device), key(device)
    y = dropout(x, key=own)
    dropout(x, key=own)
    own.layer.copy_([99])
    y.backward(np.ones(1000, np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_rate_and_scale_fact_a8(device):
    """Inverted dropout keeps the expectation, as multiplying by the KEEP probability (not p) at test time does."""
    p, x = 0.2, np.full(40_000, 3.0, np.float32)
    y = dropout(leaf(x, device), p, key=key(device)).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(3.0) * np.float32(1 / (1 - p))}
    kept = (y != 0).mean()
    sigma = (p * (1 - p) / y.size) ** 0.5
    assert abs(kept - (1 - p)) < 4 * sigma
    at_test_time = dropout(leaf(x, device), p, training=False).numpy()
    np.testing.assert_array_equal(at_test_time, x)
    assert abs(y.mean() - at_test_time.mean()) < 4 * sigma * 3.0 / (1 - p)
    paper_training, paper_test = np.where(y != 0, x, 0), (1 - p) * x  # the mask alone; scaled at test time instead
    assert abs(paper_training.mean() - paper_test.mean()) < 4 * sigma * 3.0
    assert abs(paper_training.mean() - (p * x).mean()) > 1  # what the "discard probability" would do


def test_units_drop_independently():
    """No pattern along the four words of a quad, nor between neighbours: each pair of places agrees half of the time."""
    bits = keep_mask(0.5, 1, 2, 3, 1 << 16).reshape(-1, 8)
    for i in range(8):
        for j in range(i):
            assert abs((bits[:, i] == bits[:, j]).mean() - 0.5) < 4 * 0.5 / len(bits) ** 0.5


def test_not_dropping_is_the_identity(device):
    x, own = leaf(np.arange(5, dtype=np.float32), device), key(device)
    assert dropout(x, 0.5, training=False, key=own) is x
    assert dropout(x, 0.0, key=own) is x
    assert own.counter.numpy().tolist() == [0]


def test_nan_and_infinity_are_as_in_torch(device):
    """A dropped infinity is 0 * inf."""
    keep = mask(device, 8)
    y = dropout(leaf(np.full(8, np.inf, np.float32), device), key=key(device)).numpy()
    np.testing.assert_array_equal(y, np.where(keep, np.inf, np.nan))


def test_gradient_of_the_reference(rng):
    minicnn.gradcheck(lambda x: dropout(x, 0.3, key=key("numpy")), [leaf(rng.standard_normal((5, 7)), "numpy")])


def test_gradient_of_the_kernels(kernel_device, rng):
    x = rng.standard_normal((5, 7)).astype(np.float32)
    minicnn.gradcheck(lambda x: dropout(x, 0.3, key=key(kernel_device)), [leaf(x, kernel_device)], eps=1, rtol=1e-6)


def test_it_is_its_own_adjoint(device, rng):
    x, dy = rng.integers(-8, 8, (2, 37)).astype(np.float32)
    y, (dx,) = run(lambda x: dropout(x, 0.5, key=key(device)), [x], device, dy)
    assert np.dot(y, dy) == np.dot(x, dx)


def test_gradients_accumulate(device, rng):
    check_accumulates(lambda x: dropout(x, 0.5, key=key(device)), [rng.standard_normal(37)], device)


def test_thread_order_does_not_matter(kernel_device):
    x, dy = np.arange(1, 2001, dtype=np.float32).reshape(2, 1000)

    def compute():
        y, (dx,) = run(lambda x: dropout(x, 0.5, key=key(kernel_device)), [x], kernel_device, dy)
        return y, dx

    check_thread_orders(compute, kernel_device)


def test_without_a_key_no_call_repeats_a_mask(device):
    x = leaf(np.ones(1000, np.float32), device)

    def masks():
        random.manual_seed(5)
        return [dropout(x).numpy() for _ in range(2)]

    (first, second), again = masks(), masks()
    assert 0.4 < (first != second).mean() < 0.6
    np.testing.assert_array_equal(again, [first, second])


def two_layers():
    random.manual_seed(3)
    return nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.5))


def test_layers_draw_their_own_masks(device):
    x = leaf(np.ones(1000, np.float32), device)
    model = two_layers().to(device)
    first, second = (model[i](x).numpy() for i in (0, 2))
    assert 0.4 < (first != second).mean() < 0.6
    same_code = two_layers().to(device)
    np.testing.assert_array_equal(same_code(x).numpy(), model_output := two_layers().to(device)(x).numpy())
    assert not np.array_equal(model(x).numpy(), model_output)  # its third step, not its first


def test_a_loaded_layer_goes_on_where_the_saved_one_stood(device):
    x = leaf(np.ones(1000, np.float32), device)
    model = two_layers().to(device)
    model(x)
    other = nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.5)).to(device)  # numbered after it
    assert not np.array_equal(other(x).numpy(), two_layers().to(device)(x).numpy())
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())


def test_layer_outside_of_training_is_the_identity(device):
    x = leaf(np.ones(5, np.float32), device)
    assert nn.Dropout(0.5).to(device).eval()(x) is x
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"


@pytest.mark.parametrize("p", [1, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize("make", [nn.Dropout, functools.partial(dropout, None)], ids=["layer", "function"])
def test_refuses_p_outside_0_to_1(make, p):
    message = f"dropout: p, the share of units to drop, must be at least 0 and below 1, got {p}"
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        make(p)


def test_refuses_a_key_that_is_none(kernel_device):
    x = leaf(np.ones(3, np.float32), kernel_device)
    wrong = key(kernel_device)._replace(counter=leaf(np.zeros(2, np.int64), kernel_device))
    with pytest.raises(minicnn.OpError, match=r"^dropout: key.counter must be \(1,\) int64, got \(2,\) int64$"):
        dropout(x, key=wrong)
    wrong = key(kernel_device)._replace(layer=leaf(np.zeros(1), kernel_device))
    with pytest.raises(minicnn.OpError, match=r"^dropout: key.layer must be \(1,\) int64, got \(1,\) float64$"):
        dropout(x, key=wrong)
    message = f"dropout: key.layer is on numpy, x on {kernel_device.name}; move the model by .to(...)"
    with pytest.raises(minicnn.OpError, match=f"^{re.escape(message)}$"):
        dropout(x, key=key("numpy"))
