"""Batches copied beside the computing: the same numbers whichever of the two is late, and what each of the waits is for."""

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.backend import feed
from minicnn.backend.emulated import EmulatedStream
from minicnn.backend.feed import PLACES
from minicnn.data import ImageBatch
from minicnn.memory_plan import memory_plan
from minicnn.optim import SGD
from minicnn.step import GraphedStep, Step

LATE = {"nothing": (False, False), "copies": (True, False), "kernels": (False, True), "both": (True, True)}


@pytest.fixture
def emulated(kernel_device):
    if kernel_device.name != "emulated":
        pytest.skip("cuda: who is late there nobody can choose")
    yield kernel_device
    kernel_device.put_off(copies=True, kernels=False)


def put_off(device, late):
    copies, kernels = LATE[late]
    device.put_off(copies=copies, kernels=kernels)


# Streams.


def test_a_lazy_stream_does_what_is_waited_for_and_no_more():
    done, stream = [], EmulatedStream(lazy=True)
    stream.queue(done.append, 1)
    event = stream.record()
    stream.queue(done.append, 2)
    assert done == []
    event.synchronize()
    assert done == [1]
    event.synchronize()
    assert done == [1]
    stream.synchronize()
    assert done == [1, 2]


def test_a_stream_waits_for_another_s_event():
    done, copies, kernels = [], EmulatedStream(lazy=True), EmulatedStream(lazy=True)
    kernels.queue(done.append, "read")
    copies.wait_event(kernels.record())
    copies.queue(done.append, "copy")
    kernels.wait_event(copies.record())
    kernels.queue(done.append, "read again")
    assert done == []
    kernels.synchronize()
    assert done == ["read", "copy", "read again"]


def test_an_eager_stream_does_it_at_once():
    done, stream = [], EmulatedStream(lazy=False)
    stream.queue(done.append, 1)
    assert done == [1]


# The feed.


def batches(count):
    rng = np.random.default_rng(7)
    return [(rng.standard_normal((4, 3)).astype(np.float32), np.array(number)) for number in range(count)]


def passed_on(device, pushed):
    """What work queued behind each push reads, and the host behind all of them."""
    feed, results = device.new_feed(), []
    for arrays in pushed:
        source = [np.array(values) for values in arrays]
        there = feed.push(source)
        for values in source:
            values[...] = 77  # the caller's again
        copies = [device.empty(array.shape, array.dtype) for array in there]
        for array, copy in zip(there, copies, strict=True):
            device.copy(array, copy)
        results.append(copies)
    return [[device.to_numpy(copy) for copy in copies] for copies in results]


def arrives(device, pushed):
    return all(
        np.array_equal(values, expected)
        for arrays, wanted in zip(passed_on(device, pushed), pushed, strict=True)
        for values, expected in zip(arrays, wanted, strict=True)
    )


def test_every_batch_arrives_on_every_device(device):
    assert arrives(device, batches(7))


@pytest.mark.parametrize("late", LATE)
def test_every_batch_arrives_whoever_is_late(emulated, late):
    put_off(emulated, late)
    assert arrives(emulated, batches(3 * PLACES + 1))
    whole, part = batches(5), [[values[..., :2] for values in batch[:1]] for batch in batches(5)]
    assert arrives(emulated, [batch for pair in zip(whole, part, strict=True) for batch in pair])


class Hasty(feed.Place):
    """Filled without a look at the copies that read it."""

    def fill(self, arrays):
        self.copied = None
        super().fill(arrays)


def without_kernels_that_wait(device, monkeypatch):
    monkeypatch.setattr(device.stream, "wait_event", lambda event: None)


def without_copies_that_wait(device, monkeypatch):
    new_stream = device.new_stream

    def impatient():
        stream = new_stream()
        stream.wait_event = lambda event: None
        return stream

    monkeypatch.setattr(device, "new_stream", impatient)


def without_a_host_that_waits(device, monkeypatch):
    monkeypatch.setattr(feed, "Place", Hasty)


@pytest.mark.parametrize(
    ("forget", "late"),
    [
        (without_kernels_that_wait, "copies"),
        (without_copies_that_wait, "kernels"),
        (without_a_host_that_waits, "both"),
    ],
)
def test_each_wait_is_needed(emulated, monkeypatch, forget, late):
    put_off(emulated, late)
    forget(emulated, monkeypatch)
    assert not arrives(emulated, batches(3 * PLACES + 1))


def test_places_are_taken_once(emulated, monkeypatch):
    taken, empty = [], emulated.empty
    monkeypatch.setattr(emulated, "empty", lambda *described: taken.append(described) or empty(*described))
    line = emulated.new_feed()
    for arrays in batches(6):
        line.push(arrays)
    assert len(taken) == 2 * PLACES


# Training steps.


def trained(device, step_class, **options):
    """Losses and weights of seven steps."""
    minicnn.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * 4 * 4, 3))
    network.to(device)
    optimizer = SGD(network.parameters(), lr=0.05, momentum=0.9)
    step, rng, losses = step_class(network, optimizer, **options), np.random.default_rng(5), []
    for number in range(7):
        optimizer.lr = 0.05 / (1 + number)
        images = rng.integers(0, 256, (5, 6, 6, 2), np.uint8)
        windows = np.arange(5)[:, None] * [1, 0, 0, 0]
        colours = np.full(2, 1 / 64, np.float32), rng.standard_normal((5, 2)).astype(np.float32)
        parts = step(ImageBatch(images, windows, *colours, (6, 6)), rng.integers(0, 3, 5))
        losses.append([part.loss for part in parts])
    if step_class is GraphedStep:
        assert not step.why_none
        return [[part.item() for part in parts] for parts in losses[-1:]], network.state_dict()
    return [[part.item() for part in parts] for parts in losses], network.state_dict()


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("step_class", [Step, GraphedStep])
@pytest.mark.parametrize("options", [{}, {"micro_batch": 2, "clip_norm": 0.5}], ids=["whole", "in_slices"])
def test_steps_have_the_same_numbers_whoever_is_late(emulated, step_class, options, late):
    put_off(emulated, "nothing")
    losses, expected = trained(emulated, step_class, **options)
    put_off(emulated, late)
    found, state = trained(emulated, step_class, **options)
    assert found == losses
    for name, values in expected.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)


def test_a_forgotten_wait_shows_in_a_step(emulated, monkeypatch):
    put_off(emulated, "nothing")
    _, expected = trained(emulated, Step)
    put_off(emulated, "kernels")
    without_copies_that_wait(emulated, monkeypatch)
    _, state = trained(emulated, Step)
    assert any(not np.array_equal(state[name], values) for name, values in expected.items())


def test_the_plan_knows_of_the_places(emulated):
    """Two of each kind of slice, of which the short one behind the others is another."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    rows = memory_plan(network, (5, 4, 4, 3), device=emulated, micro_batch=2).rows
    (taken,) = (row.at_peak_bytes for row in rows if row.path == "input")
    windows, scale, labels, weight = 4 * 8, 3 * 4, 8, 4
    of_one = 48 + windows + 3 * 4 + labels
    assert taken >= 2 * ((2 * of_one + scale + weight) + (of_one + scale + weight))
