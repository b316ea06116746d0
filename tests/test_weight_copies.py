"""The copies of the weights in 16 bits, which products read: they save a conversion, and change no bit of any number."""

import contextlib
from collections import Counter

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.data import ImageBatch
from minicnn.functional import prepare_images
from minicnn.optim import SGD, Adam, Average
from minicnn.step import GraphedStep, Step

each_precision = pytest.mark.parametrize("name", ("bfloat16", "float16"))
STEPS = 5


def network():
    minicnn.manual_seed(1)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 8), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(8, 3))


def batch(rng, count=10):
    images, windows = rng.integers(0, 256, (count, 6, 6, 1), np.uint8), np.arange(count)[:, None] * [1, 0, 0, 0]
    offset = rng.normal(size=(count, 1)).astype(np.float32)
    return ImageBatch(images, windows, np.full(1, 1 / 64, np.float32), offset, (6, 6)), rng.integers(0, 3, count)


def sgd(model):
    return SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def adam(model):
    return Adam(model.parameters(), lr=0.01)


def of_some(model):
    """The first layer stays, the second by its multiplier; the bias of the third moves at half the speed."""
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    return SGD(model.parameters(), 0.1, 0.9, multipliers={model[4].weight: (0.0, 1.0), model[6].bias: (0.5, 1.0)})


def nothing(model, optimizer, number):
    """Nobody but the optimizer writes."""


def evaluates(model, optimizer, number):
    with minicnn.no_grad():
        model(minicnn.tensor(np.ones((2, 6, 6, 1), np.float32), device=optimizer.device)).numpy()


def writes(model, optimizer, number):
    weight = model[number % 2 * 4].weight
    weight.copy_(0.5 * weight.numpy())
    evaluates(model, optimizer, number)


def writes_through_a_view(model, optimizer, number):
    if number == 2:
        flat = model[4].weight.detach().reshape(-1)
        flat.copy_(flat.numpy()[::-1])


def loads(model, optimizer, number):
    if number % 2:
        model.load_state_dict({path: 0.5 * values for path, values in model.state_dict().items()})


def initializes(model, optimizer, number):
    if number == 1:
        nn.init.normal_(model[4].weight, 0.1)


def averages(model, optimizer, number):
    """What an evaluation with averaged weights does between two steps."""
    average = Average(optimizer.arena, 0.5)
    average.update(number + 1)
    model[0].weight.copy_(2 * model[0].weight.numpy())
    with average.in_place():
        evaluates(model, optimizer, number)


def another_optimizer(model, optimizer, number):
    """With gradients that the step before has left."""
    Adam([model[4].weight, model[6].weight], lr=0.01).step()


BETWEEN = (nothing, evaluates, writes, writes_through_a_view, loads, initializes, averages, another_optimizer)
OPTIONS = {
    "plain": {},
    "in_slices": {"micro_batch": 4},
    "clipped": {"clip_norm": 0.5},
}


def trained(keeps_copies, device, name, step_class=Step, optimizer=sgd, between=nothing, **options):
    """[logits of each step, the state behind the last]."""
    model = network().to(device)
    optimizer = optimizer(model)
    step, rng, seen = step_class(model, optimizer, numbers=name, **options), np.random.default_rng(0), []
    if not keeps_copies:
        optimizer.keep_copy()  # of float32: none
    for number in range(STEPS):
        parts = step(*batch(rng))
        seen += [part.logits.numpy() for part in parts]
        with minicnn.precision(name):
            between(model, optimizer, number)
    assert (optimizer.arena.copy is not None) == keeps_copies
    return seen + [array for state in (model.state_dict(), optimizer.state_dict()) for array in state.values()]


def check_same(*arguments, **options):
    got, expected = (trained(keeps_copies, *arguments, **options) for keeps_copies in (True, False))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


HOW = {  # the kind of step, the optimizer
    "sgd": (Step, sgd),
    "some_as_graph": (GraphedStep, of_some),
    "adam_as_graph": (GraphedStep, adam),
}
each_way = pytest.mark.parametrize("step_class, optimizer", HOW.values(), ids=HOW)


@each_precision
@each_way
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_bit_is_another_than_without_copies(options, step_class, optimizer, name, ladder_device):
    check_same(ladder_device, name, step_class, optimizer, **options)


@each_precision
@each_way
@pytest.mark.parametrize("between", BETWEEN, ids=lambda function: function.__name__)
def test_whoever_writes_between_two_steps_is_seen(between, step_class, optimizer, name, ladder_device):
    check_same(ladder_device, name, step_class, optimizer, between)


@each_precision
@pytest.mark.parametrize("optimizer", (sgd, adam, of_some), ids=lambda make: make.__name__)
def test_a_write_within_a_step_is_seen(optimizer, name, ladder_device):
    """By a hook, to a weight of a layer behind it: in the step itself and in those that follow."""

    def run(keeps_copies):
        model, rng = network().to(ladder_device), np.random.default_rng(0)
        step = Step(model, optimizer(model), numbers=name)
        if not keeps_copies:
            step.optimizer.keep_copy()
        weight = model[4].weight
        remove = model[0].register_forward_hook(lambda *_: weight.copy_(-weight.numpy()))
        seen = [part.logits.numpy() for part in step(*batch(rng))]
        remove()
        return seen + [part.logits.numpy() for _ in range(2) for part in step(*batch(rng))]

    for got, expected in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(got, expected)


