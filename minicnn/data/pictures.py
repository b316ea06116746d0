"""What augmentation and evaluation cut out of images; and between images and Pillow's pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from minicnn.data.resize import resize


class View(NamedTuple):
    """What is drawn for one sample, before the extents of its image are known.

    side                 short side that the whole image is rescaled to; None: the image stays as it is
    row, column          32-bit words that place the window among the places it has
    mirrored             whether left and right are swapped
    angle                degrees by which the rescaled image is turned anticlockwise about its centre
    brightness, contrast, saturation
                         factors of Pillow's ImageEnhance, in this order; 1 leaves the window as it is
    """

    side: int | None
    row: int
    column: int
    mirrored: bool
    angle: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def picture_of(image: np.ndarray) -> Image.Image:
    """The picture of an image (H, W, C) uint8, C 1 or 3."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def pixels(picture: Image.Image) -> np.ndarray:
    """(H, W, C) uint8, not to be written."""
    return np.atleast_3d(np.asarray(picture))


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of an image (H, W, C), its side the image's short side, resized to `size`."""
    height, width, _ = image.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return resize(image, (left, top, left + side, top + side), (size, size))


def cut_view(image: np.ndarray, view: View, size: tuple[int, int], padding: int = 0) -> np.ndarray:
    """The window of `size` (height, width) that `view` shows of an image (H, W, C), `padding` black pixels put on every
    side of it once it is rescaled. The window must fit."""
    extents = rescaled(image.shape[:2], view.side)
    top, left = (
        (word * (extent + 2 * padding - length + 1) >> 32) - padding
        for word, extent, length in zip((view.row, view.column), extents, size, strict=True)
    )
    if view.angle or padding or extents == image.shape[:2]:
        whole = whole_at(image, extents)
        if view.angle:
            whole = pixels(picture_of(whole).rotate(view.angle, Image.Resampling.BILINEAR))
        window = np.empty((*size, image.shape[2]), np.uint8)
        copy_window(whole, (top, left, view.mirrored), window)
    else:  # only the window's part is resized: the same pixels, within a rounding
        down, across = (whole / extent for whole, extent in zip(image.shape, extents, strict=False))
        part = left * across, top * down, (left + size[1]) * across, (top + size[0]) * down
        window = resize(image, part, size, view.mirrored)
    return enhanced(window, view)


def enhanced(image: np.ndarray, view: View) -> np.ndarray:
    """The image in the colours of `view`."""
    for enhance, factor in (
        (ImageEnhance.Brightness, view.brightness),
        (ImageEnhance.Contrast, view.contrast),
        (ImageEnhance.Color, view.saturation),
    ):
        image = image if factor == 1 else pixels(enhance(picture_of(image)).enhance(factor))
    return image


def whole_at(image: np.ndarray, extents: tuple[int, int]) -> np.ndarray:
    """The whole image (H, W, C) at `extents` (height, width): itself where it has them already."""
    height, width, _ = image.shape
    return image if (height, width) == extents else resize(image, (0, 0, width, height), extents)


def rescaled(extents: tuple[int, int], side: int | None) -> tuple[int, int]:
    """Extents with the short one brought to `side`, the long one in proportion, rounded down."""
    return extents if side is None else tuple(side * extent // min(extents) for extent in extents)


def copy_window(image: np.ndarray, window, out: np.ndarray) -> None:
    """The window (top, left, mirrored) of an image (H, W, C) into out (h, w, C); black where it reaches over the edge."""
    top, left, mirrored = window
    height, width, channels = out.shape
    target = out[:, ::-1] if mirrored else out
    inside = image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape != out.shape:
        out[...] = 0
        target = target[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    if mirrored:  # a channel at a time: NumPy's loops over so few bytes a pixel cost five times the copy
        for channel in range(channels):
            target[..., channel] = inside[..., channel]
    else:
        target[...] = inside
