"""A training step in slices of its batch: the gradient of the whole, each image counted once."""

import numpy as np
import pytest
from tolerances import assert_close

import minicnn
from minicnn import nn
from minicnn.data import ImageBatch
from minicnn.optim import SGD, Adam
from minicnn.step import Step


def small_network(*behind):
    minicnn.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 3), *behind)


def batch(rng, count=10):
    images = rng.integers(0, 256, (count, 6, 6, 1), np.uint8)
    windows = np.arange(count)[:, None] * [1, 0, 0, 0]
    windows[:, 3] = rng.integers(0, 2, count)
    offset = rng.normal(size=(count, 1)).astype(np.float32)
    return ImageBatch(images, windows, np.full(1, 1 / 64, np.float32), offset, (6, 6)), rng.integers(0, 3, count)


def trained(network, device, images, labels, **options):
    """The parts of one step of `network`, which it has changed."""
    network.to(device)
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    parts = Step(network, optimizer, label_smoothing=0.1, **options)(images, labels)
    return parts, network.state_dict()


@pytest.mark.parametrize("micro_batch", [1, 4, 5, 9], ids=lambda n: f"slices_of_{n}")
def test_slices_give_the_gradient_of_the_whole_batch(device, rng, micro_batch):
    images, labels = batch(rng)
    whole_parts, whole = trained(small_network(), device, images, labels, clip_norm=0.5)
    parts, sliced = trained(small_network(), device, images, labels, clip_norm=0.5, micro_batch=micro_batch)
    assert [len(part.labels) for part in parts] == [min(micro_batch, 10 - start) for start in range(0, 10, micro_batch)]
    start = small_network().state_dict()
    for name in whole:
        assert (
            np.abs(whole[name] - start[name]).max() > 1e-3
        )  # of the step; the comparison is of it, not of the weights
        assert_close(sliced[name] - start[name], whole[name] - start[name], what=name, rtol=1e-4, atol=2e-6)
    mean = sum(part.loss.item() * len(part.labels) for part in parts) / 10
    assert mean == pytest.approx(whole_parts[0].loss.item(), rel=1e-5)
    logits = np.concatenate([part.logits.numpy() for part in parts])
    assert_close(logits, whole_parts[0].logits.numpy(), what="logits", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [10, 64])
def test_one_slice_is_the_batch_to_the_bit(device, rng, micro_batch):
    images, labels = batch(rng)
    (whole_part,), whole = trained(small_network(), device, images, labels)
    (part,), sliced = trained(small_network(), device, images, labels, micro_batch=micro_batch)
    assert part.loss.item() == whole_part.loss.item()
    for name in whole:
        np.testing.assert_array_equal(sliced[name], whole[name])


def test_dropout_draws_a_mask_a_slice(rng):
    images, labels = batch(rng)
    for micro_batch, masks in ((None, 1), (4, 3)):
        _, state = trained(small_network(nn.Dropout(0.5)), "numpy", images, labels, micro_batch=micro_batch)
        assert state["4.counter"] == [masks]


def test_batch_norm_takes_the_statistics_of_each_slice(rng):
    images, labels = batch(rng)
    network = small_network(nn.BatchNorm1d(3))
    parts, state = trained(network, "numpy", images, labels, micro_batch=5)
    for part in parts:
        np.testing.assert_allclose(part.logits.numpy().mean(axis=0), 0, atol=1e-6)
    before = small_network().to("numpy").eval()
    values = before(minicnn.functional.prepare_images(*map(minicnn.tensor, images[:4]), (6, 6)).to("numpy")).numpy()
    running = np.zeros(3)
    for mean in (values[:5].mean(axis=0), values[5:].mean(axis=0)):
        running = 0.9 * running + 0.1 * mean
    np.testing.assert_allclose(state["4.running_mean"], running, rtol=1e-4, atol=1e-6)


def test_a_step_within_the_walk_is_the_step_behind_it(device, rng):
    """Over three steps, of which the last two have a velocity; the gradient of the weight that was moved is not written."""
    batches = [batch(rng) for _ in range(3)]

    def run(step_in_backward):
        network = small_network().to(device)
        optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        step = Step(network, optimizer, step_in_backward=step_in_backward)
        losses = [step(*images)[0].loss.item() for images in batches]
        return losses, network.state_dict() | optimizer.state_dict(), network[3].weight.slot.stale

    expected_losses, expected, written = run(False)
    losses, state, moved = run(True)
    assert losses[0] == expected_losses[0]
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    start = small_network().state_dict()
    for name, values in expected.items():
        before = start.get(name, 0)
        assert np.abs(values - before).max() > 1e-3, name
        assert_close(state[name] - before, values - before, what=name, rtol=1e-4, atol=2e-6)
    assert not written
    assert moved == (device.name not in ("numpy", "cpu"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 2.0}, "step_in_backward excludes clip_norm, which is 2.0: "),
        ({"micro_batch": 4}, "step_in_backward excludes micro_batch, which is 4: "),
        ({"numbers": "float16"}, "step_in_backward excludes precision='float16': "),
        ({"numbers": "bfloat16"}, "step_in_backward excludes precision='bfloat16': "),
        ({"optimizer": Adam}, "step_in_backward excludes optimizer='adam': "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_step_within_the_walk_excludes_is_named(options, message):
    network = small_network()
    optimizer = options.pop("optimizer", SGD)(network.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=f"^{message}"):
        Step(network, optimizer, step_in_backward=True, **options)
