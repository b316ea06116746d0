"""What becomes of a uint8 batch on its way to a network: crop, mirror, normalise, colour. Here it is drawn; the device
does it, in one pass over the images (minicnn/ops/prepare_images.py). What needs more of a picture than its pixels, to
rescale or to turn it, is done where it is decoded.

What is random depends on (seed, epoch, sample number) alone: a sample is augmented the same in any batch, at any place
in it, by any number of threads or processes. No transform writes into the batch that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from minicnn.data.datasets import DataError, Dataset
from minicnn.data.pictures import View, copy_window, cut_view
from minicnn.philox import random_words

GEOMETRY_STREAM = 0x67656F6D  # of the Philox counter, apart from each other and from the loader's
APPEARANCE_STREAM = 0x61707065
COLOUR_STREAM = 0x636F6C30
BLOCK = 1 << 14  # pixels that are summed at a time: as float64 they stay in a core's cache


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean (C) and covariance (C, C) of the pixels of a training set, in units of the full range: v / 255.

    Plain tuples, so that a run can record them: `ChannelStatistics(**recorded)` takes them back.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self):
        object.__setattr__(self, "mean", tuple(self.mean))  # JSON has lists
        object.__setattr__(self, "covariance", tuple(map(tuple, self.covariance)))

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        chunk: int = 64,
        workers: int = 1,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ChannelStatistics:
        """Those that the dataset brings with it, as packed images do, else its own: exact, see ChannelSums.

        Reads every image then, `chunk` at a time in each of `workers` threads; `report` is called with the images done and
        in all. Of a large folder pass a `Subset`, or pack it.
        """
        if dataset.statistics is not None:
            return dataset.statistics
        chunks = [np.arange(start, min(start + chunk, len(dataset))) for start in range(0, len(dataset), chunk)]
        sums = ChannelSums.none(dataset.image_shape[2])
        with ThreadPoolExecutor(workers, thread_name_prefix="minicnn-statistics") as pool:
            parts = pool.map(lambda indices: ChannelSums.of(dataset.read(indices)), chunks)
            for indices, part in zip(chunks, parts, strict=True):
                sums += part
                report(int(indices[-1]) + 1, len(dataset))
        return sums.statistics()

    @cached_property
    def std(self) -> np.ndarray:
        """(C,) float64."""
        return np.sqrt(np.diag(self.covariance))

    @cached_property
    def principal_components(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (C,), ascending, and eigenvectors, the columns of (C, C), of the covariance."""
        return np.linalg.eigh(np.array(self.covariance))


@dataclass(frozen=True)
class ChannelSums:
    """Of the pixels of some images: how many they are, their sum (C) and the sum of their outer products (C, C), as
    integers; of more images the sum of theirs.
    """

    count: int
    total: list[int]
    products: list[list[int]]

    @classmethod
    def none(cls, channels: int) -> ChannelSums:
        return cls(0, [0] * channels, [[0] * channels] * channels)

    @classmethod
    def of(cls, images: np.ndarray) -> ChannelSums:
        """Of (B, H, W, C) uint8; sums of integers below 2^53 have no rounding in float64."""
        pixels = images.reshape(-1, images.shape[-1])
        sums = np.zeros((1 + pixels.shape[1],) * 2)
        for start in range(0, len(pixels), BLOCK):
            block = pixels[start : start + BLOCK]
            with_one = np.ones((len(sums), len(block)))  # so that one product has the count and the sums, too
            with_one[1:] = block.T
            sums += with_one @ with_one.T
        (count, *total), *products = sums.astype(np.int64).tolist()
        return cls(count, total, [row[1:] for row in products])

    def __add__(self, other: ChannelSums) -> ChannelSums:
        sums = (np.add(getattr(self, name), getattr(other, name)).tolist() for name in ("total", "products"))
        return ChannelSums(self.count + other.count, *sums)

    def statistics(self) -> ChannelStatistics:
        """Exact, but for one rounding of each result."""
        total, products = np.array(self.total, object), np.array(self.products, object)  # Python's integers
        covariance = (self.count * products - np.outer(total, total)) / (255 * self.count) ** 2
        return ChannelStatistics((total / (255 * self.count)).tolist(), covariance.tolist())


