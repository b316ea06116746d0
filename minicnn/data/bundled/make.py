"""Makes the bundled `fashion-mnist-12k` from the published Fashion-MNIST: `python make.py SOURCE [TARGET]`.

Of each class the first 1,000 images of the training file and the first 200 of the test file, in the order of the files,
written in the published form (IDX, gzipped) with SHA256SUMS beside them. Running it again writes the same images; the
compressed bytes, and so SHA256SUMS, may differ with another zlib.

The originals: https://github.com/zalandoresearch/fashion-mnist, or Debian's package dataset-fashion-mnist, which puts
them into /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

from minicnn.data.idx import UINT8, read_idx

PER_CLASS = {"train": 1000, "t10k": 200}


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """The indices of the first `count` labels of each class, ascending."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, UINT8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


def make(source: Path, target: Path, per_class=PER_CLASS) -> None:
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for stem, count in per_class.items():
        names = [f"{stem}-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1")]
        images, labels = (read_idx(source / name) for name in names)
        kept = first_of_each_class(labels, count)
        for name, array in zip(names, (images[kept], labels[kept]), strict=True):
            write_idx(target / name, array)
            written.append(target / name)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in written]
    (target / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    here = Path(__file__).parent / "fashion-mnist-12k"
    make(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else here)
