"""A data set's images at other sizes than its own: what a test at a scale reads."""

from __future__ import annotations

import numpy as np

from minicnn.data.datasets import Dataset, Subset
from minicnn.data.folder import ImageFolder, Resized, read_image, resized


def read_at(dataset: Dataset, indices, size: int, whole: bool = False) -> list[np.ndarray]:
    """The images at `indices`, short side rescaled to `size` pixels: (H, W, C) uint8 each.

    whole  keep an image's aspect ratio; else its central square. Files are decoded anew; what a data set holds only as
           squares stays square
    """
    indices = np.asarray(indices)
    if isinstance(dataset, Subset):
        return read_at(dataset.dataset, dataset.indices[indices], size, whole)
    if isinstance(dataset, Resized):
        return read_at(dataset.dataset, indices, size, whole)
    if isinstance(dataset, ImageFolder):
        channels = dataset.image_shape[2]
        return [read_image(dataset.paths[i], size, channels, whole=whole) for i in indices]
    return [resized(image, size, whole=whole) for image in dataset.read(indices)]