@each_precision
def test_a_step_within_the_walk_makes_the_copy_stale(name, ladder_device, rng):
    """It writes the weight alone, in float32."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)).to(ladder_device)
    optimizer, x = sgd(model), minicnn.tensor(rng.standard_normal((4, 8)).astype(np.float32), device=ladder_device)
    with minicnn.precision(name):
        optimizer.keep_copy()
    optimizer.prepare()
    optimizer.backward_and_step(model(x).sum())
    with minicnn.precision(name):
        got = model(x).numpy()
    optimizer.keep_copy()
    with minicnn.precision(name):
        np.testing.assert_array_equal(got, model(x).numpy())


@contextlib.contextmanager
def launches_of(device):
    """A Counter, filled when the block ends: how often each kernel was launched."""
    counts = Counter()
    device.module.start_recording()
    try:
        yield counts
    finally:
        launches, _ = device.module.stop_recording()
        counts.update(op for op, *_ in launches)


@each_precision
@pytest.mark.parametrize("optimizer", (sgd, adam), ids=lambda make: make.__name__)
@pytest.mark.parametrize("ladder_device", ["emulated"], indirect=True)
def test_a_step_converts_no_weight(optimizer, name, ladder_device, rng):
    """Nor the input: in each of three slices what normalisation makes, its gradient, and that of the logits. Adam's copies
    are one launch."""
    model = network().to(ladder_device)
    step = Step(model, optimizer(model), micro_batch=4, numbers=name)
    step(*batch(rng))
    with launches_of(ladder_device) as counts:
        step(*batch(rng))
    assert counts[f"narrow_{name}"] == 3 * 3 + (optimizer is adam)
    assert (counts["prepare_images"], counts[f"prepare_images_{name}"]) == (0, 3)
    assert (counts["sgd_step"], counts[f"sgd_step_{name}"]) == (0, optimizer is sgd)


@each_precision
@pytest.mark.parametrize("ladder_device", ["emulated"], indirect=True)
def test_an_evaluation_reads_the_copies(name, ladder_device, rng):
    model = network().to(ladder_device)
    step = Step(model, sgd(model), numbers=name)
    step(*batch(rng))
    images = [minicnn.tensor(array, device=ladder_device) for array in batch(rng)[0][:4]]
    with launches_of(ladder_device) as counts, minicnn.precision(name), minicnn.no_grad():
        model.eval()(prepare_images(*images, (6, 6)))
    assert counts[f"narrow_{name}"] == 1  # of what normalisation makes


@each_precision
def test_the_input_in_16_bits_changes_no_bit(name, device):
    """Against one that is float32 until the first layer reads it."""

    class WithFloat32Input(Step):
        def prepare(self, *arguments):
            with minicnn.precision("float32"):
                return prepare_images(*arguments)

    for got, expected in zip(*(run_of(cls, device, name) for cls in (Step, WithFloat32Input)), strict=True):
        np.testing.assert_array_equal(got, expected)


def run_of(step_class, device, name):
    model, rng = network().to(device), np.random.default_rng(0)
    step = step_class(model, sgd(model), numbers=name)
    return [part.logits.numpy() for _ in range(STEPS) for part in step(*batch(rng))] + list(model.state_dict().values())


def test_only_kernels_of_16_bits_have_copies(device):
    for name in ("float32", "tf32", "bfloat16"):
        model = network().to(device)
        Step(model, optimizer := sgd(model), numbers=name)
        assert (optimizer.arena.copy is not None) == (name == "bfloat16" and not device.computes_on_host)


@each_precision
def test_a_copy_ends_where_the_model_moves(name, ladder_device, rng):
    model = network().to(ladder_device)
    step = Step(model, sgd(model), numbers=name)
    step(*batch(rng))
    model.to("cpu")
    assert model[0].weight.arena.copy is None
    assert all(p.copy is None for p in model.parameters())
    model.to(ladder_device)
    step = Step(model, sgd(model), numbers=name)
    step(*batch(rng))
    assert model[0].weight.copy_is_fresh


@each_precision
def test_checkpoints_hold_float32_alone(name, ladder_device, rng):
    model = network().to(ladder_device)
    Step(model, optimizer := sgd(model), numbers=name)(*batch(rng))
    assert model[0].weight.copy_is_fresh
    for state in (model.state_dict(), optimizer.state_dict()):
        assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
    assert set(optimizer.state_dict()) == {"velocity"}


@each_precision
def test_a_graph_of_other_copies_is_made_anew(name, ladder_device):
    """Another step of the same optimizer, in another precision, in between."""

    def run(step_class):
        model, rng = network().to(ladder_device), np.random.default_rng(0)
        optimizer = sgd(model)
        step, seen = step_class(model, optimizer, numbers=name), []
        for number in range(6):
            if number == 3:
                Step(model, optimizer, numbers="float16" if name == "bfloat16" else "bfloat16")(*batch(rng))
            seen += [part.logits.numpy() for part in step(*batch(rng))]
        return seen

    for got, expected in zip(run(GraphedStep), run(Step), strict=True):
        np.testing.assert_array_equal(got, expected)
