"""Training steps with their loading: uint8 images in the host's memory, larger than what a network sees of them, of which
each batch's are cropped and mirrored at random, copied to the device and normalised there.

Ours as `minicnn.train` does it: its loader's threads, its feed (on a GPU pinned memory and a stream of its own), the input
kernel, the step as a graph where the device has them. PyTorch's as its users do: a DataLoader with as many worker
processes, pinned memory, copies that do not block, normalised on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import steps
import torch
from timing import Timing, timing_of, turns

from minicnn.data import ArrayDataset, Augment, ChannelStatistics, Loader, Prepare, Subset
from minicnn.step import GraphedStep, Step
from minicnn.trainer import PREFETCH, READ_EVERY

IMAGES = 512  # that are there; an epoch takes them again and again
SKIPPED = 2  # batches of an epoch before its speed is taken


def pictures(image_shape: tuple[int, int, int], classes: int, count: int) -> Subset:
    """`count` images to be cropped: 256 pixels where the network sees 224."""
    h, w, c = image_shape
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (min(count, IMAGES), h * 8 // 7, w * 8 // 7, c), np.uint8)
    dataset = ArrayDataset(images, np.arange(len(images)) % classes, [str(i) for i in range(classes)])
    return Subset(dataset, np.arange(count) % len(images))


def statistics(channels: int) -> ChannelStatistics:
    covariance = np.eye(channels) * (steps.DEVIATION / 255) ** 2
    return ChannelStatistics((steps.MEAN / 255,) * channels, covariance.tolist())


def our_epoch(
    network, dataset, image_shape, batch: int, workers: int, precision: str, graph: bool, step_in_backward: bool
) -> Callable:
    """A function of an epoch's number, whose iterator makes its steps: the images in each."""
    augment = Augment(crop=image_shape[0], mirror=True)
    transform = Prepare(statistics(image_shape[2]), augment)
    loader = Loader(dataset, batch, transform, shuffle=True, drop_last=True, prefetch=PREFETCH, workers=workers)
    optimizer = steps.our_optimizer(network)
    options = {"numbers": precision, "step_in_backward": step_in_backward}
    step = GraphedStep(network, optimizer, kept=READ_EVERY, **options) if graph else Step(network, optimizer, **options)

    def epoch(number: int) -> Iterator[int]:
        for images, labels in loader.iterate(number):
            step(images, labels)
            yield len(labels)

    return epoch


class Cropped(torch.utils.data.Dataset):
    """For PyTorch's loader: the same images, one at a time."""

    def __init__(self, dataset: Subset, size: int):
        self.images, self.labels, self.indices = dataset.dataset.images, dataset.dataset.labels, dataset.indices
        self.size = size

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        index = self.indices[index]
        h, w, _ = self.images[index].shape
        top, left, mirrored = (int(torch.randint(n, ())) for n in (h - self.size + 1, w - self.size + 1, 2))
        window = self.images[index, top : top + self.size, left : left + self.size]
        window = window[:, ::-1] if mirrored else window
        return torch.from_numpy(np.ascontiguousarray(window)), self.labels[index]


def their_epoch(step: steps.TorchStep, dataset: Subset, image_shape, batch: int, workers: int) -> Callable:
    loader = torch.utils.data.DataLoader(
        Cropped(dataset, image_shape[0]),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=step.place == "cuda",
        persistent_workers=workers > 0,
    )

    def epoch(_number: int) -> Iterator[int]:
        for images, labels in loader:
            step.load(images, labels)
            step()
            yield len(labels)

    return epoch


def race(epochs: dict[str, Callable], synchronize: Callable, rounds: int) -> dict[str, Timing]:
    """Seconds an image, of whole epochs in turn and in reverse turn."""
    samples: dict[str, list[float]] = {name: [] for name in epochs}
    for name in turns(epochs, rounds):
        samples[name].append(seconds_an_image(partial(epochs[name], len(samples[name])), synchronize))
    return {name: timing_of(seconds) for name, seconds in samples.items()}


def seconds_an_image(epoch: Callable, synchronize: Callable) -> float:
    images = 0
    for number, count in enumerate(epoch(), start=1):
        images += count if number > SKIPPED else 0
        if number == SKIPPED:
            synchronize()
            started = time.perf_counter()
    synchronize()
    return (time.perf_counter() - started) / images
