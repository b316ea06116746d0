"""Image files: one file to pixels, and a folder of class folders to a dataset."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minicnn.data.datasets import DataError, Dataset

EXTENSIONS = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES_8_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
MODES_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class ImageFolder(Dataset):
    """A folder of class folders, `path/cat/*.jpg`, `path/dog/a/b.png`, ...; classes are the folders' names, sorted.

    Files are decoded when they are read, each as `read_image` has it: upright, the central square, `image_size`
    pixels a side, RGB (or grey with `channels=1`). Decoded images are kept if all of them fit in `cache_bytes`, so
    that later epochs decode nothing. Files are found at any depth by extension; other files and hidden ones are
    passed over.

    `class_names` takes another dataset's classes and their order: a folder that is not among them is refused, one
    that is missing is not. A damaged file raises an error that names it when it is read; with `skip_unreadable` every
    file is decoded once at the start, and those that fail are left out and listed in `skipped` as (path, reason).

    Raises DataError: no such folder, no class folders, an empty class, one class only (without `class_names`).
    """

    def __init__(
        self,
        path,
        image_size: int = 224,
        *,
        channels: int = 3,
        class_names=None,
        skip_unreadable: bool = False,
        cache_bytes: int = 1 << 30,
    ):
        _check_format(image_size, channels)
        root = checked_folder(path)
        folders = class_folders(root)
        self.class_names = tuple(folders) if class_names is None else tuple(class_names)
        _check_classes(root, folders, self.class_names, class_names is not None)
        self.image_shape = (image_size, image_size, channels)
        self.paths: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        labels: list[int] = []
        for name, folder in folders.items():
            files = image_files(folder)
            if skip_unreadable:
                files = [file for file in files if self._is_readable(file)]
            if not files:
                raise DataError(
                    f"class folder {folder} holds no {'readable ' if skip_unreadable else ''}image: "
                    f"expected files ending in {', '.join(EXTENSIONS)}"
                )
            self.paths += files
            labels += [self.class_names.index(name)] * len(files)
        self.labels = np.array(labels, np.int64)
        self._make_cache(cache_bytes)

    def read(self, indices):
        if self._cache is None:
            return np.stack([self._decode(i) for i in indices])
        for i in indices[~self._is_cached[indices]]:
            self._cache[i] = self._decode(i)
            self._is_cached[i] = True  # after the pixels, so that another thread finds them whole
        return self._cache[indices]

    def _decode(self, index: int) -> np.ndarray:
        return read_image(self.paths[index], self.image_shape[0], self.image_shape[2])

    def _is_readable(self, file: str) -> bool:
        try:
            read_image(file, 1)
        except DataError as error:
            self.skipped.append((file, str(error)))
            return False
        return True

    def _make_cache(self, cache_bytes: int) -> None:
        shape = (len(self), *self.image_shape)
        fits = np.prod(shape, dtype=np.int64) <= cache_bytes
        self._cache = np.empty(shape, np.uint8) if fits else None  # the system gives pages as they are first written
        self._is_cached = np.zeros(len(self), bool)


class Resized(Dataset):
    """`dataset` with its images' central square resized to `image_size` when read: small images for a network that
    expects large ones.
    """

    def __init__(self, dataset: Dataset, image_size: int):
        channels = dataset.image_shape[2]
        _check_format(image_size, channels)
        self.dataset, self.labels, self.class_names = dataset, dataset.labels, dataset.class_names
        self.image_shape = (image_size, image_size, channels)

    def read(self, indices):
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for image, out in zip(self.dataset.read(indices), images, strict=True):
            out[...] = resized(image, len(out))
        return images


def resized(image: np.ndarray, image_size: int, *, whole: bool = False) -> np.ndarray:
    """The central square of an image (H, W, C) uint8, or the image whole, resized as `read_image` does it."""
    height, width, _ = image.shape
    if min(height, width) == image_size and (whole or height == width):
        return image
    return _pixels(_resize(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image), image_size, whole))


def read_image(path, image_size: int, channels: int = 3, *, whole: bool = False) -> np.ndarray:
    """One image file, (image_size, image_size, channels) uint8; `channels` is 3 (RGB) or 1 (grey).

    Turned upright by its EXIF orientation; the central square, its side the image's short side, is cut out and resized
    (bilinear over the whole footprint, so shrinking does not alias); `whole`: the image keeps its aspect ratio, and its
    short side becomes image_size. Transparent parts become white; palette, CMYK and
    16-bit grey are converted (16 bits to v / 257); of an animation the first frame. Floats, 32-bit integers and LAB are
    refused: their range is not known. Large JPEGs are decoded at a fraction of their size, at least twice `image_size`.

    Raises DataError, which names the file.
    """
    _check_format(image_size, channels)
    try:
        with Image.open(path) as image:
            image.draft(None, (2 * image_size, 2 * image_size))
            image = _resize(_convert(ImageOps.exif_transpose(image), channels), image_size, whole)
    except MemoryError:
        raise
    except Exception as error:  # for a damaged file Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"cannot read image {os.fspath(path)}: {_reason(error)}") from error
    return _pixels(image)


def checked_folder(path) -> Path:
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(f"no folder {root}: expected a folder that holds one folder of images for each class")
    if not root.is_dir():
        raise DataError(f"{root} is a file: expected a folder that holds one folder of images for each class")
    return root


def class_folders(root: Path) -> dict[str, Path]:
    """The folders in `root` by name, sorted, without hidden ones."""
    return {entry.name: entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")}


def image_files(folder: Path) -> list[str]:
    """The image files below `folder`, sorted by path."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [os.path.join(parent, n) for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith(".")]
    return sorted(files)


def _check_format(image_size: int, channels: int) -> None:
    if image_size < 1:
        raise DataError(f"image_size is {image_size}: expected at least 1 pixel")
    if channels not in (1, 3):
        raise DataError(f"channels is {channels}: expected 3 (RGB) or 1 (grey)")


def _check_classes(root: Path, folders: dict[str, Path], class_names: tuple[str, ...], are_given: bool) -> None:
    if not folders:
        loose = len(image_files(root))
        found = f"holds image files ({loose}) but no class folders" if loose else "is empty: it holds no class folders"
        raise DataError(f"{root} {found}: put the images of each class in a folder of its own, {root}/<class>/")
    if are_given:
        unknown = [name for name in folders if name not in class_names]
        if unknown:
            raise DataError(
                f"{root} has a class folder {unknown[0]!r} that is not among the {len(class_names)} classes "
                f"{_shortened(class_names)}"
            )
    elif len(folders) == 1:
        raise DataError(
            f"{root} holds one class only, {class_names[0]!r}: a classifier needs at least two class folders"
        )


def _shortened(names: tuple[str, ...], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in MODES_16_BIT:
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode not in MODES_8_BIT:
        raise DataError(f"its pixels are of mode {image.mode!r}: convert it to 8-bit RGB or grey")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB" if channels == 3 else "L")


def _resize(image: Image.Image, size: int, whole: bool) -> Image.Image:
    """The image, or its central square, with a short side of `size` pixels."""
    width, height = image.size
    side = min(width, height)
    if whole:
        return image.resize((round(width * size / side), round(height * size / side)), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.atleast_3d(np.array(image))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
