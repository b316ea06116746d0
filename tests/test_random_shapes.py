"""Shapes, windows, groups, tiles and alignments at random: kernels against the reference, the reference against PyTorch.

A failure is shrunk to the smallest case that fails. The profile says how many cases a test gets (conftest.py): 10 in the
ordinary suite, 200 with --hypothesis-profile=thorough.
"""

import contextlib
import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import assert_close

import minicnn
from minicnn import functional, threads
from minicnn.ops import affine, windows
from minicnn.ops import conv2d as conv2d_op
from minicnn.ops import lrn as lrn_op
from minicnn.shapes import GemmShape, Layout, Schedule, window_count
from minicnn.tensor import Accumulate, GradSlot, Tensor

MACS = 400_000  # of one case at most: milliseconds on the emulated device
TILE_EDGES = (31, 33, 63, 64, 65, 127, 129, 130)
CUTS = ((conv2d_op, "PATCH_BYTES"), (conv2d_op, "SHARE_BYTES"), (windows, "CHUNK"), (lrn_op, "CHUNK"))
RUNGS = (
    "gemm_1_naive",
    "gemm_2_shared",
    "gemm_3_register",
    "gemm_4_vectorized",
    "gemm_5_pipelined",
    "gemm_6_tensor_core",
    "gemm_7_ldmatrix",
    "gemm",
)

SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.integers(0, 3)
CHANNELS = st.integers(1, 9) | st.sampled_from([12, 16, 31, 32, 33])
OFFSETS = st.tuples(*[st.integers(0, 3)] * 3)  # of the inputs from a 16-byte boundary, in elements
PASSES = st.integers(1, 2)  # backward passes: the second adds
ORDERS = st.tuples(st.sampled_from(["forward", "reverse", "random"]), st.integers(0, 3))  # of emulated threads; seed
SCHEDULES = st.builds(Schedule, st.sampled_from([0, 64, 128]), st.integers(0, 3))

# The fixtures, a device and PyTorch, are the same for every case.
CASES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@dataclass(frozen=True)
class Case:
    """One call of an op: the shapes of its floating-point inputs, its options, and the seed of the values."""

    shapes: tuple[tuple[int, ...], ...]
    seed: int
    options: dict = field(default_factory=dict)


def extents(draw, spans, paddings):
    """Height and width into which a window of these spans fits, often just so."""
    least = [max(1, span - 2 * padding) for span, padding in zip(spans, paddings, strict=True)]
    return tuple(extent + draw(st.integers(0, 7)) for extent in least)


