"""How good a network is: scores on a data set, evaluation and prediction with saved runs, and the linear yardstick."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from minicnn import backend, functional, nn, protocols, saving
from minicnn import data as datasets
from minicnn.autograd import no_grad
from minicnn.checkpoint import CheckpointError
from minicnn.creation import tensor
from minicnn.dense import fully_convolutional
from minicnn.features import Features
from minicnn.optim import SGD
from minicnn.progress import Progress
from minicnn.report import Report, Row, Score, confusion
from minicnn.schedules import Schedule
from minicnn.tensor import Tensor

BATCH = 128


def network_input(batch: datasets.ImageBatch, device) -> Tensor:
    """What a network on `device` sees of a batch: (B, *batch.size, C) float32, rounded in a precision of 16 bits. Only
    bytes travel to the device."""
    *arrays, size = batch
    return functional.prepare_images(*(tensor(array, device=device) for array in arrays), size)


@no_grad()
def probabilities(network: nn.Module, views: np.ndarray, statistics, device, batch: int = BATCH) -> np.ndarray:
    """Class probabilities (N, classes) of N images in V views each, (N, V, H, W, C) uint8: the mean of V softmaxes.

    batch  views at a time
    """
    n, v, *image = views.shape
    flat, prepare, parts = views.reshape(n * v, *image), datasets.Prepare(statistics), []
    for indices in _slices(n * v, batch):
        logits = network(network_input(prepare(flat[indices], indices, epoch=0, seed=0), device))
        parts.append(functional.softmax(logits).numpy())
    return np.concatenate(parts).reshape(n, v, -1).mean(axis=1)


def _slices(count: int, size: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def one_view(images: np.ndarray) -> np.ndarray:
    """Each image as it is: (N, H, W, C) -> (N, 1, H, W, C)."""
    return images[:, None]


def score(network: nn.Module, dataset, statistics, device, views=one_view, batch: int = BATCH) -> Score:
    """The network's Score on a data set, in evaluation mode; its mode is put back.

    views  (N, H, W, C) uint8 -> (N, V, h, w, C), what the network sees of each image
    batch  images at a time
    """
    training = network.training
    network.eval()
    parts = [
        dataset.probabilities(indices, device)
        if isinstance(dataset, Features)
        else probabilities(network, views(dataset.read(indices)), statistics, device, batch)
        for indices in _slices(len(dataset), batch)
    ]
    network.train(training)
    return Score.of(np.concatenate(parts), dataset.labels)


@functools.lru_cache(maxsize=1)  # runs on the same images, one after another, have the same one
def linear_classifier(splits, split, epochs: int = 10) -> float:
    """Top-1 accuracy on `split` of a linear classifier trained on the same training images: the yardstick of a network.

    Softmax regression on normalised pixels (images above 32 pixels are resized to that), SGD with momentum.
    """
    if max(splits.image_shape) > 32:
        splits, split = datasets.Splits(splits.name, datasets.Resized(splits.train, 32)), datasets.Resized(split, 32)
    statistics, place = datasets.ChannelStatistics.of(splits.train), backend.device("cpu")
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(splits.image_shape), len(splits.class_names))).to(place)
    loader = datasets.Loader(splits.train, BATCH, datasets.Prepare(statistics), shuffle=True)
    optimizer = SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
    schedule = Schedule("linear", 0.01, epochs * len(loader))
    for epoch in range(epochs):
        for i, (images, labels) in enumerate(loader.iterate(epoch)):
            optimizer.lr = schedule.at(epoch * len(loader) + i)
            optimizer.zero_grad()
            functional.cross_entropy(network(network_input(images, place)), tensor(labels, device=place)).backward()
            optimizer.step()
    return score(network, split, statistics, place).top1


class Examination:
    """One trained network under one protocol; ValueError where the two do not go together.

    scales  the short sides Q to look at images with; by default the protocol's own
    """

    def __init__(self, saved: saving.TrainedNetwork, protocol: str, scales: Sequence[int] | None = None):
        self.saved, self.protocol = saved, protocols.find(protocol)
        self.scales = protocols.scales_of(protocol, saved.size, saved.scales, scales)
        is_dense = any(look.dense for look in self.protocol.looks)
        self.dense = fully_convolutional(saved.network) if is_dense else None

    @property
    def views(self) -> int:
        """Of each image."""
        return sum(look.views for look in self.protocol.looks) * len(self.scales)

    def chances(self, count: int, read: Callable, batch: int, seen: Callable[[int], None]) -> np.ndarray:
        """Class probabilities (count, classes) of `count` images: the mean over looks, scales and views.

        read   (indices, short side, whole) -> the images there, (H, W, C) uint8 each
        batch  views at a time, of the network's own size
        seen   called with how many images are done
        """
        at_once = max(1, batch // max(look.views for look in self.protocol.looks))
        parts = []
        for indices in _slices(count, at_once):
            parts.append(self._mean_of_looks(indices, read, batch))
            seen(int(indices[-1]) + 1)
        return np.concatenate(parts)

    def _mean_of_looks(self, indices: np.ndarray, read: Callable, batch: int) -> np.ndarray:
        looks = self.protocol.looks
        total = np.zeros((len(indices), len(self.saved.class_names)), np.float32)
        for scale in self.scales:
            images = read(indices, scale, self.protocol.whole)
            for look in looks:
                self._add_look(total, look, images, batch)
        return total / (len(looks) * len(self.scales))

    def _add_look(self, total: np.ndarray, look: protocols.Look, images: list[np.ndarray], batch: int) -> None:
        """Those of one shape together."""
        saved, network = self.saved, self.dense if look.dense else self.saved.network
        for shape in dict.fromkeys(image.shape for image in images):
            same = [i for i, image in enumerate(images) if image.shape == shape]
            views = look.cut(np.stack([images[i] for i in same]), saved.size)
            pixels = math.prod(views.shape[2:4])
            at_once = max(1, batch * saved.size**2 // pixels)
            total[same] += probabilities(network, views, saved.statistics, saved.device, at_once)


def evaluate(run, data=None, *, protocol: str = "center", **options) -> Score:
    """Score a run folder or checkpoint file, or the ensemble of several, on images.

    run         a path, or a list of them: then what counts is the mean of their class probabilities
    data        whose images, as for train(): the test images, else the validation images, else all. By default those that
                the run was trained with; a folder that is not that one is scored whole
    protocol    "center", "ten-crop", "multi-crop", "dense", "multi-scale" or "dense+multi-crop": minicnn/protocols.py says
                what each is. What is averaged over views, scales and runs are softmax outputs
    scales      the short sides Q to which images are rescaled; by default the protocol's own, from S, that of training
    batch_size  views at a time of the size that the network was trained on (128); of larger ones as many as take no more
                memory
    device, data_dir, quiet
                as for train()

    Raises ValueError for another protocol, scales too small, a protocol that the network is not made for, and weights from
    elsewhere without data; CheckpointError where the classes do not match.
    """
    runs = [run] if isinstance(run, (str, os.PathLike)) else run
    return report(runs, data, protocol=[protocol], **options).rows[-1].score


def report(
    runs: Sequence,
    data=None,
    *,
    protocol: Sequence[str] = ("center",),
    scales: Sequence[int] | None = None,
    device="auto",
    data_dir=None,
    batch_size: int = BATCH,
    quiet: bool = True,
) -> Report:
    """What `evaluate` finds for each of the runs by each of the protocols, and for the runs together, as one table."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    networks = {str(run): saving.load_run(run, device) for run in runs}
    tests = {name: {run: Examination(saved, name, scales) for run, saved in networks.items()} for name in protocol}
    source, split, dataset = _images(networks, data, data_dir)
    progress, rows = Progress(quiet), []
    for name, examinations in tests.items():
        total = 0.0
        for run, examination in examinations.items():
            chances = _chances(examination, dataset, batch_size, progress, f"{run}, {name}")
            rows.append(_row(name, {run: examination}, chances, dataset.labels))
            total = total + chances
        if len(examinations) > 1:
            rows.append(_row(name, examinations, total / len(examinations), dataset.labels))
    return Report(source, split, dataset.class_names, rows)


