"""Between arrays and Pillow's pictures, and the cuts that augmentation takes out of either."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

BILINEAR = Image.Resampling.BILINEAR  # over the whole footprint, so that shrinking does not alias


class View(NamedTuple):
    """What is drawn for one sample, before the extents of its picture are known.

    side                 short side that the whole picture is rescaled to; None: the picture stays as it is
    row, column          32-bit words that place the window among the places it has
    mirrored             whether left and right are swapped
    angle                degrees by which the rescaled picture is turned anticlockwise about its centre
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
    """(H, W, C) uint8."""
    return np.atleast_3d(np.array(picture))


def square(picture: Image.Image, size: int) -> Image.Image:
    """The central square, its side the short side of the picture, resized to `size`."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.resize((size, size), BILINEAR, box=(left, top, left + side, top + side))


def cut_view(picture: Image.Image, view: View, size: tuple[int, int], padding: int = 0) -> Image.Image:
    """The window of `size` (height, width) that `view` shows of the picture, `padding` black pixels put on every side of
    it once it is rescaled. The window must fit."""
    extents = rescaled(picture.size, view.side)
    height, width = size
    left, top = (
        (word * (extent + 2 * padding - length + 1) >> 32) - padding
        for word, extent, length in zip((view.column, view.row), extents, (width, height), strict=True)
    )
    if view.angle or padding:
        whole = picture.resize(extents, BILINEAR)
        whole = whole.rotate(view.angle, BILINEAR) if view.angle else whole
        window = whole.crop((left, top, left + width, top + height))
    else:  # only the window's part is resized: the same pixels, within a rounding
        across, down = (whole / extent for whole, extent in zip(picture.size, extents, strict=True))
        part = left * across, top * down, (left + width) * across, (top + height) * down
        window = picture.resize((width, height), BILINEAR, part)
    if view.mirrored:
        window = window.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, factor in (
        (ImageEnhance.Brightness, view.brightness),
        (ImageEnhance.Contrast, view.contrast),
        (ImageEnhance.Color, view.saturation),
    ):
        window = window if factor == 1 else enhance(window).enhance(factor)
    return window


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
