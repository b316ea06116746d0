"""Training images that stay on the device: they are copied there once, and a step is told which of them it sees."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicnn import functional
from minicnn.data import Augment, ChannelStatistics, Dataset, Prepare
from minicnn.summary import memory
from minicnn.tensor import Tensor

SHARE = 1 / 2  # of what a run leaves free of the device's memory: so much images may take that nobody asked to stay
CHUNK = 1 << 26  # bytes that are read at a time


class ResidentBatch(NamedTuple):
    """An ImageBatch whose images lie on the device already: windows (B, 4) say which ones."""

    windows: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    size: tuple[int, int]

    def part(self, share: slice) -> ResidentBatch:
        return self._replace(windows=self.windows[share], offset=self.offset[share])


class PrepareResident(Prepare):
    """Prepare without images, of which each is image_shape (H, W, C): it draws the same windows and colours."""

    def __init__(self, statistics: ChannelStatistics, augment: Augment, image_shape: tuple[int, int, int]):
        super().__init__(statistics, augment)
        self.image_shape = image_shape

    def read(self, dataset, indices, epoch, seed):
        """Nothing: they lie there."""

    def __call__(self, images, indices, epoch: int, seed: int) -> ResidentBatch:
        return ResidentBatch(*self.drawn(self.image_shape, indices, indices, epoch, seed))


class ResidentImages:
    """Every image of `dataset` on `device`, (N, H, W, C) uint8, in the dataset's order."""

    def __init__(self, dataset: Dataset, device):
        array = device.empty(shape_of(dataset), np.uint8)
        size = max(1, CHUNK // math.prod(dataset.image_shape))
        for start in range(0, len(dataset), size):
            part = array[start : start + size]
            device.write(part, dataset.read(np.arange(start, start + len(part))))
        self.images = Tensor(array, device)

    def prepare(self, *batch) -> Tensor:
        """The network's input, of a ResidentBatch as tensors."""
        return functional.prepare_images(self.images, *batch)


def shape_of(dataset: Dataset) -> tuple[int, int, int, int]:
    return len(dataset), *dataset.image_shape


def stay(wanted: bool | None, dataset: Dataset, augment: Augment, device, free: int | None) -> bool:
    """Whether a run's training images stay on its device. Nobody having asked (None): where that is not the host's own
    memory, no file is read for it, and they take no more than SHARE of the `free` bytes that the run leaves (None: nobody
    knows).

    Raises ValueError where they are wanted there and cannot stay.
    """
    nbytes = math.prod(shape_of(dataset))
    if wanted is None:
        small = free is not None and nbytes <= SHARE * free
        return small and dataset.in_memory and not augment.resamples and not device.computes_on_host
    if wanted and augment.resamples:
        raise ValueError(
            "resident: these images cannot stay on the device, augment makes others of the pictures in every epoch (scale, "
            "rotation, brightness, contrast, saturation): leave those out, or resident"
        )
    if wanted and free is not None and nbytes > free:
        n, h, w, c = shape_of(dataset)
        raise ValueError(
            f"resident: {n:,} training images of {h}x{w}x{c} take {memory(nbytes)}, this run leaves {memory(max(free, 0))} of "
            f"the memory of {device.name}: leave resident out, and each batch is copied there in its turn"
        )
    return wanted
