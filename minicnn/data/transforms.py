"""From a uint8 batch to what a network sees: crop, mirror, normalise, colour.

A transform is called as `transform(batch, indices, epoch, seed)`: images (B, H, W, C) uint8 and their sample numbers
(B,). What is random depends on (seed, epoch, sample number) alone: a sample is augmented the same in any batch, at
any place in it, by any number of threads. No transform writes into the batch that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.data.datasets import DataError, Dataset
from minicnn.philox import random_words

GEOMETRY_STREAM = 0x67656F6D  # of the Philox counter, apart from each other and from the loader's
COLOUR_STREAM = 0x636F6C30


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean (C) and covariance (C, C) of the pixels of a training set, in units of the full range: v / 255.

    Plain tuples, so that a run can record them: `ChannelStatistics(**recorded)` takes them back.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, dataset: Dataset, chunk: int = 64) -> ChannelStatistics:
        """Exact: sums of integers below 2^53 have no rounding in float64, and each result is rounded once.

        Reads every image; of a large folder pass a `Subset`.
        """
        channels = dataset.image_shape[2]
        count, total, products = 0, np.zeros(channels, np.int64), np.zeros((channels, channels), np.int64)
        for start in range(0, len(dataset), chunk):
            pixels = dataset.read(np.arange(start, min(start + chunk, len(dataset)))).reshape(-1, channels)
            pixels = pixels.astype(np.float64)
            count += len(pixels)
            total += pixels.sum(0).astype(np.int64)
            products += (pixels.T @ pixels).astype(np.int64)
        total, products = total.astype(object), products.astype(object)  # Python's integers: no overflow, exact
        covariance = (count * products - np.outer(total, total)) / (255 * count) ** 2
        return cls(tuple((total / (255 * count)).tolist()), tuple(map(tuple, covariance.tolist())))

    @cached_property
    def std(self) -> np.ndarray:
        """(C,) float64."""
        return np.sqrt(np.diag(self.covariance))

    @cached_property
    def principal_components(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (C,), ascending, and eigenvectors, the columns of (C, C), of the covariance."""
        return np.linalg.eigh(np.array(self.covariance))


