"""CIFAR-10 and CIFAR-100 as published: the Python form (pickles) and the binary form, as a folder or a .tar.gz.

Both hold 32 x 32 images as planes: 1024 red bytes, 1024 green, 1024 blue, each plane row by row.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn.data.datasets import ArrayDataset, DataError

SIDE, CHANNELS = 32, 3
IMAGE_BYTES = SIDE * SIDE * CHANNELS


@dataclass(frozen=True)
class Form:
    """One published form of a set: where it lies, its files, and what marks a label in them."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str  # the file of class names
    names_key: bytes = b""  # Python form: the key of the names and of the labels
    labels_key: bytes = b""
    label_bytes: int = 1  # binary form: bytes before an image, of which the last is the label

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.names)


FORMS = {
    "cifar10": (
        Form(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            train=tuple(f"data_batch_{i}" for i in range(1, 6)),
            test=("test_batch",),
            names="batches.meta",
            names_key=b"label_names",
            labels_key=b"labels",
        ),
        Form(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            test=("test_batch.bin",),
            names="batches.meta.txt",
        ),
    ),
    "cifar100": (
        Form(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            train=("train",),
            test=("test",),
            names="meta",
            names_key=b"fine_label_names",
            labels_key=b"fine_labels",
        ),
        Form(
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            train=("train.bin",),
            test=("test.bin",),
            names="fine_label_names.txt",
            label_bytes=2,  # coarse, fine
        ),
    ),
}


def read_cifar(name: str, data_dir) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) of "cifar10" or "cifar100"; `data_dir` is the folder or archive, or the folder that holds either.

    Labels of CIFAR-100 are the 100 fine ones. Raises DataError.
    """
    where, form, files = _find(name, Path(data_dir).expanduser())
    read = _read_pickled if form.names_key else _read_binary
    try:
        names = _class_names(form, files[form.names])
        return tuple(
            ArrayDataset(*_joined([read(form, file, files[file]) for file in part]), names)
            for part in (form.train, form.test)
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _find(name: str, data_dir: Path) -> tuple[Path, Form, dict[str, bytes]]:
    for form in FORMS[name]:
        for where in (data_dir, data_dir / form.folder, data_dir / form.archive):
            files = _read_files(where, form.files)
            if files and len(files) < len(form.files):
                missing = next(file for file in form.files if file not in files)
                raise DataError(f"{where} lacks {missing}: expected {', '.join(form.files)}")
            if files:
                return where, form, files
    expected = " or ".join(f"{form.folder}/ or {form.archive}" for form in FORMS[name])
    raise DataError(
        f"no {name} in {data_dir}: expected {expected}, as published at https://www.cs.toronto.edu/~kriz/cifar.html"
    )


def _read_files(where: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """The wanted files in a folder, or anywhere in a tar archive; nothing is unpacked onto the disk."""
    if where.is_dir():
        return {name: (where / name).read_bytes() for name in wanted if (where / name).is_file()}
    if not where.is_file():
        return {}
    try:
        with tarfile.open(where) as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            return {name: archive.extractfile(members[name]).read() for name in wanted if name in members}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {where} as a tar archive: {error}") from error


def _class_names(form: Form, content: bytes) -> list[str]:
    if not form.names_key:
        return content.decode("ascii", "replace").split()
    names = _restricted_load(form.names, content).get(form.names_key)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise DataError(f"{form.names} has no list of names under {form.names_key.decode()!r}")
    return [name.decode("ascii", "replace") for name in names]


def _read_binary(form: Form, file: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    record = form.label_bytes + IMAGE_BYTES
    if len(content) == 0 or len(content) % record:
        raise DataError(f"{file} is damaged: {len(content)} bytes, expected a multiple of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, form.label_bytes :], records[:, form.label_bytes - 1]


def _read_pickled(form: Form, file: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _restricted_load(file, content)
    data, labels = batch.get(b"data"), batch.get(form.labels_key)
    if not isinstance(data, _PickledArray) or not isinstance(labels, list) or not all(type(n) is int for n in labels):
        raise DataError(f"{file} lacks an array 'data' or a list of integers {form.labels_key.decode()!r}")
    images = data.array()
    if images.shape != (len(labels), IMAGE_BYTES):
        raise DataError(
            f"{file} holds {images.shape} data for {len(labels)} labels: expected ({len(labels)}, {IMAGE_BYTES})"
        )
    return images, np.array(labels)


def _joined(batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    planes, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    images = planes.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


class _PickledArray:
    """Stands in for numpy.ndarray while unpickling, so that no file's bytes steer NumPy's own unpickler."""

    state: tuple = ()

    def __setstate__(self, state):
        self.state = state

    def array(self) -> np.ndarray:
        match self.state:
            case (int(), (int(rows), int(columns)), _PickledDtype(code=b"u1"), bool(is_fortran), bytes(content)):
                if min(rows, columns) >= 0 and rows * columns == len(content):
                    order = "F" if is_fortran else "C"
                    return np.frombuffer(content, np.uint8).reshape((rows, columns), order=order)
        raise DataError("an array in it is not a whole two-dimensional one of uint8")


class _PickledDtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code=b"", *_):
        self.code = code

    def __setstate__(self, state):
        pass


def _reconstruct(*_):
    return _PickledArray()


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, dicts and the stand-ins above; every other name in the file is refused."""

    def find_class(self, module, name):
        try:
            return STAND_INS[module, name]
        except KeyError:
            raise DataError(f"it asks for {module}.{name}, which no CIFAR file does: refused") from None


def _restricted_load(file: str, content: bytes) -> dict:
    try:
        value = _RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{file} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} holds a {type(value).__name__}: expected a dict")
    return value
