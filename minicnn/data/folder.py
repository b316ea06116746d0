"""A folder of class folders as a dataset, and datasets in another size."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from minicnn.data.datasets import DataError, Dataset
from minicnn.data.images import check_format, read_image, read_picture
from minicnn.data.pictures import square

EXTENSIONS = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder(Dataset):
    """A folder of class folders, `path/cat/*.jpg`, `path/dog/a/b.png`, ...; classes are the folders' names, sorted.

    Files are decoded when they are read, each as `read_image` has it: upright, the central square, `image_size`
    pixels a side, RGB (or grey with `channels=1`). Decoded images are kept if all of them fit in `cache_bytes`, so
    that later epochs decode nothing (Augment's `scale` decodes the whole pictures, in every epoch). Files are found at
    any depth by extension; other files and hidden ones are passed over.

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
        check_format(image_size, channels)
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

    def picture(self, index, side=None):
        return super().picture(index) if side is None else read_picture(self.paths[index], side, self.image_shape[2])

    def decodes(self, resampled=False):
        return resampled or self._cache is None

    def __getstate__(self):
        """What a worker process is sent: it keeps no images, of which it would see but a share."""
        return self.__dict__ | {"_cache": None}

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
        check_format(image_size, channels)
        self.dataset, self.labels, self.class_names = dataset, dataset.labels, dataset.class_names
        self.image_shape = (image_size, image_size, channels)

    def read(self, indices):
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for image, out in zip(self.dataset.read(indices), images, strict=True):
            out[...] = square(image, len(out))
        return images

    def picture(self, index, side=None):
        return super().picture(index) if side is None else self.dataset.picture(index, side)

    def decodes(self, resampled=False):
        return self.dataset.decodes(resampled)


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
