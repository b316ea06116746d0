"""Arena: parameters and gradients as permanent views of two flat arrays."""

import numpy as np
import pytest

import minicnn
from minicnn import backend, nn, optim
from minicnn.arena import ALIGNMENT, Arena


def parameters(*sizes, dtype=np.float32):
    return [nn.parameter(np.arange(1, size + 1, dtype=dtype)) for size in sizes]


def test_segments_are_aligned_in_order_and_the_gaps_are_zero(device):
    a, b, c = parameters(3, ALIGNMENT, 5)
    arena = Arena.of([a, b, c], device)
    assert arena.segments == [
        (a, 0, 3),
        (b, ALIGNMENT, 2 * ALIGNMENT),
        (c, 2 * ALIGNMENT, 2 * ALIGNMENT + 5),
    ]
    flat = device.to_numpy(arena.data)
    assert flat.shape == (3 * ALIGNMENT,)
    assert flat[:3].tolist() == [1, 2, 3] and not flat[3:ALIGNMENT].any() and not flat[2 * ALIGNMENT + 5 :].any()
    assert not device.to_numpy(arena.grad).any()


def test_gaps_stay_zero_through_a_step(device):
    a, b = parameters(3, 2)
    Arena.of([a, b], device)
    optimizer = optim.SGD([a, b], lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.step()
    flat = device.to_numpy(a.arena.data)
    assert flat[:3].all() and not flat[3:ALIGNMENT].any() and not flat[ALIGNMENT + 2 :].any()


def test_parameters_are_views(device):
    a, b = parameters(3, 2)
    arena = Arena.of([a, b], device)
    device.write(arena.data, np.arange(arena.data.size, dtype=np.float32))
    assert a.numpy().tolist() == [0, 1, 2]
    assert b.numpy().tolist() == [ALIGNMENT, ALIGNMENT + 1]
    b.copy_([7, 8])
    assert device.to_numpy(arena.data)[ALIGNMENT : ALIGNMENT + 2].tolist() == [7, 8]


def test_shapes_and_values_survive(device):
    weight = nn.parameter(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    Arena.of([weight], device)
    np.testing.assert_array_equal(weight.numpy(), np.arange(24).reshape(2, 3, 4))


def test_gradients_of_backward_lie_in_the_arena(device):
    layer = nn.Linear(2, 3).to(device)
    x = minicnn.tensor(np.array([[1.0, 2.0]], np.float32), device=device)
    layer(x).backward(np.ones((1, 3)))
    layer(x).backward(np.ones((1, 3)))
    grad = device.to_numpy(layer.weight.arena.gather_gradients())
    assert grad[:6].tolist() == [2, 4, 2, 4, 2, 4]
    assert grad[ALIGNMENT : ALIGNMENT + 3].tolist() == [2, 2, 2]


def test_gathered_gradients_are_zero_where_nobody_wrote_since_zero_grad(device):
    used, unused = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    arena = Arena.of(used.parameters() + unused.parameters(), device)
    x = minicnn.tensor(np.array([[1.0, 2.0]], np.float32), device=device)
    for layer in (used, unused):
        layer(x).backward()
        layer.zero_grad()
    used(x).backward()
    grad = device.to_numpy(arena.gather_gradients())
    assert grad[:2].tolist() == [1, 2] and not grad[ALIGNMENT:].any()


def test_parameters_that_share_an_arena_keep_it(device):
    a, b = parameters(3, 2)
    arena = Arena.of([a, b], device)
    assert Arena.of([b]) is arena
    assert Arena.of([a, b, a], device) is arena


def test_parameters_of_two_arenas_move_into_a_new_one():
    a, b = parameters(3, 2)
    first, second = Arena.of([a]), Arena.of([b])
    both = Arena.of([a, b])
    assert both is not first and both is not second
    assert a.arena is both and b.arena is both
    assert b.numpy().tolist() == [1, 2]


def test_a_move_keeps_values_and_forgets_gradients(device):
    layer = nn.Linear(2, 1)
    arena = Arena.of(layer.parameters())
    layer(minicnn.tensor(np.ones((1, 2), np.float32))).backward()
    before = layer.weight.numpy()
    elsewhere = device if device is not arena.device else backend.device("numpy")
    assert Arena.of(layer.parameters(), elsewhere) is arena
    assert arena.device is layer.weight.device is elsewhere
    np.testing.assert_array_equal(layer.weight.numpy(), before)
    assert not layer.weight.grad.numpy().any()


def test_a_parameter_named_twice_lies_once():
    (a,) = parameters(3)
    assert Arena.of([a, a]).segments == [(a, 0, 3)]


def test_no_parameters_are_refused():
    with pytest.raises(ValueError, match=r"^an arena needs at least one parameter, got none$"):
        Arena.of([])


def test_mixed_dtypes_are_refused():
    with pytest.raises(TypeError, match=r"^the parameters of one arena share one dtype, got \['float32', 'float64'\]$"):
        Arena.of(parameters(3) + parameters(3, dtype=np.float64))
