"""The engine: graphs and their gradients, what is kept and when it is freed, what is refused and how."""

import gc
import threading
import weakref

import numpy as np
import pytest
from checks import leaf

import minicnn
from minicnn import nn, optim
from minicnn.autograd import Op, grad_enabled
from minicnn.functional import linear, relu


class Probe(Op):
    """y = x; `seen` is called when the gradient passes."""

    name = "probe"

    def __init__(self, seen):
        self.seen_backward = seen

    def check(self, x):
        return x.shape

    def forward_numpy(self, x, y):
        y[...] = x

    def backward_numpy(self, dy):
        self.seen_backward(dy.copy())
        self.grad_array(0)[...] = dy


def numbers(*values):
    return leaf(np.array(values, np.float32), "numpy")


# Graphs.


def test_a_diamond(device):
    x = leaf(np.array([2.0, 3.0], np.float32), device)
    y = x * x
    (y * y + y).sum().backward()  # x^4 + x^2
    assert x.grad.numpy().tolist() == [36, 114]


def test_an_op_waits_for_all_that_used_its_result():
    passed = []
    x = numbers(1.0)
    y = Probe(passed.append)(x)
    long = y
    for _ in range(5):
        long = long * 2
    (y + long + y).backward()
    assert [dy.tolist() for dy in passed] == [[34.0]]
    assert x.grad.numpy().tolist() == [34]


def test_an_op_may_be_older_than_what_it_is_added_to():
    x = numbers(1.0)
    old = x * 3
    young = (x * 5) * 7
    (young + old).backward()
    assert x.grad.numpy().tolist() == [38]


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_matches_torch(seed, torch):
    """Nodes made of any two earlier ones, and in the end a sum of all."""
    rng = np.random.default_rng(seed)
    steps = [(rng.choice(["+", "-", "*"]), *rng.integers(0, 99, 2)) for _ in range(12)]

    def build(nodes):
        for operation, i, j in steps:
            a, b = nodes[i % len(nodes)], nodes[j % len(nodes)]
            nodes.append(a + b if operation == "+" else a - b if operation == "-" else a * b)
        total = nodes[0]
        for node in nodes[1:]:
            total = total + node * 0.5
        return total

    values = [np.array([0.3, -0.2]), np.array([0.7, 0.1])]
    ours = [leaf(v, "numpy") for v in values]
    build(list(ours)).sum().backward()
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    build(list(theirs)).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_a_deep_chain_runs_without_recursion():
    x = numbers(1.0)
    y = x
    for _ in range(20_000):
        y = relu(y)
    y.backward([3.0])
    assert x.grad.numpy().tolist() == [3]


def test_a_deep_chain_that_nobody_walks_ends_without_recursion():
    y = numbers(1.0)
    for _ in range(20_000):
        y = relu(y)
    first = weakref.ref(y.op)
    del y
    gc.collect()
    assert first() is None


# Gradients of leaves.


def test_gradients_accumulate_until_zero_grad(device):
    x = leaf(np.array([2.0, 3.0], np.float32), device)
    assert x.grad is None
    for expected in ([4, 6], [8, 12]):
        (x * x).sum().backward()
        assert x.grad.numpy().tolist() == expected
    x.zero_grad()
    assert x.grad.numpy().tolist() == [0, 0]
    (x * 5).sum().backward()
    assert x.grad.numpy().tolist() == [5, 5]


def test_a_gradient_handed_out_is_no_longer_written_by_a_reshape(device):
    """What one leaf adopted must not be what another walk writes into."""
    x = leaf(np.zeros(2, np.float32), device)
    dy = np.array([[1.0, 2.0]])
    x.reshape(1, 2).backward(dy)
    x.reshape(1, 2).backward(dy)
    assert x.grad.numpy().tolist() == [2, 4]
    assert dy.tolist() == [[1, 2]]


def test_results_have_no_gradient_of_their_own():
    x = numbers(1.0, 2.0)
    y = x * 2
    y.sum().backward()
    assert y.grad is None


