"""How good a network is: scores on a data set, evaluation and prediction with a saved run, and the linear yardstick."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from minicnn import backend, functional, nn, saving
from minicnn import data as datasets
from minicnn.autograd import no_grad
from minicnn.checkpoint import CheckpointError
from minicnn.creation import tensor
from minicnn.optim import SGD
from minicnn.schedules import Schedule
from minicnn.tensor import Tensor

BATCH = 128
PROTOCOLS = ("center", "ten-crop")
TEN_CROP_MARGIN = 8 / 7  # images are read 256/224 times the size that the network sees


@dataclass(frozen=True)
class Score:
    """Of `count` images, `correct` had the right class first, `correct5` among the first five; `loss` is the mean."""

    count: int
    correct: int
    correct5: int
    loss: float

    @property
    def top1(self) -> float:
        return self.correct / self.count

    @property
    def top5(self) -> float:
        return self.correct5 / self.count


def network_input(batch: datasets.ImageBatch, device) -> Tensor:
    """What a network on `device` sees of a batch: (B, *batch.size, C) float32. Only bytes travel to the device."""
    *arrays, size = batch
    return functional.prepare_images(*(tensor(array, device=device) for array in arrays), size)


@no_grad()
def probabilities(network: nn.Module, views: np.ndarray, statistics, device) -> np.ndarray:
    """Class probabilities (N, classes) of N images in V views each, (N, V, H, W, C) uint8: the mean of V softmaxes."""
    n, v, *image = views.shape
    batch = datasets.Prepare(statistics)(views.reshape(n * v, *image), range(n * v), epoch=0, seed=0)
    logits = network(network_input(batch, device))
    return functional.softmax(logits).numpy().reshape(n, v, -1).mean(axis=1)


def one_view(images: np.ndarray) -> np.ndarray:
    """Each image as it is: (N, H, W, C) -> (N, 1, H, W, C)."""
    return images[:, None]


def score(network: nn.Module, dataset, statistics, device, views=one_view, batch: int = BATCH) -> Score:
    """The network's Score on a data set, in evaluation mode; its mode is put back.

    views  (N, H, W, C) uint8 -> (N, V, h, w, C), what the network sees of each image
    batch  images at a time
    """
    training, correct, correct5, loss = network.training, 0, 0, 0.0
    network.eval()
    for start in range(0, len(dataset), batch):
        images, labels = dataset[np.arange(start, min(start + batch, len(dataset)))]
        chances = probabilities(network, views(images), statistics, device).astype(np.float64)
        of_label, places = chances[np.arange(len(labels)), labels], places_of(labels, chances)
        correct += int((places == 0).sum())
        correct5 += int((places < 5).sum())
        loss -= np.log(np.maximum(of_label, 1e-300)).sum()
    network.train(training)
    return Score(len(dataset), correct, correct5, float(loss / len(dataset)))


def places_of(labels: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """How many classes come before an image's own: labels (N,), chances (N, classes) -> (N,). Of equal ones the first comes
    first, as for argmax, and what is no number comes after all."""
    own = chances[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(chances.shape[1]) < labels[:, None]
    before = np.where(earlier, ~(chances < own), ~(chances <= own))
    before[np.arange(len(labels)), labels] = False
    return before.sum(axis=1)


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


def evaluate(run, data=None, *, protocol: str = "center", device="auto", data_dir=None) -> Score:
    """Score a run folder or checkpoint file on the test images (else the validation images) of a data source.

    protocol  "center": each image once, centre-cropped to what the network sees. "ten-crop": the mean softmax of five
              crops and their mirror images (Krizhevsky et al. 2012, section 4.1), of images read 8/7 times as large

    Raises ValueError for another protocol, and for weights from elsewhere without data; CheckpointError where the classes do
    not match.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    saved = saving.load_run(run, device)
    if not (data or saved.data):
        raise ValueError(f"{run} names no images of its own: pass data, the folder or name of those to score it on")
    size, views = saved.image_shape[0], one_view
    if protocol == "ten-crop":
        views, size = functools.partial(datasets.ten_crops, size=size), round(size * TEN_CROP_MARGIN)
    splits = datasets.open(data or saved.data, data_dir=data_dir, image_size=size)
    if splits.class_names != saved.class_names:
        raise CheckpointError(
            f"{run} knows the classes {', '.join(saved.class_names)}; {splits.name} has {', '.join(splits.class_names)}"
        )
    split = splits.test or splits.validation or splits.train
    return score(saved.network, split, saved.statistics, saved.device, views)


def predict(run, paths, *, device="auto", top: int = 5) -> list[list[tuple[str, float]]]:
    """For each image file its `top` classes with their probabilities, best first. DataError for what is no image."""
    saved = saving.load_run(run, device)
    images = np.stack([datasets.read_image(path, *saved.image_shape[1:]) for path in paths])
    return [
        [(saved.class_names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]]
        for row in probabilities(saved.network, one_view(images), saved.statistics, saved.device)
    ]
