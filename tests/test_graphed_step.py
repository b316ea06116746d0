"""The training step as one graph: an ordinary step's numbers to the bit, and nothing of the host's in it."""

import itertools
import threading

import numpy as np
import pytest

import minicnn
from minicnn import compare_runs, nn
from minicnn.data import ImageBatch
from minicnn.errors import DeviceError
from minicnn.loss_scale import LossScale
from minicnn.optim import SGD, Adam
from minicnn.step import GraphedStep, Step


def network(*behind):
    """Every layer that keeps something from step to step, draws, or clears memory."""
    minicnn.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.LocalResponseNorm(3),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 3 * 3, 3),
        *behind,
    )


def batch(number, count=6):
    rng = np.random.default_rng(number)
    images = rng.integers(0, 256, (count, 8, 8, 2), np.uint8)
    windows = np.stack([np.arange(count), *(rng.integers(0, bound, count) for bound in (3, 3, 2))], 1)
    offset = rng.normal(size=(count, 2)).astype(np.float32)
    return ImageBatch(images, windows, np.full(2, 1 / 64, np.float32), offset, (6, 6)), rng.integers(0, 3, count)


def sgd(parameters):
    return SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)


def adam(parameters):
    """With a second moment that forgets soon: its corrections change from step to step."""
    return Adam(parameters, lr=0.05, betas=(0.9, 0.95), weight_decay=1e-3)


def trained(step_class, device, steps, model=None, between=lambda step: None, optimizer=sgd, **options):
    """Losses and logits of each step, the state behind the last, and the step itself."""
    model = (model or network()).to(device)
    optimizer = optimizer(model.parameters())
    step, seen = step_class(model, optimizer, **options), []
    for number in range(steps):
        optimizer.lr = 0.05 / (1 + number)
        parts = step(*batch(number))
        seen.append([(part.loss.numpy(), part.logits.numpy(), part.labels) for part in parts])
        between(step)
    return seen, model.state_dict() | optimizer.state_dict(), step


def assert_same(one, other):
    for parts, others in zip(one[0], other[0], strict=True):
        for part, its in zip(parts, others, strict=True):
            for values, expected in zip(part, its, strict=True):
                np.testing.assert_array_equal(values, expected)
    for name, values in one[1].items():
        np.testing.assert_array_equal(values, other[1][name], err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_norm": 0.5, "label_smoothing": 0.1},
        {"micro_batch": 4},
        {"numbers": "bfloat16"},
        {"optimizer": adam},
        {"step_in_backward": True},
    ],
    ids=["plain", "clipped", "in_slices", "bfloat16", "adam", "step_in_backward"],
)
def test_replays_give_the_bits_of_ordinary_steps(ladder_device, options):
    graphed = trained(GraphedStep, ladder_device, 100, **options)
    assert graphed[2].graph is not None
    assert_same(graphed, trained(Step, ladder_device, 100, **options))


def test_while_another_thread_allocates(ladder_device):
    done, made = threading.Event(), []

    def allocate():
        while not done.is_set():
            made.append(minicnn.tensor(np.full(1000, 7.0, np.float32), device=ladder_device))

    thread = threading.Thread(target=allocate)
    thread.start()
    try:
        graphed = trained(GraphedStep, ladder_device, 100)
    finally:
        done.set()
        thread.join()
    assert_same(graphed, trained(Step, ladder_device, len(graphed[0])))
    assert made
    for tensor in made:
        assert (tensor.numpy() == 7).all()


def test_a_scaled_loss_that_overflows_is_captured_anew(ladder_device):
    def run(step_class):
        scales = []

        def start(*arguments, **options):
            step = step_class(*arguments, **options)
            step.loss_scale = LossScale(value=2.0**40, patience=3)
            return step

        return trained(
            start,
            ladder_device,
            26,
            numbers="float16",
            clip_norm=0.5,
            between=lambda step: scales.append(step.loss_scale.value),
        ), scales

    (graphed, scales), (plain, expected) = run(GraphedStep), run(Step)
    assert scales == expected
    assert max(scales) == scales[0] == 2.0**39, "the first step overflows"
    assert any(scale > before for before, scale in itertools.pairwise(scales)), "some steps do not"
    assert_same(graphed, plain)


