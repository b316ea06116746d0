"""Datasets: labelled images as uint8, channels last, read by arrays of indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from minicnn.philox import permutation

SPLIT_STREAM = 0x73706C69  # of the Philox counter: nothing else draws from it


class DataError(ValueError):
    """Data that cannot be used. The message names the thing, what came, what was expected and what to do."""


class Dataset:
    """Labelled images, read a batch at a time.

    A subclass sets `labels` (N,) int64, `class_names` (a tuple of str) and `image_shape` (H, W, C), and defines
    `read(indices)`, which returns the images (B, H, W, C) uint8 of an int array (B,), as memory that the caller may
    write.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    statistics = None  # ChannelStatistics, where they were computed when the dataset was made
    in_memory = False  # whether reading costs no more than a copy

    def read(self, indices: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def peek(self, indices: np.ndarray) -> Iterable[np.ndarray]:
        """The same images one by one, (H, W, C), not to be written: what lies in memory is not copied."""
        return self.read(indices)

    def picture(self, index: int, side: int | None = None) -> np.ndarray:
        """One image (H, W, C) uint8, not to be written: as `read` gives it, or, for rescaling its short side to `side`, the
        whole picture, where the source has more of it."""
        return next(iter(self.peek(np.array([index]))))

    def decodes(self, resampled: bool = False) -> bool:
        """Whether reading (`resampled`: taking pictures for rescaling) decodes files, again in every epoch."""
        return False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """(images (B, H, W, C) uint8, labels (B,) int64) at an integer array of indices; a plain int drops B."""
        indices = np.asarray(indices)
        labels = self.labels[indices]  # first, since it refuses an index out of range
        if indices.ndim == 0:
            return self.read(indices[None])[0], labels
        return self.read(indices), labels

    @property
    def images(self) -> np.ndarray:
        """Every image, (N, H, W, C) uint8. What is read from files is decoded whole into memory."""
        return self.read(np.arange(len(self)))

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        return f"{type(self).__name__}({len(self)} images {height}x{width}x{channels}, {len(self.class_names)} classes)"


class ArrayDataset(Dataset):
    """Images (N, H, W, C) or (N, H, W) and labels (N,) that are in memory already.

    uint8 is taken as it is, without a copy. Other integers must lie in [0, 255] and become uint8. Floats must lie in
    [0, 1] and become round(255 x), the inverse of what normalisation does; nothing else is guessed. Without
    `class_names` the classes are named "0", "1", ... up to the greatest label.

    Raises DataError. Example:
    >>> ArrayDataset(np.zeros((4, 28, 28), np.uint8), [0, 1, 1, 0])
    ArrayDataset(4 images 28x28x1, 2 classes)
    """

    in_memory = True

    def __init__(self, images, labels, class_names=None):
        self._images = _as_uint8_images(np.asarray(images))
        self.labels = _as_labels(np.asarray(labels), len(self._images))
        classes = int(self.labels.max()) + 1
        self.class_names = tuple(map(str, range(classes) if class_names is None else class_names))
        if classes > len(self.class_names):
            raise DataError(
                f"label {classes - 1} has no name: {len(self.class_names)} class_names cover labels 0 to "
                f"{len(self.class_names) - 1}"
            )
        self.image_shape = self._images.shape[1:]

    def read(self, indices):
        return self._images[indices]

    def peek(self, indices):
        return (self._images[i] for i in indices)

    @property
    def images(self):
        return self._images


class Subset(Dataset):
    """The images of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset, indices):
        self.dataset, self.indices = dataset, np.asarray(indices)
        self.labels = dataset.labels[self.indices]
        self.class_names, self.image_shape = dataset.class_names, dataset.image_shape
        self.in_memory = dataset.in_memory
        self.statistics = (
            dataset.statistics
        )  # of the whole: what was held out of a training set told its colours, no more

    def read(self, indices):
        return self.dataset.read(self.indices[indices])

    def peek(self, indices):
        return self.dataset.peek(self.indices[indices])

    def picture(self, index, side=None):
        return self.dataset.picture(self.indices[index], side)

    def decodes(self, resampled=False):
        return self.dataset.decodes(resampled)


@dataclass(frozen=True)
class Splits:
    """What a network learns from, what it is watched with and what it is judged by; the last two may be None.

    `validation` is always apart from `train` and `test`: a rate dropped or a model picked by its validation accuracy
    has not seen the test images.
    """

    name: str
    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None
    skipped: tuple[tuple[str, str], ...] = ()  # unreadable files left out because that was asked for: (path, reason)

    def __post_init__(self):
        present = np.unique(self.train.labels)
        if len(present) < 2:
            raise DataError(
                f"{self.name}: every training image is of one class, {self.train.class_names[present[0]]!r}: "
                "a classifier needs at least two"
            )
        for split in ("validation", "test"):
            other = getattr(self, split)
            for what in ("image_shape", "class_names"):
                ours, theirs = getattr(self.train, what), getattr(other or self.train, what)
                if ours != theirs:
                    raise DataError(f"{self.name}: {split} has {what} {theirs} but train has {ours}")

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.image_shape


def split(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset | None]:
    """Part a dataset in two: (the rest, `fraction` of it), the same fraction of every class.

    A class of n images gives round(fraction n), but at least one and never its last. Which ones depends on `seed` and
    the images' numbers alone; both parts keep the order of the files. A fraction of 0 gives (dataset, None).

    Raises DataError if no class has two images.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"validation fraction is {fraction}: expected a number from 0 up to but not including 1")
    if fraction == 0:
        return dataset, None
    shuffled = permutation(seed, 0, len(dataset), SPLIT_STREAM)
    by_class = [shuffled[dataset.labels[shuffled] == label] for label in range(len(dataset.class_names))]
    held_out = np.concatenate([members[: _held_out_count(len(members), fraction)] for members in by_class])
    if len(held_out) == 0:
        raise DataError(
            "no class has two images, so none can be held out for validation: add images, or pass a fraction of 0"
        )
    held_out = np.sort(held_out)
    return Subset(dataset, np.setdiff1d(np.arange(len(dataset)), held_out)), Subset(dataset, held_out)