def test_what_needs_no_gradient_gets_none():
    x, constant = numbers(1.0), leaf(np.ones(1, np.float32), "numpy", requires_grad=False)
    (x * constant).backward()
    assert constant.grad is None
    assert (constant * constant).op is None


def test_gradients_keep_the_dtype():
    x = leaf(np.ones(3), "numpy")
    (x * x).sum().backward()
    assert x.grad.dtype == np.float64


def test_a_start_gradient_may_be_a_tensor_or_a_list():
    for grad in (minicnn.tensor([1.0, 2.0], device="numpy"), [1.0, 2.0], np.array([1, 2])):
        x = numbers(1.0, 1.0)
        (x * 3).backward(grad)
        assert x.grad.numpy().tolist() == [3, 6]


# Memory.


def test_saved_arrays_are_freed_as_the_walk_passes():
    """When the gradient reaches the first op, nothing of those behind it is left but the gradient itself."""
    alive, left = [], []
    x = leaf(np.ones(5000, np.float32), "numpy")
    y = Probe(lambda dy: left.append([array() is not None for array in alive]))(x)
    for _ in range(4):
        y = y.exp().log()
        alive.append(weakref.ref(y.op.saved))
        alive.append(weakref.ref(y.data))
    total = y.sum()
    del y
    assert any(array() is not None for array in alive)
    total.backward()
    assert left == [[False] * 8]


def test_gradients_of_results_are_freed_as_the_walk_passes(device):
    y = leaf(np.ones(3, np.float32), device) * 2
    (y * 3).sum().backward()
    assert y.slot.array is None


def test_inputs_that_no_gradient_needs_are_not_kept():
    x = leaf(np.ones(5000, np.float32), "numpy")
    h = x * 2
    y = relu(h)
    inner = weakref.ref(h.data)
    del h
    assert inner() is None
    y.sum().backward()


# Second walks.


def test_a_second_backward_is_refused():
    x = numbers(1.0)
    y = relu(x)
    y.backward()
    with pytest.raises(
        minicnn.GraphError,
        match=r"^backward: a second walk through relu, whose saved arrays were freed by the first; "
        r"compute the forward pass again$",
    ):
        y.backward()


def test_a_refused_walk_has_written_nothing():
    """The shared part is gone; the part that is left must not have run before that is noticed."""
    x, w = numbers(1.0), numbers(1.0)
    shared = relu(x)
    first, second = shared * 2, (shared * 3) * w
    first.backward()
    with pytest.raises(minicnn.GraphError, match=r"^backward: a second walk through relu"):
        second.backward()
    assert w.grad is None
    assert x.grad.numpy().tolist() == [2]


# Starts.


def test_a_start_of_several_elements_needs_a_gradient():
    y = numbers(1.0, 2.0) * 2
    with pytest.raises(
        minicnn.GraphError,
        match=r"^backward: a tensor of shape \(2,\) needs grad=\.\.\., only one element has gradient 1$",
    ):
        y.backward()
    y.backward([1.0, 1.0])  # the refused walk has used nothing up


def test_a_start_gradient_must_fit():
    y = numbers(1.0, 2.0) * 2
    with pytest.raises(minicnn.GraphError, match=r"^backward: grad is \(3,\), the tensor \(2,\)$"):
        y.backward([1.0, 1.0, 1.0])


@pytest.mark.parametrize("start", [numbers(1.0), minicnn.tensor([1.0]) * 2], ids=["leaf", "result_of_constants"])
def test_a_start_outside_of_any_graph_is_refused(start):
    with pytest.raises(
        minicnn.GraphError, match=r"^backward: this tensor was made by no op from anything that requires a gradient$"
    ):
        start.backward()


# Writes in place between forward and backward.

CHANGED = (
    r"^backward: a tensor of shape {shape} that {op} uses was changed in place or moved after the forward pass "
    r"\(version {now}, forward saw {then}\); call backward before that$"
)


def changed(shape, op, now=1, then=0):
    return CHANGED.format(shape=shape.replace("(", r"\(").replace(")", r"\)"), op=op, now=now, then=then)