def test_no_memory_is_taken_after_the_first_step(ladder_device, monkeypatch):
    taken = []
    empty = ladder_device.empty

    def counted(*arguments):
        taken.append(arguments)
        return empty(*arguments)

    monkeypatch.setattr(ladder_device, "empty", counted)
    counts = []
    trained(GraphedStep, ladder_device, 6, between=lambda _: counts.append(len(taken)), clip_norm=1.0)
    assert counts[0] > 0
    assert counts == [counts[0]] * 6


def test_results_stand_for_as_many_steps_as_were_asked_for(ladder_device):
    model = network().to(ladder_device)
    step = GraphedStep(model, SGD(model.parameters(), lr=0.05), kept=3)
    parts = [step(*batch(number))[0] for number in range(4)]  # the first is an ordinary step's
    losses = [part.loss.item() for part in parts]
    assert len(set(losses)) == 4
    step(*batch(4))
    assert [part.loss.item() for part in parts[2:]] == losses[2:]
    assert parts[1].loss.item() != losses[1], "its place has been taken"


def test_batches_of_another_shape_get_a_graph_of_their_own(ladder_device):
    model, again = (network().to(ladder_device) for _ in range(2))
    graphed = GraphedStep(model, SGD(model.parameters(), lr=0.05))
    plain = Step(again, SGD(again.parameters(), lr=0.05))
    for number, count in enumerate((6, 6, 4, 4, 6)):
        images = batch(number, count)
        assert graphed(*images)[0].loss.item() == plain(*images)[0].loss.item()


class HostValue(nn.Module):
    """Takes from the host what it adds."""

    def forward(self, x):
        return x + minicnn.tensor(np.ones(3, np.float32), device=x.device)


def test_without_a_graph_the_numbers_are_the_same(ladder_device):
    graphed = trained(GraphedStep, ladder_device, 4, network(HostValue()))
    assert graphed[2].why_none.startswith("a graph cannot be captured of ")
    assert_same(graphed, trained(Step, ladder_device, 4, network(HostValue())))


def small(num_classes, image_size, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, num_classes)
    )


def test_training_with_graphs_gives_the_same_bytes(ladder_device, tmp_path, rng):
    labels = np.arange(128) % 2
    images = (rng.integers(0, 100, (128, 8, 8, 1)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    settings = {"epochs": 1, "batch_size": 2, "digest_every": 1, "quiet": True, "warmup_steps": 5, "lr": 0.05}
    train, validation = minicnn.data.split(minicnn.data.ArrayDataset(images, labels), 0.25)
    splits = minicnn.data.Splits("light and dark", train, validation)
    for name, graph in (("graph", True), ("plain", False)):
        minicnn.train(small, splits, device=ladder_device, out=tmp_path / name, graph=graph, **settings)
    comparison = compare_runs.compare(tmp_path / "graph", tmp_path / "plain")
    assert comparison.equal, str(comparison)
    assert len((tmp_path / "graph" / "steps.jsonl").read_text().splitlines()) == 48, "more than twice what is kept"


def test_training_says_why_there_is_no_graph(ladder_device, tmp_path, rng, capsys):
    def network(num_classes, image_size, in_channels):
        return nn.Sequential(small(3, image_size, in_channels), HostValue())

    images, labels = rng.integers(0, 256, (48, 8, 8, 1), np.uint8), np.arange(48) % 3
    with pytest.raises(minicnn.errors.TrainingError):  # noise is not learned
        minicnn.train(
            network, (images, labels), device=ladder_device, out=tmp_path, epochs=1, batch_size=16, graph=True
        )
    assert "no graph, kernels are queued one by one: a graph cannot be captured of " in capsys.readouterr().out


def test_a_graph_is_refused_where_there_are_none(tmp_path):
    with pytest.raises(DeviceError, match=r"^device 'cpu' has no graphs"):
        minicnn.train(small, device="cpu", out=tmp_path / "run", graph=True)
    assert not (tmp_path / "run").exists()
