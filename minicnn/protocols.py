"""Test protocols: the views of an image over which a network's class probabilities are averaged, and their scales.

center             the central crop
ten-crop           the centre and the corners of the central square, and their mirror images: Krizhevsky et al. 2012,
                   section 4.1
multi-crop         5x5 crops of the whole image and their mirror images at three scales, 150 in all: Simonyan and Zisserman
                   2014, section 4.3
dense              the whole image and its mirror image, the fully connected layers as convolutions: ibid., section 3.2
multi-scale        dense, at three scales: ibid., section 4.2
dense+multi-crop   the mean of the two at three scales: ibid., section 4.3

A scale is the short side of the rescaled image, Q. S is the one that the network was trained at, or the two ends of the range
that it was drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minicnn import data as datasets


class Look(NamedTuple):
    """One way to look at an image.

    cut    (B, H, W, C) uint8 and the side that the network sees -> (B, views, h, w, C)
    views  of each image
    dense  the network is applied to them as convolutions, for they may be of any size
    """

    cut: Callable[[np.ndarray, int], np.ndarray]
    views: int
    dense: bool = False


class Protocol(NamedTuple):
    """looks   whose means are averaged
    scales  Q for (the network's own size, S), where nobody asks for others
    whole   the looks are at whole images, else at their central squares
    """

    looks: tuple[Look, ...]
    scales: Callable[[int, tuple[int, ...]], tuple[int, ...]]
    whole: bool


def center(images: np.ndarray, size: int) -> np.ndarray:
    top, left = ((extent - size) // 2 for extent in images.shape[1:3])
    return images[:, None, top : top + size, left : left + size]


def mirrored(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([images, images[:, :, ::-1]], 1)


def single(_size: int, trained: tuple[int, ...]) -> tuple[int, ...]:
    """S, of a range its middle."""
    return (round(sum(trained) / len(trained)),)


def room_for_crops(size: int, trained: tuple[int, ...]) -> tuple[int, ...]:
    """The same, or where the network was trained on images of its own size 8/7 of that: 256 for 224."""
    (middle,) = single(size, trained)
    return (middle if middle > size else round(size * 8 / 7),)


def three(size: int, trained: tuple[int, ...]) -> tuple[int, ...]:
    """The ends of a range and its middle; of one scale {S - 32, S, S + 32} where a network sees 224 pixels, in proportion
    for others."""
    (middle,) = room_for_crops(size, trained)
    if len(trained) > 1:
        return trained[0], middle, trained[-1]
    step = round(size / 7)
    return max(size, middle - step), middle, middle + step


CENTER = Look(center, 1)
TEN_CROPS = Look(datasets.ten_crops, 10)
GRID = Look(datasets.grid_crops, 50)
DENSE = Look(mirrored, 2, dense=True)

PROTOCOLS = {
    "center": Protocol((CENTER,), single, whole=False),
    "ten-crop": Protocol((TEN_CROPS,), room_for_crops, whole=False),
    "multi-crop": Protocol((GRID,), three, whole=True),
    "dense": Protocol((DENSE,), single, whole=True),
    "multi-scale": Protocol((DENSE,), three, whole=True),
    "dense+multi-crop": Protocol((DENSE, GRID), three, whole=True),
}


def find(name: str) -> Protocol:
    """The protocol of that name; ValueError with the names there are."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def scales_of(name: str, size: int, trained: tuple[int, ...], asked: Sequence[int] | None = None) -> tuple[int, ...]:
    """The scales at which the protocol looks: those asked for, or its own. ValueError where the network sees more."""
    scales = tuple(asked or find(name).scales(size, trained))
    if min(scales) < size:
        raise ValueError(
            f"scale {min(scales)} is too small: the network sees {size} pixels of an image, its short side"
        )
    return scales