def test_a_leaf_written_after_forward_is_refused(device):
    x, w = leaf(np.ones(2, np.float32), device), leaf(np.ones(2, np.float32), device)
    y = (x * w) * 2
    w.copy_([5.0, 5.0])
    with pytest.raises(minicnn.GraphError, match=changed("(2,)", "mul")):
        y.backward([1.0, 1.0])
    assert x.grad is None


def test_a_constant_written_after_forward_is_refused():
    x, constant = numbers(1.0), leaf(np.ones(1, np.float32), "numpy", requires_grad=False)
    y = x * constant
    constant.copy_([2.0])
    with pytest.raises(minicnn.GraphError, match=changed("(1,)", "mul")):
        y.backward()


def test_a_result_written_after_forward_is_refused():
    """ReLU's gradient reads its own result, here reached through detach(), which shares the array."""
    y = relu(numbers(1.0, 2.0))
    y.detach().copy_([0.0, 0.0])
    with pytest.raises(minicnn.GraphError, match=changed("(2,)", "relu")):
        y.backward([1.0, 1.0])


def test_a_step_between_forward_and_backward_is_refused():
    layer = nn.Linear(2, 1).to("numpy")
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    x = minicnn.tensor(np.ones((1, 2), np.float32), device="numpy")
    first, second = layer(x), layer(x)
    first.backward()
    optimizer.step()
    with pytest.raises(minicnn.GraphError, match=r"that linear uses was changed in place or moved"):
        second.backward()


def test_an_arena_made_between_forward_and_backward_is_refused():
    """The graph's gradients would land in slots that the parameters have left."""
    layer = nn.Linear(2, 1)
    y = layer(minicnn.tensor(np.ones((1, 2), np.float32)))
    optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(minicnn.GraphError, match=r"that linear uses was changed in place or moved"):
        y.backward()


def test_a_write_after_backward_is_fine():
    x = numbers(1.0)
    y = x * x
    y.backward()
    x.copy_([3.0])
    (x * x).backward()
    assert x.grad.numpy().tolist() == [8]


# no_grad.


def test_nothing_is_recorded_under_no_grad():
    x = numbers(1.0)
    with minicnn.no_grad():
        assert not grad_enabled()
        y = x * 2
    assert grad_enabled()
    assert y.op is None
    assert not y.requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), minicnn.no_grad():
        raise KeyError
    assert grad_enabled()


def test_no_grad_nests_even_in_itself():
    guard = minicnn.no_grad()
    with guard, guard:
        assert not grad_enabled()
    assert grad_enabled()


def test_no_grad_decorates():
    @minicnn.no_grad()
    def double(x):
        return x * 2

    assert double(numbers(1.0)).op is None
    assert double.__name__ == "double"
    assert grad_enabled()


def test_no_grad_is_of_one_thread():
    enabled = []
    with minicnn.no_grad():
        thread = threading.Thread(target=lambda: enabled.append(grad_enabled()))
        thread.start()
        thread.join()
    assert enabled == [True]


# What an op accepts.


def test_inputs_must_be_tensors():
    with pytest.raises(
        minicnn.OpError, match=r"^relu: inputs must be tensors, got ndarray; use minicnn.tensor\(\.\.\.\)$"
    ):
        relu(np.zeros(3))


def test_inputs_must_be_on_one_device():
    with pytest.raises(
        minicnn.OpError, match=r"^linear: inputs are on different devices \(cpu, numpy\); move them with .to\(device\)$"
    ):
        linear(minicnn.tensor(np.zeros((1, 2))), minicnn.tensor(np.zeros((3, 2)), device="numpy"))


def test_inputs_must_share_a_dtype():
    with pytest.raises(
        minicnn.OpError, match=r"^linear: inputs must share one floating-point dtype, got float32, float64$"
    ):
        linear(minicnn.tensor(np.zeros((1, 2), np.float32)), minicnn.tensor(np.zeros((3, 2))))


def test_integers_alone_have_no_arithmetic():
    with pytest.raises(minicnn.OpError, match=r"^relu: inputs must share one floating-point dtype, got int64$"):
        relu(minicnn.tensor([1, 2]))