@dataclass(frozen=True)
class Augment:
    """What is done to training images at random; alone it maps uint8 to uint8, and `Prepare` adds the colour.

    - `padding`: black pixels put on every side first;
    - `crop`: the side of a square window cut out at a random place; None is the image's own size, so that with padding
      the image moves, and without it stays;
    - `mirror`: left and right are swapped with probability 1/2;
    - `colour`: the standard deviation of the PCA colour shift's alpha, 0.1 in the paper, 0 for none.

    A crop of 224 out of 256 and the mirror, colour 0.1, are AlexNet's (Krizhevsky et al. 2012, section 4.1).
    """

    mirror: bool = False
    crop: int | None = None
    padding: int = 0
    colour: float = 0.0

    def __post_init__(self):
        for name, least in (("crop", 1), ("padding", 0), ("colour", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise DataError(f"Augment: {name} is {value}: expected at least {least}")

    def __call__(self, batch: np.ndarray, indices, epoch: int, seed: int) -> np.ndarray:
        """(B, H, W, C) uint8 to (B, S, S, C) uint8, S = crop; H and W stay with `crop=None`."""
        coin, row, column, _ = random_words(seed, epoch, indices, GEOMETRY_STREAM)
        if self.crop is not None or self.padding:
            batch = self._random_crop(batch, row, column)
        return mirrored(batch, coin & np.uint64(1) == 1) if self.mirror else batch

    def for_evaluation(self) -> CenterCrop:
        """The centre of the same size, with nothing random."""
        return CenterCrop(self.crop)

    def _random_crop(self, batch, row, column):
        height, width = (self.crop, self.crop) if self.crop is not None else batch.shape[1:3]
        padding = self.padding
        batch = np.pad(batch, ((0, 0), (padding, padding), (padding, padding), (0, 0))) if padding else batch
        spare_rows, spare_columns = _spare(batch, height, width)
        return windows(batch, below(row, spare_rows + 1), below(column, spare_columns + 1), height, width)


@dataclass(frozen=True)
class CenterCrop:
    """The central square of side `size`, uint8 to uint8; None leaves the image whole."""

    size: int | None = None
    colour: ClassVar[float] = 0.0

    def __call__(self, batch: np.ndarray, indices=None, epoch: int = 0, seed: int = 0) -> np.ndarray:
        return batch if self.size is None else center_crop(batch, self.size)


class Prepare:
    """The whole way to a network's input, (B, H, W, C) uint8 to float32: augment, then (x / 255 - mean) / std, with the
    PCA colour shift added to x / 255 where `augment` has a colour.

    A constant channel (std 0) is only centred. For evaluation pass `augment.for_evaluation()`.
    """

    def __init__(self, statistics: ChannelStatistics, augment: Augment | CenterCrop = CenterCrop()):
        self.statistics, self.augment = statistics, augment

    def __call__(self, batch: np.ndarray, indices, epoch: int, seed: int) -> np.ndarray:
        shift = 0.0
        if self.augment.colour:
            shift = colour_shift(self.statistics, indices, epoch, seed, self.augment.colour)
        return normalize(self.augment(batch, indices, epoch, seed), self.statistics, shift)


def normalize(batch: np.ndarray, statistics: ChannelStatistics, shift=0.0) -> np.ndarray:
    """(x / 255 + shift - mean) / std in float32; x (B, H, W, C) uint8, shift (B, C) or 0."""
    samples, height, width, channels = batch.shape
    if channels != len(statistics.mean):
        raise DataError(
            f"normalize: the batch is {batch.shape} but the statistics are of {len(statistics.mean)} channels"
        )
    std = np.where(statistics.std > 0, statistics.std, 1)
    offset = np.broadcast_to((shift - np.array(statistics.mean)) / std, (samples, channels))
    # Whole rows at once: over an inner axis of C elements NumPy spends its time on the loop.
    scale = np.tile(1 / (255 * std), width).astype(np.float32)
    offset = np.tile(offset, width).astype(np.float32)
    out = batch.reshape(samples, height, width * channels) * scale
    out += offset[:, None]
    return out.reshape(batch.shape)


def colour_shift(statistics: ChannelStatistics, indices, epoch: int, seed: int, alpha_std: float = 0.1) -> np.ndarray:
    """PCA colour augmentation: (B, C), the same for every pixel of an image, in units of the full range.

    shift = [p1 p2 ...] [a1 l1, a2 l2, ...]^T, with p and l the eigenvectors and eigenvalues of the pixels' covariance
    and a ~ N(0, alpha_std), drawn once an image and epoch (Krizhevsky et al. 2012, section 4.1). The paper does not say
    in what units; l grows with their square, so it matters: with pixels in [0, 255] the shift would be 255 times as strong.
    """
    eigenvalues, eigenvectors = statistics.principal_components
    alpha = alpha_std * normals(indices, epoch, seed, len(eigenvalues))
    return (alpha * eigenvalues) @ eigenvectors.T


def normals(indices, epoch: int, seed: int, count: int) -> np.ndarray:
    """(B, count) float64 of N(0, 1), by Box and Muller's method: every two words make two of them."""
    streams = range(COLOUR_STREAM, COLOUR_STREAM + -(-count // 4))
    words = np.stack([word for stream in streams for word in random_words(seed, epoch, indices, stream)], 1)
    uniform = (words + 0.5) / 2**32  # in (0, 1): the logarithm stays finite
    radius, angle = np.sqrt(-2 * np.log(uniform[:, ::2])), 2 * np.pi * uniform[:, 1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)[:, :count]


def below(words: np.ndarray, bound: int) -> np.ndarray:
    """32-bit words (B,) to int64 in [0, bound): the high half of word * bound."""
    return (words * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def mirrored(batch: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """A copy in which the `chosen` (B,) bool images have left and right swapped."""
    pixels = np.ascontiguousarray(batch).view(f"V{batch.shape[3]}")  # whole pixels: twice as fast as C bytes each
    out = pixels.copy()
    out[chosen] = pixels[chosen, :, ::-1]
    return out.view(batch.dtype)


def windows(batch: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int) -> np.ndarray:
    """The window of image b whose first pixel is (top[b], left[b]), (B, height, width, C), a copy."""
    samples, rows, columns, channels = batch.shape
    # Rows of columns * C bytes, so that a window is `height` runs of memory rather than height * width short ones.
    view = sliding_window_view(batch.reshape(samples, rows, columns * channels), (height, width * channels), (1, 2))
    return view[np.arange(samples), top, left * channels].reshape(samples, height, width, channels)


def center_crop(batch: np.ndarray, size: int) -> np.ndarray:
    """The central size x size of (B, H, W, C), a view; an odd spare pixel is dropped at the right and the bottom."""
    top, left = (spare // 2 for spare in _spare(batch, size, size))
    return batch[:, top : top + size, left : left + size]


def ten_crops(batch: np.ndarray, size: int) -> np.ndarray:
    """The ten views of AlexNet's test, (B, H, W, C) to (B, 10, size, size, C), a copy.

    In this order: centre, top left, top right, bottom left, bottom right, then the mirror images of the same five.
    What is averaged over them is the softmax outputs, not the logits (Krizhevsky et al. 2012, section 4.1).
    """
    bottom, right = _spare(batch, size, size)
    corners = ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))
    five = np.stack([batch[:, top : top + size, left : left + size] for top, left in corners], 1)
    return np.concatenate([five, five[:, :, :, ::-1]], 1)


def _spare(batch: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Rows and columns that a window of height x width leaves over."""
    spare = batch.shape[1] - height, batch.shape[2] - width
    if min(spare) < 0:
        raise DataError(
            f"a crop of {height}x{width} does not fit into images of {batch.shape[1]}x{batch.shape[2]}: "
            "take a smaller crop, larger images or padding"
        )
    return spare
