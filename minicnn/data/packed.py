"""Images packed into shards: a folder that training reads without decoding anything.

    pack.json            what is in it (below)
    train-labels.npy     (N,) int64
    train-00000.npy      (n, S, S, C) uint8, a shard of the images, in the order of the labels
    train-00001.npy      the next; and the same for the parts "validation" and "test", where there are such

pack.json: format, version, source, image_size, channels, class_names, skipped, and parts: for each its number of images,
its files (name, bytes, SHA-256) and, of the training images, the channels' mean and covariance (ChannelStatistics).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicnn.data.datasets import DataError, Dataset
from minicnn.data.transforms import ChannelStatistics

MANIFEST = "pack.json"
FORMAT, VERSION = "minicnn-pack", 1
DIGEST_CHUNK = 1 << 20  # bytes


class PackedImages(Dataset):
    """A part of a packed folder: "train", "validation" or "test". The shards are mapped into memory: an image is copied
    once, into its batch, and what is not looked at is not read.

    Raises DataError: no packed folder, no such part, a file that is missing, damaged, or of another pack. Only `verify`
    reads everything, and so finds bytes that were changed.
    """

    def __init__(self, folder, part: str = "train"):
        self.folder, self.part = Path(folder).expanduser(), part
        manifest = read_manifest(self.folder)
        try:
            described, size = manifest["parts"][part], manifest["image_size"]
            self.image_shape = (size, size, manifest["channels"])
            self.class_names = tuple(manifest["class_names"])
            self.files = [described["labels"], *described["shards"]]
            count, statistics = described["images"], described.get("statistics")
            self.labels = self._mapped(described["labels"], (count,), np.int64)
            self.shards = [
                self._mapped(shard, (shard["images"], *self.image_shape), np.uint8) for shard in described["shards"]
            ]
        except (KeyError, TypeError) as error:
            parts = ", ".join(manifest.get("parts", ()))
            raise DataError(
                f"{self.folder / MANIFEST} lacks {error}: expected the part {part} (it has {parts})"
            ) from error
        if sum(map(len, self.shards)) != count or not np.isin(self.labels, np.arange(len(self.class_names))).all():
            raise DataError(f"{self.folder} is damaged: its shards, labels and class names do not match")
        self.statistics = statistics and ChannelStatistics(**statistics)
        self._starts = np.cumsum([0, *map(len, self.shards)])

    def read(self, indices):
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for image, out in zip(self.peek(indices), images, strict=True):
            out[...] = image
        return images

    def peek(self, indices):
        shards = np.searchsorted(self._starts, indices, "right") - 1
        return (self.shards[shard][place] for shard, place in zip(shards, indices - self._starts[shards], strict=True))

    def verify(self, report: Callable[[str], None] = lambda file: None) -> None:
        """Hold every file against its SHA-256; `report` hears of each that is whole. Raises DataError."""
        for file in self.files:
            digest = sha256(self.folder / file["file"])
            if digest != file["sha256"]:
                raise DataError(f"{self.folder / file['file']} is damaged: pack its folder again")
            report(file["file"])

    def __reduce__(self):
        return PackedImages, (self.folder, self.part)

    def _mapped(self, file: dict, shape: tuple[int, ...], dtype) -> np.ndarray:
        path = self.folder / file["file"]
        try:
            size, array = path.stat().st_size, np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}: it is a part of the packed images") from error
        except ValueError as error:
            raise DataError(f"{path} is damaged, or no array of NumPy: {error}") from error
        if size != file["bytes"]:
            raise DataError(f"{path} is damaged: it has {size} bytes, expected {file['bytes']}")
        if array.shape != shape or array.dtype != dtype:
            raise DataError(
                f"{path} holds {array.shape} {array.dtype}, expected {shape} {np.dtype(dtype)}: it is of another pack"
            )
        return np.asarray(array)


def is_packed(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict:
    """pack.json. Raises DataError for a missing, damaged or foreign one."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}: expected a folder that minicnn pack has made"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} does not describe images packed by minicnn")
    if manifest["version"] > VERSION:
        raise DataError(f"{path} has version {manifest['version']}, this minicnn reads up to {VERSION}: update it")
    return manifest


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(DIGEST_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