def _images(networks: dict[str, saving.TrainedNetwork], data, data_dir) -> tuple[str, str, datasets.Dataset]:
    """(name of the source, which part of it, the images) that the runs are scored on. ValueError, CheckpointError."""
    run, saved = next(iter(networks.items()))
    if data is None and saved.data is None:
        raise ValueError(f"{run} names no images of its own: pass data, the folder or name of those to score it on")
    seen_in_training = data is None or str(data) == saved.data
    held_out = {} if seen_in_training else {"validation_fraction": 0}
    splits = datasets.open(saved.data if data is None else data, data_dir=data_dir, **held_out)
    for other, network in networks.items():
        if network.class_names != splits.class_names:
            raise CheckpointError(
                f"{other} knows the classes {', '.join(network.class_names)}; "
                f"{splits.name} has {', '.join(splits.class_names)}"
            )
    for split in ("test", "validation"):
        if getattr(splits, split) is not None:
            return splits.name, split, getattr(splits, split)
    return splits.name, "training" if seen_in_training else "given", splits.train


def _chances(examination: Examination, dataset, batch_size: int, progress: Progress, title: str) -> np.ndarray:
    """Of every image of the data set, with a progress bar."""
    read = functools.partial(datasets.read_at, dataset)
    progress.start(len(dataset), 0)
    try:
        return examination.chances(len(dataset), read, batch_size, lambda done: progress.advance(done, title))
    finally:
        progress.stop()


def _row(protocol: str, examinations: dict[str, Examination], chances: np.ndarray, labels: np.ndarray) -> Row:
    members = list(examinations.values())
    return Row(
        runs=tuple(examinations),
        network=", ".join(dict.fromkeys(each.saved.network.name for each in members)),
        trained=tuple(sorted({scale for each in members for scale in each.saved.scales})),
        protocol=protocol,
        scales=tuple(sorted({scale for each in members for scale in each.scales})),
        views=members[0].views,
        score=Score.of(chances, labels),
        confusion=confusion(chances, labels),
    )


def predict(
    run, paths, *, protocol: str = "center", scales: Sequence[int] | None = None, device="auto", top: int = 5
) -> list[list[tuple[str, float]]]:
    """For each image file its `top` classes with their probabilities, best first, by a protocol as for `evaluate`.

    DataError for what is no image.
    """
    saved = saving.load_run(run, device)
    examination = Examination(saved, protocol, scales)

    def read(indices, size, whole):
        return [datasets.read_file_at(paths[i], size, saved.image_shape[2], whole) for i in indices]

    chances = examination.chances(len(paths), read, BATCH, seen=lambda done: None)
    return [[(saved.class_names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]] for row in chances]
