"""A data set's images at other sizes than its own: what a test at a scale reads."""

from __future__ import annotations

import numpy as np

from minicnn.data.datasets import Dataset
from minicnn.data.images import read_picture
from minicnn.data.pictures import rescaled, square, whole_at


def read_at(dataset: Dataset, indices, size: int, whole: bool = False) -> list[np.ndarray]:
    """The images at `indices`, short side rescaled to `size` pixels: (H, W, C) uint8 each.

    whole  keep a picture's aspect ratio; else its central square. Files are decoded anew; what a data set holds only as
           squares stays square
    """
    return [_at(dataset.picture(index, size), size, whole) for index in indices]


def read_file_at(path, size: int, channels: int = 3, whole: bool = False) -> np.ndarray:
    """The same of one image file. Raises DataError, which names the file."""
    return _at(read_picture(path, size, channels), size, whole)


def _at(image: np.ndarray, size: int, whole: bool) -> np.ndarray:
    if whole:
        return whole_at(image, rescaled(image.shape[:2], size))
    return image if image.shape[:2] == (size, size) else square(image, size)