@st.composite
def convolutions(draw, known_to_torch=False):
    filters, stride, padding, dilation = (draw(pairs(*bounds)) for bounds in ((1, 4), (1, 4), (0, 3), (1, 3)))
    spans = [d * (r - 1) + 1 for d, r in zip(dilation, filters, strict=True)]
    height, width = extents(draw, spans, padding)
    n, groups, depth = max(int(known_to_torch), draw(BATCHES)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    pixels = math.prod(map(window_count, "cc", "hw", (height, width), spans, stride, padding))
    most = max(1, MACS // (max(n, 1) * groups * pixels * math.prod(filters) * depth))
    k = draw(st.integers(1, min(most, 9)) | st.sampled_from([1, *(edge for edge in TILE_EDGES if edge <= most)]))
    shapes = ((n, height, width, groups * depth), (groups * k, *filters, depth), (groups * k,))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case(shapes[: draw(st.integers(2, 3))], draw(SEEDS), options)


@st.composite
def poolings(draw, known_to_torch=False):
    """PyTorch refuses padding of more than half the window, and empty batches of some poolings."""
    sizes = draw(pairs(1, 4) | st.just((17, 16)))
    paddings = tuple(draw(st.integers(0, size // 2 if known_to_torch else 4)) for size in sizes)
    shape = (max(int(known_to_torch), draw(BATCHES)), *extents(draw, sizes, paddings), draw(CHANNELS))
    options = {"kernel_size": sizes, "stride": draw(st.none() | pairs(1, 5)), "padding": paddings}
    return Case((shape,), draw(SEEDS), options | {"ceil_mode": draw(st.booleans())})


@st.composite
def average_poolings(draw, known_to_torch=False):
    case = draw(poolings(known_to_torch))
    case.options["count_include_pad"] = draw(st.booleans())
    return case


@st.composite
def adaptive_poolings(draw, known_to_torch=False):
    shape = (max(int(known_to_torch), draw(BATCHES)), *draw(pairs(1, 9)), draw(CHANNELS))
    return Case((shape,), draw(SEEDS), {"output_size": draw(pairs(1, 9))})


@st.composite
def normalizations(draw, known_to_torch=False):
    pixels = draw(st.lists(st.integers(int(known_to_torch), 6), min_size=1 + known_to_torch, max_size=3))
    channels = draw(CHANNELS | st.sampled_from([100, 129]))
    options = {
        "size": draw(st.integers(1, min(channels + 3, 11))),
        "alpha": draw(st.sampled_from([1e-4, 0.1, 1.0])),
        "beta": draw(st.sampled_from([0.75, 0.5, 0.6, 1.0])),
        "k": draw(st.sampled_from([1.0, 2.0, 0.5])),
        "dialect": draw(st.sampled_from(["mean", "sum"])),
    }
    return Case(((*pixels, channels),), draw(SEEDS), options)


@st.composite
def products(draw):
    """(m, n, k): small ones, and ones at the edges of tiles."""
    extent = st.integers(1, 40) | st.sampled_from(TILE_EDGES)
    m, n = draw(st.integers(0, 40) | extent), draw(extent)
    return m, n, draw(st.integers(1, max(1, min(300, MACS // max(m * n, 1)))))


@st.composite
def linears(draw, known_to_torch=False):
    n, k, c = draw(products())
    return Case(((n, c), (k, c), (k,))[: draw(st.integers(2, 3))], draw(SEEDS))


@st.composite
def matrix_products(draw, known_to_torch=False):
    m, n, k = draw(products())
    return Case(((m, k), (k, n)), draw(SEEDS))


@st.composite
def batch_norms(draw, known_to_torch=False):
    rows = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3).filter(lambda rows: math.prod(rows) > 1))
    shape = (*rows, draw(CHANNELS))
    options = {"training": draw(st.booleans()), "momentum": draw(st.sampled_from([0.1, 1.0])), "eps": 1e-3}
    return Case((shape, shape[-1:], shape[-1:])[: draw(st.sampled_from([1, 3]))], draw(SEEDS), options)


@st.composite
def cross_entropies(draw, known_to_torch=False):
    options = {
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    classes = draw(st.integers(1, 40) | st.sampled_from([127, 128, 129, 1000]))
    return Case(((draw(st.integers(0, 20)), classes),), draw(SEEDS), options)


class Subject(NamedTuple):
    """An op under test.

    ours, theirs  functions of the floating-point inputs and then the state, with the case's options; theirs gets
                  `torch.nn.functional` before them, and both have our layouts
    cases         (known_to_torch) -> strategy
    values        (case, rng) -> the inputs
    state         (case, rng) -> arrays that the op changes, or that have no gradient
    exact         the values are integers on which float32 does not round, so that no bit may differ
    atol          of the kernels, where not the table's. Batch normalisation's dx is what is left of three terms of up to
                  9 (dy 3, weight 1.5, 1 / std 2), each rounded some times by up to 5e-7, in two passes
    """

    ours: Callable
    theirs: Callable
    cases: Callable
    values: Callable = lambda case, rng: [rng.standard_normal(shape) for shape in case.shapes]
    state: Callable = lambda case, rng: []
    exact: bool = False
    atol: float | None = None


def integers(case, rng):
    return [rng.integers(-3, 4, shape) for shape in case.shapes]


def with_odd_numbers(case, rng):
    """Integers with ties; one in ten is -inf, in some cases one in fifty NaN."""
    (values,) = integers(case, rng)
    numbers = np.where(rng.random(values.shape) < 0.1, -np.inf, values)
    return [np.where(rng.random(values.shape) < rng.choice([0, 0.02]), np.nan, numbers)]


def spread(case, rng):
    """Each channel of x a permutation of numbers 1 apart: of a variance near 0 nothing but rounding would be left."""
    x, *affine = case.shapes
    columns = [rng.permutation(math.prod(x[:-1])) + rng.standard_normal() for _ in range(x[-1])]
    return [np.stack(columns, axis=-1).reshape(x), *(rng.uniform(0.5, 1.5, shape) for shape in affine)]


def running_statistics(case, rng):
    channels = case.shapes[0][-1]
    return [rng.standard_normal(channels), rng.uniform(0.5, 2, channels)]


def classes(case, rng):
    rows, count = case.shapes[0]
    return [rng.integers(0, count, rows)]


def statistics_first(batch_norm):
    """(x, weight, bias, mean, variance) as (x, mean, variance, weight, bias)."""
    return lambda x, *rest, **options: batch_norm(x, *rest[-2:], *rest[:-2], **options)


def of_images(name):
    """PyTorch's function of (N, C, ...) on x (N, ..., C)."""
    return lambda F, x, *rest, **options: getattr(F, name)(x.movedim(-1, 1), *rest, **options).movedim(1, -1)


def torch_conv2d(F, x, weight, *bias, **options):
    return of_images("conv2d")(F, x, weight.movedim(-1, 1), *bias, **options)


def torch_lrn(F, x, dialect, alpha, size, **options):
    alpha = alpha * size if dialect == "sum" else alpha
    return of_images("local_response_norm")(F, x, size, alpha, **options)


def torch_batch_norm(F, *inputs, **options):
    return statistics_first(functools.partial(of_images("batch_norm"), F))(*inputs, **options)


SUBJECTS = {
    "conv2d": Subject(functional.conv2d, torch_conv2d, convolutions, integers, exact=True),
    "max_pool2d": Subject(functional.max_pool2d, of_images("max_pool2d"), poolings, with_odd_numbers, exact=True),
    "avg_pool2d": Subject(functional.avg_pool2d, of_images("avg_pool2d"), average_poolings),
    "adaptive_avg_pool2d": Subject(functional.adaptive_avg_pool2d, of_images("adaptive_avg_pool2d"), adaptive_poolings),
    "local_response_norm": Subject(functional.local_response_norm, torch_lrn, normalizations),
    "linear": Subject(functional.linear, lambda F, *inputs: F.linear(*inputs), linears, integers, exact=True),
    "matmul": Subject(operator.matmul, lambda F, a, b: a @ b, matrix_products, integers, exact=True),
    "batch_norm": Subject(
        statistics_first(functional.batch_norm), torch_batch_norm, batch_norms, spread, running_statistics, atol=1e-5
    ),
    "cross_entropy": Subject(
        functional.cross_entropy,
        lambda F, *inputs, **options: F.cross_entropy(*inputs, **options),
        cross_entropies,
        state=classes,
    ),
}


def arrays_of(subject, case):
    """(inputs, state), the inputs as float32 can hold them."""
    rng = np.random.default_rng(case.seed)
    values = [np.asarray(v, np.float32) for v in subject.values(case, rng)]
    return values, [v.astype(np.float32) if v.dtype.kind == "f" else v for v in subject.state(case, rng)]


def gradient_of(case, shape):
    return np.random.default_rng([case.seed, 1]).integers(-3, 4, shape)


def in_dtype(arrays, dtype):
    return [v.astype(dtype) if v.dtype.kind == "f" else v for v in arrays]


def misplaced(values, device, offset):
    """(a leaf that starts `offset` elements into a larger array, as parameters do in their arena, and its gradient too;
    these two arrays, NaN elsewhere)."""
    place = slice(offset, offset + values.size)
    data, grad = (device.array(np.full(values.size + offset + 5, np.nan, values.dtype)) for _ in range(2))
    device.write(data[place], values.reshape(-1))
    leaf = Tensor(data[place].reshape(values.shape), device, requires_grad=True)
    leaf.slot = GradSlot(device, values.shape, values.dtype, grad[place].reshape(values.shape))
    return leaf, (data, grad)


def compute(subject, case, device, dtype, offsets=(0, 0, 0), passes=1):
    """[y, the inputs' gradients, the state afterwards] on the host; backward adds `passes` times to the gradients."""
    values, state = (in_dtype(arrays, dtype) for arrays in arrays_of(subject, case))
    state = [minicnn.tensor(v, device=device) for v in state]
    placed = [misplaced(v, device, offset) for v, offset in zip(values, offsets, strict=False)]
    leaves = [leaf for leaf, _ in placed]
    for _ in range(passes):
        y = subject.ours(*leaves, *state, **case.options)
        y.backward(gradient_of(case, y.shape))
    for (leaf, arrays), offset in zip(placed, offsets, strict=False):
        for array in arrays:
            around = np.delete(device.to_numpy(array), slice(offset, offset + leaf.size))
            assert np.isnan(around).all(), f"{array.shape} at {offset}: written beside the array"
    return [y.numpy(), *(leaf.grad.numpy() for leaf in leaves), *(v.numpy() for v in state)]


def compute_with_torch(torch, subject, case):
    """What `compute` returns, by PyTorch in float64."""
    values, state = (in_dtype(arrays, np.float64) for arrays in arrays_of(subject, case))
    leaves, state = [torch.tensor(v, requires_grad=True) for v in values], [torch.tensor(v) for v in state]
    y = subject.theirs(torch.nn.functional, *leaves, *state, **case.options)
    y.backward(torch.tensor(gradient_of(case, tuple(y.shape)), dtype=torch.float64))
    return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves), *(v.numpy() for v in state)]


@contextlib.contextmanager
def thread_order(device, order, seed):
    """The emulated threads in this order; afterwards nothing has been written past an array."""
    if device.name != "emulated":
        yield
        return
    before = device.module.configuration()
    device.module.configure(order=order, seed=seed)
    try:
        yield
    finally:
        device.module.configure(**before)
    device.module.check_guards()


def check_kernels(subject, case, device, offsets, passes, order):
    with thread_order(device, *order):
        results = compute(subject, case, device, np.float32, offsets, passes)
    expected = compute(subject, case, minicnn.backend.device("numpy"), np.float64, passes=passes)
    for i, (got, reference) in enumerate(zip(results, expected, strict=True)):
        assert_agree(got, reference, f"result {i}", subject.exact, atol=subject.atol)


def assert_agree(got, expected, what, exact, **tolerance):
    if exact or expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected, err_msg=what)
    else:
        assert_close(got, expected, what=what, **tolerance)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name != "conv2d"])
def test_kernels_match_the_reference(name, kernel_device, count):
    subject = SUBJECTS[name]

    @CASES
    @given(case=subject.cases(), offsets=OFFSETS, passes=PASSES, order=ORDERS)
    def check(case, offsets, passes, order):
        count("kernels")
        check_kernels(subject, case, kernel_device, offsets, passes, order)

    check()


@pytest.mark.parametrize("rung", conv2d_op.RUNGS)
def test_convolution_kernels_match_the_reference(rung, kernel_device, count):
    @CASES
    @given(case=convolutions(), offsets=OFFSETS, passes=PASSES, order=ORDERS, schedule=SCHEDULES)
    def check(case, offsets, passes, order, schedule):
        count("kernels")
        with mock.patch.object(conv2d_op, "rung", lambda: rung), mock.patch.object(affine, "AUTOMATIC", schedule):
            check_kernels(SUBJECTS["conv2d"], case, kernel_device, offsets, passes, order)

    check()


def matrix_at(values, device, offset, gap):
    """(a matrix that starts `offset` elements into a larger array, rows `gap` elements apart; that array)."""
    rows, columns = values.shape
    host = np.full(offset + rows * (columns + gap) + 5, np.nan, np.float32)
    host[offset : offset + rows * (columns + gap)].reshape(rows, columns + gap)[:, :columns] = values
    array = device.array(host)
    return array[offset:], array


@st.composite
def gemms(draw, rungs):
    """Arguments of run_gemm, but for the device."""
    return {
        "rung": draw(st.sampled_from(rungs)),
        "extents": draw(products()),
        "layout": draw(st.sampled_from(Layout)),
        "gaps": draw(st.tuples(*[st.sampled_from([0, 0, 1, 3, 4])] * 3)),
        "offsets": draw(OFFSETS),
        "has_bias": draw(st.booleans()),
        "accumulate": draw(st.sampled_from(Accumulate)),
        "schedule": draw(SCHEDULES),
        "seed": draw(SEEDS),
    }


def run_gemm(device, rung, extents, layout, gaps, offsets, has_bias, accumulate, schedule, seed):
    """(c on the host, what it must be), both with what lies beside c."""
    rng, (m, n, k) = np.random.default_rng(seed), extents
    a, b, bias, before = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((m, k), (k, n), (n,), (m, n)))
    lying_a, lying_b = a.T if layout is Layout.tn else a, b.T if layout is Layout.nt else b
    arrays = [matrix_at(v, device, *at) for v, *at in zip((lying_a, lying_b, before), offsets, gaps, strict=True)]
    pitches = [v.shape[1] + gap for v, gap in zip((lying_a, lying_b, before), gaps, strict=True)]
    shape = GemmShape(m, n, k, *pitches)
    arguments = [arrays[0][0], arrays[1][0], device.array(bias) if has_bias else None, arrays[2][0]]
    if rung in ("gemm", "gemm_5_pipelined"):
        workspace = device.empty((device.kernels.gemm_workspace(shape, schedule),))
        getattr(device.kernels, rung)(*arguments, workspace, shape, layout, accumulate, schedule)
    else:
        getattr(device.kernels, rung)(*arguments, shape, layout, accumulate)
    product = a @ b + (bias if has_bias else 0) + before * accumulate
    _, expected = matrix_at(product, minicnn.backend.device("numpy"), offsets[2], gaps[2])
    return device.to_numpy(arrays[2][1]), expected


def test_every_rung_of_the_product_is_exact(kernel_device, count):
    rungs = [rung for rung in RUNGS if hasattr(kernel_device.kernels, rung)]

    @CASES
    @given(case=gemms(rungs), order=ORDERS)
    def check(case, order):
        count("kernels")
        with thread_order(kernel_device, *order):
            got, expected = run_gemm(kernel_device, **case)
        np.testing.assert_array_equal(got, expected)

    check()


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_reference_agrees_with_torch(name, torch, count):
    subject, chunks = SUBJECTS[name], st.sampled_from([1, 100, 1 << 20])

    @CASES
    @given(case=subject.cases(known_to_torch=True), chunk=chunks, shared=st.booleans())
    def check(case, chunk, shared):
        """Cut into chunks of any size, shared between threads or not."""
        count("reference")
        with contextlib.ExitStack() as stack:
            for module, constant in CUTS:
                stack.enter_context(mock.patch.object(module, constant, chunk))
            stack.enter_context(mock.patch.object(threads, "FEW", 0 if shared else 1 << 40))
            results = compute(subject, case, minicnn.backend.device("numpy"), np.float64)
        for i, (got, second) in enumerate(zip(results, compute_with_torch(torch, subject, case), strict=True)):
            assert_agree(got, second, f"result {i}", subject.exact, rtol=1e-10, atol=1e-10)

    check()
