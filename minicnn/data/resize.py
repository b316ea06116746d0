"""Images resized on the host, where they are decoded: in C++ (csrc/native/resize.cpp), or by Pillow where nothing was
compiled.

It belongs to the data pipeline, not to the ops: bytes in, bytes out, no gradient, whichever device trains.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from minicnn.backend import native_module
from minicnn.data.datasets import DataError

MOST = 1 << 24  # pixels a side: up to there a float32 holds every place


def resize(image: np.ndarray, box, size: tuple[int, int], mirrored: bool = False) -> np.ndarray:
    """The box (left, top, right, bottom) of `image`, in pixels and parts of them, as an image of `size` (height, width).

    Bilinear; where it shrinks, over each pixel's whole footprint, so that nothing aliases. First along the rows, then down
    the columns, rounded to a byte after each: the same bytes on every installation. They are those of Pillow's
    `Image.resize(..., BILINEAR, box)`, but that goes down the columns first, from version 13 on, where many more rows than
    columns are lost, and is then a grey level off at most. `mirrored`: left and right are swapped then.

    image     (H, W, C) uint8, C 1 or 3
    returns   (*size, C) uint8, new memory

    Raises DataError: another image, an empty box or one that reaches over the edge, no size.
    """
    box = np.float32(box).tolist()
    _check(image, box, size)
    native = native_module()
    if native is None:
        return _by_pillow(image, box, size, mirrored)
    height, width, channels = image.shape
    out = np.empty((*size, channels), np.uint8)
    native.pictures.resize(np.ascontiguousarray(image), height, width, channels, *box, int(mirrored), out, *size)
    return out


def _by_pillow(image: np.ndarray, box, size: tuple[int, int], mirrored: bool) -> np.ndarray:
    """An axis at a time, so that no version of Pillow chooses which is the first."""
    (height, width), (left, top, right, bottom) = size, box
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    rows = picture.resize((width, picture.height), Image.Resampling.BILINEAR, (left, 0, right, picture.height))
    resized = np.atleast_3d(rows.resize((width, height), Image.Resampling.BILINEAR, (0, top, width, bottom)))
    return np.array(resized[:, ::-1] if mirrored else resized)


def _check(image: np.ndarray, box: list[float], size: tuple[int, int]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise DataError(f"resize: the image is {image.shape} {image.dtype}: expected (H, W, 3) or (H, W, 1) uint8")
    height, width, _ = image.shape
    if max(height, width, *size) > MOST:
        raise DataError(
            f"resize: from {height}x{width} to {size[0]}x{size[1]}: expected at most {MOST:,} pixels a side"
        )
    if min(size) < 1:
        raise DataError(f"resize: the size is {size[0]}x{size[1]}: expected at least 1 pixel a side")
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(
            f"resize: the box is {tuple(box)}, from the left and the top to the right and the bottom: "
            f"expected a part of an image of {height}x{width}"
        )
