"""The IDX files that MNIST and Fashion-MNIST are published in.

Layout: two zero bytes, a type byte (8: uint8), a byte with the number of axes, each axis as a big-endian uint32, the
values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from minicnn.data.datasets import ArrayDataset, DataError

UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"
STEMS = {"train": "train", "test": "t10k"}


def read_idx(path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not. Read-only. Raises DataError, which names the file."""
    path = Path(path)
    content = _read(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8:
        raise DataError(f"{path} is not an IDX file of uint8: it starts with {content[:4].hex(' ')}, expected 00 00 08")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path} is damaged: it ends inside its header")
    shape = tuple(int(extent) for extent in np.frombuffer(content[4:start], ">u4"))
    expected = math.prod(shape)
    if len(content) - start != expected:
        raise DataError(
            f"{path} is damaged: its header says {shape}, {expected} bytes, but {len(content) - start} follow"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx_pair(folder: Path, split: str, class_names) -> ArrayDataset:
    """The images and labels of `split` ("train" or "test") in `folder`. Raises DataError."""
    images_path = find_idx(folder, f"{STEMS[split]}-images", 3)
    labels_path = find_idx(folder, f"{STEMS[split]}-labels", 1)
    for path in (images_path, labels_path):
        if path is None:
            what = "images-idx3" if images_path is None else "labels-idx1"
            raise DataError(f"{folder} lacks {STEMS[split]}-{what}-ubyte[.gz]")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {images.shape} and {labels_path.name} {labels.shape}: "
            "expected images (N, H, W) and labels (N,)"
        )
    return ArrayDataset(images, labels, class_names)


def find_idx(folder: Path, stem: str, axes: int) -> Path | None:
    """`train-images-idx3-ubyte`, or the same with a dot before idx3, each with or without .gz."""
    names = [f"{stem}{joint}idx{axes}-ubyte{suffix}" for joint in "-." for suffix in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read {path}: {reason}") from error
