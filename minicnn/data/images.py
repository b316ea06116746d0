"""One image file to pixels: upright, 8 bits a channel, RGB or grey."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from minicnn.data.datasets import DataError
from minicnn.data.pictures import picture_of, pixels, square

try:
    import simplejpeg  # the extra [jpeg]: the same pixels as Pillow's, from the same library, sooner
except ImportError:
    simplejpeg = None

MODES_8_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
MODES_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path, image_size: int, channels: int = 3) -> np.ndarray:
    """One image file, (image_size, image_size, channels) uint8; `channels` is 3 (RGB) or 1 (grey).

    The picture of `read_picture`; the central square, its side the picture's short side, is cut out and resized
    (bilinear over the whole footprint, so shrinking does not alias).

    Raises DataError, which names the file.
    """
    check_format(image_size, channels)
    return square(read_picture(path, image_size, channels), image_size)


def read_picture(path, short_side: int, channels: int = 3) -> np.ndarray:
    """The whole picture in an image file, for shrinking to `short_side`: (H, W, channels) uint8, not to be written.

    Turned upright by its EXIF orientation. Transparent parts become white; palette, CMYK and 16-bit images are
    converted (16-bit grey to v / 257, colour by Pillow to its high byte); of an animation the first frame. Floats,
    32-bit integers and LAB are refused: their range is not known. So are more than 178,956,970 pixels, which Pillow
    takes for a decompression bomb. Large JPEGs are decoded at a half, a quarter or an eighth, as long as both sides
    stay at least twice `short_side`.

    Raises DataError, which names the file.
    """
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.draft(None, (2 * short_side, 2 * short_side))
            mode = "RGB" if channels == 3 else "L"
            decoded = _decode_jpeg(content, image, mode)
            if decoded is None:
                decoded = pixels(_convert(image, mode))
            return _upright(decoded, image)
    except MemoryError:
        raise
    except Exception as error:  # for a damaged file Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"cannot read image {os.fspath(path)}: {_reason(error)}") from error


def check_format(image_size: int, channels: int) -> None:
    if image_size < 1:
        raise DataError(f"image_size is {image_size}: expected at least 1 pixel")
    if channels not in (1, 3):
        raise DataError(f"channels is {channels}: expected 3 (RGB) or 1 (grey)")


def _decode_jpeg(content: bytes, image: Image.Image, mode: str) -> np.ndarray | None:
    """By simplejpeg, in the size that Pillow would decode it to; None of what is left to Pillow."""
    if simplejpeg is None or image.format != "JPEG" or image.mode != mode:
        return None
    width, height = image.size
    colours = "RGB" if mode == "RGB" else "GRAY"
    try:
        return simplejpeg.decode_jpeg(content, colours, min_height=height, min_width=width)
    except ValueError:  # it is stricter: whether the file can be read is for Pillow to say
        return None


def _upright(decoded: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turned by the EXIF orientation of its file; where that cannot be read, as it is."""
    turn = None
    with contextlib.suppress(SyntaxError):
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return decoded if turn is None else pixels(picture_of(decoded).transpose(turn))


def _convert(image: Image.Image, mode: str) -> Image.Image:
    image.load()  # first: what this raises is about the pixels
    if image.mode in MODES_16_BIT:
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode not in MODES_8_BIT:
        raise DataError(f"its pixels are of mode {image.mode!r}: convert it to 8-bit RGB or grey")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