def _held_out_count(members: int, fraction: float) -> int:
    return min(max(round(fraction * members), 1), max(members - 1, 0))


def _as_uint8_images(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(f"images are {images.shape}: expected (N, H, W, C) or (N, H, W)")
    if len(images) == 0:
        raise DataError("there are no images: the array's first axis is empty")
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise DataError(
            f"images are {images.shape}, which looks like (N, C, H, W): expected channels last, "
            "images.transpose(0, 2, 3, 1)"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise DataError(f"images are {images.dtype}: expected uint8, integers in [0, 255] or floats in [0, 1]")
    is_float = images.dtype.kind == "f"
    low, high, top = images.min(), images.max(), 1 if is_float else 255
    if not (low >= 0 and high <= top):  # NaN fails it too
        expected = "floats in [0, 1]: divide by 255, or pass uint8" if is_float else "integers in [0, 255]"
        raise DataError(f"images are {images.dtype} from {low} to {high}: expected {expected}")
    return np.rint(images * 255 if is_float else images).astype(np.uint8)


def _as_labels(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.ndim == 2 and len(labels) == count:
        raise DataError(
            f"labels are {labels.shape}: expected class numbers ({count},), for one-hot rows labels.argmax(1)"
        )
    if labels.shape != (count,):
        raise DataError(f"labels are {labels.shape}: expected ({count},), one for each image")
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype}: expected integers, the class numbers from 0")
    if labels.min() < 0:
        raise DataError(f"label {labels.min()} at index {labels.argmin()}: expected class numbers from 0")
    return labels.astype(np.int64)