class ImageBatch(NamedTuple):
    """A batch on its way to a network: uint8 images, and what is to be done to each, drawn but not done.
    `minicnn.functional.prepare_images` takes the fields as tensors, in this order, and does it in one pass on the device.

    images (B, H, W, C) uint8; windows (B, 4) int64: which image, top, left and whether mirrored; scale (C,) and offset
    (B, C) float32; size (height, width) of the windows. Windows may reach over an image's edge: what lies outside is black.
    """

    images: np.ndarray
    windows: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    size: tuple[int, int]

    def part(self, share: slice) -> ImageBatch:
        """Some of its images, of which each has a window."""
        windows = self.windows[share] - [share.start, 0, 0, 0]
        return self._replace(images=self.images[share], windows=windows, offset=self.offset[share])


class Transform:
    """What a Loader does with a batch, in two steps: `read` takes the images from the dataset, in worker processes where
    there are some; the call on what was read makes the batch, in the process that trains.
    """

    resamples = False  # whether `read` takes pictures for rescaling: it decides who reads, see Loader

    def batch_shape(self, dataset: Dataset) -> tuple[int, int, int]:
        """(H, W, C) of the images that `read` gives."""
        return dataset.image_shape

    def read(self, dataset: Dataset, indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """The images at `indices` (B,), (B, H, W, C) uint8."""
        return dataset.read(indices)

    def __call__(self, images: np.ndarray, indices: np.ndarray, epoch: int, seed: int):
        return images


class Crop(Transform):
    """What Augment and CenterCrop share. As a Loader's transform it gives uint8 batches (B, *size, C), cropped and
    mirrored already; within Prepare that is left to the device, where it can be.
    """

    crop: int | None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the windows that are cut out of images of height x width."""
        return (height, width) if self.crop is None else (self.crop, self.crop)

    def windows(self, height: int, width: int, indices, epoch: int, seed: int) -> np.ndarray:
        """Top, left and whether mirrored, (B, 3) int64, for samples `indices` of height x width pixels."""
        raise NotImplementedError

    def batch_shape(self, dataset):
        height, width, channels = dataset.image_shape
        return *self.size(height, width), channels

    def read(self, dataset, indices, epoch, seed):
        height, width, _ = dataset.image_shape
        batch = np.empty((len(indices), *self.batch_shape(dataset)), np.uint8)
        windows = self.windows(height, width, indices, epoch, seed).tolist()
        for image, window, out in zip(dataset.peek(indices), windows, batch, strict=True):
            copy_window(image, window, out)
        return batch


@dataclass(frozen=True)
class Augment(Crop):
    """What is done to training images at random.

    - `scale`: the short side, in pixels, that the whole picture is first rescaled to, or a pair, from the least to the
      most of which it is drawn, each as likely: 256, 384 and (256, 512) are VGG's (Simonyan and Zisserman 2014,
      section 3.1). None: images are taken in the size that the dataset has them in;
    - `rotation`: the greatest angle, in degrees, by which they are turned either way; corners become black;
    - `padding`: black pixels put on every side then;
    - `crop`: the side of a square window cut out at a random place; None is the image's own size, so that with padding
      the image moves, and without it stays;
    - `mirror`: left and right are swapped with probability 1/2;
    - `brightness`, `contrast`, `saturation`: how far each factor of Pillow's ImageEnhance lies from 1 at most;
    - `colour`: the standard deviation of the PCA colour shift's alpha, 0.1 in the paper, 0 for none (within Prepare).

    A crop of 224 out of 256 and the mirror, colour 0.1, are AlexNet's (Krizhevsky et al. 2012, section 4.1).
    """

    mirror: bool = False
    crop: int | None = None
    padding: int = 0
    colour: float = 0.0
    scale: int | tuple[int, int] | None = None
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self):
        for name, least in (("crop", 1), ("padding", 0), ("colour", 0), ("rotation", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise DataError(f"Augment: {name} is {value}: expected at least {least}")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise DataError(f"Augment: {name} is {value}: expected 0 to 1")
        if self.scale is not None:
            self._check_scale()

    def _check_scale(self) -> None:
        if isinstance(self.scale, list):
            object.__setattr__(self, "scale", tuple(self.scale))  # as JSON and TOML have it
        if isinstance(self.scale, tuple) and len(self.scale) != 2:
            raise DataError(f"Augment: scale is {self.scale}: expected a short side or a pair, its least and its most")
        least, most = self._sides
        if not 1 <= least <= most:
            raise DataError(f"Augment: scale is {self.scale}: expected at least 1, and the lesser side first")
        if self.crop is None:
            raise DataError("Augment: scale needs a crop: rescaled pictures differ in their long sides")
        if self.crop > least + 2 * self.padding:
            raise DataError(f"Augment: a crop of {self.crop} does not fit into a short side of {least}")

    @property
    def _sides(self) -> tuple[int, int]:
        return self.scale if isinstance(self.scale, tuple) else (self.scale, self.scale)

    @property
    def resamples(self) -> bool:
        """Whether it needs pictures, and so is done where they are decoded."""
        return bool(self.scale or self.rotation or self.brightness or self.contrast or self.saturation)

    def windows(self, height: int, width: int, indices, epoch: int, seed: int) -> np.ndarray:
        coin, row, column, _ = random_words(seed, epoch, indices, GEOMETRY_STREAM)
        spare = _spare(height + 2 * self.padding, width + 2 * self.padding, *self.size(height, width))
        top, left = (below(word, rest + 1) - self.padding for word, rest in zip((row, column), spare, strict=True))
        return np.stack([top, left, (coin & np.uint64(1)).astype(np.int64) * self.mirror], 1)

    def views(self, indices, epoch: int, seed: int) -> list[View]:
        """What is drawn for samples `indices` whose pictures may be of any extents; where the extents of all are the
        same, the same windows as `windows` has."""
        coin, row, column, word = random_words(seed, epoch, indices, GEOMETRY_STREAM)
        mirrored = (coin & np.uint64(1)).astype(bool) & self.mirror
        sides = [None] * len(row)
        if self.scale is not None:
            least, most = self._sides
            sides = (least + below(word, most - least + 1)).tolist()
        spreads = (self.rotation, self.brightness, self.contrast, self.saturation)
        words = random_words(seed, epoch, indices, APPEARANCE_STREAM)
        angle, *factors = (spread * ((word + 0.5) / 2**31 - 1) for spread, word in zip(spreads, words, strict=True))
        drawn = (row, column, mirrored, angle, *(1 + factor for factor in factors))
        return list(map(View, sides, *(values.tolist() for values in drawn)))

    def read(self, dataset, indices, epoch, seed):
        if not self.resamples:
            return super().read(dataset, indices, epoch, seed)
        if self.scale is None:
            self.windows(*dataset.image_shape[:2], indices, epoch, seed)  # refuses a crop that does not fit
        batch = np.empty((len(indices), *self.batch_shape(dataset)), np.uint8)
        for index, view, out in zip(indices, self.views(indices, epoch, seed), batch, strict=True):
            out[...] = cut_view(dataset.picture(index, view.side), view, out.shape[:2], self.padding)
        return batch

    def for_evaluation(self) -> CenterCrop:
        """The centre of the same size, with nothing random."""
        return CenterCrop(self.crop)


@dataclass(frozen=True)
class CenterCrop(Crop):
    """The central square of side `crop`; None leaves the image whole. An odd spare pixel is dropped at the right and the
    bottom."""

    crop: int | None = None
    colour: ClassVar[float] = 0.0

    def windows(self, height: int, width: int, indices, epoch: int, seed: int) -> np.ndarray:
        top, left = (spare // 2 for spare in _spare(height, width, *self.size(height, width)))
        return np.tile([top, left, 0], (len(indices), 1))


class Prepare(Transform):
    """The transform of a training loop: uint8 images (B, H, W, C) to an ImageBatch, whose windows `augment` has drawn, and
    whose scale and offset make (pixel / 255 + shift - mean) / std, the shift being the PCA colour's if there is one.

    Where `augment` resamples, the images are read as it shows them, and their windows are the whole images. A constant
    channel (std 0) is only centred. For evaluation pass `augment.for_evaluation()`.
    """

    def __init__(self, statistics: ChannelStatistics, augment: Augment | CenterCrop = CenterCrop()):
        self.statistics, self.augment = statistics, augment
        self.resamples = augment.resamples

    def batch_shape(self, dataset):
        return self.augment.batch_shape(dataset) if self.resamples else dataset.image_shape

    def read(self, dataset, indices, epoch, seed):
        return self.augment.read(dataset, indices, epoch, seed) if self.resamples else dataset.read(indices)

    def __call__(self, images: np.ndarray, indices, epoch: int, seed: int) -> ImageBatch:
        if images.shape[3] != len(self.statistics.mean):
            raise DataError(
                f"Prepare: the batch is {images.shape} but the statistics are of {len(self.statistics.mean)} channels"
            )
        return ImageBatch(images, *self.drawn(images.shape[1:], np.arange(len(images)), indices, epoch, seed))

    def drawn(self, image_shape: tuple[int, int, int], places, indices, epoch: int, seed: int) -> tuple:
        """What an ImageBatch has beside the images, for samples `indices` that stand at `places` among them."""
        count, (height, width, channels) = len(indices), image_shape
        std = np.where(self.statistics.std > 0, self.statistics.std, 1)
        shift = 0.0
        if self.augment.colour:
            shift = colour_shift(self.statistics, indices, epoch, seed, self.augment.colour)
        offset = np.broadcast_to((shift - np.array(self.statistics.mean)) / std, (count, channels))
        left_to_do = CenterCrop() if self.resamples else self.augment
        windows = left_to_do.windows(height, width, indices, epoch, seed)
        return (
            np.column_stack([places, windows]),
            (1 / (255 * std)).astype(np.float32),
            offset.astype(np.float32),
            left_to_do.size(height, width),
        )


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


def ten_crops(batch: np.ndarray, size: int) -> np.ndarray:
    """The ten views of AlexNet's test, (B, H, W, C) to (B, 10, size, size, C), a copy.

    In this order: centre, top left, top right, bottom left, bottom right, then the mirror images of the same five.
    What is averaged over them is the softmax outputs, not the logits (Krizhevsky et al. 2012, section 4.1).
    """
    bottom, right = _spare(*batch.shape[1:3], size, size)
    corners = ((bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right))
    five = np.stack([batch[:, top : top + size, left : left + size] for top, left in corners], 1)
    return np.concatenate([five, five[:, :, :, ::-1]], 1)


def grid_crops(batch: np.ndarray, size: int, grid: int = 5) -> np.ndarray:
    """The views of a dense grid of crops, (B, H, W, C) to (B, 2 * grid**2, size, size, C), a copy.

    `grid` places down and as many across, evenly from edge to edge; row by row, then the mirror images in the same order.
    With 5 the 50 views a scale of Simonyan and Zisserman 2014, section 4.3, after Szegedy et al. 2014. Where nothing is
    spare the places coincide.
    """
    spare = _spare(*batch.shape[1:3], size, size)
    tops, lefts = (np.rint(np.linspace(0, rest, grid)).astype(int) for rest in spare)
    crops = np.stack([batch[:, top : top + size, left : left + size] for top in tops for left in lefts], 1)
    return np.concatenate([crops, crops[:, :, :, ::-1]], 1)


def _spare(height: int, width: int, crop_height: int, crop_width: int) -> tuple[int, int]:
    """Rows and columns that a window of crop_height x crop_width leaves over."""
    spare = height - crop_height, width - crop_width
    if min(spare) < 0:
        raise DataError(
            f"a crop of {crop_height}x{crop_width} does not fit into images of {height}x{width}: "
            "take a smaller crop, larger images or padding"
        )
    return spare
