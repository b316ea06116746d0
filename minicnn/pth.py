"""PyTorch's .pth files, without PyTorch and without what makes pickles dangerous: nothing is built but named tensors.

A file of torch.save is a pickle whose tensors name their storages, and the storages' bytes: a zip archive of both since
PyTorch 1.6; before, one behind the other ("legacy"), as several of torchvision's published weights still are. What a pickle
may call is the table ALLOWED; whatever else it asks for is refused by name.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minicnn.checkpoint import CheckpointError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "BoolStorage": np.dtype("?"),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The state dict of a .pth file: arrays by name, copies. Raises CheckpointError for any other file."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with open(path, "rb") as file:
            state = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
            raise CheckpointError("it holds no state dict: save model.state_dict() with PyTorch")
        return {name: value.copy() for name, value in state.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise CheckpointError(f"{path} is damaged or no file of torch.save: {error}") from error


def _rebuild_tensor(storage, offset, size, stride, *_):
    """A view of the storage, once it is certain that it stays inside."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise CheckpointError(f"a tensor of {size} at {offset} does not lie within its storage of {len(storage)}")
    return as_strided(storage[offset:], size, [step * storage.itemsize for step in stride])


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """`storages` are by their keys; each is made when a tensor first names it, by `make(key, dtype, count)`."""

    def __init__(self, file, make):
        super().__init__(file)
        self.make, self.storages = make, {}

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise CheckpointError(f"it asks for {module}.{name}, and only tensors are read: save model.state_dict()")
        return ALLOWED[module, name]

    def persistent_load(self, reference):
        _, dtype, key, _, count, *_ = reference
        if key not in self.storages:
            self.storages[key] = self.make(key, dtype, count)
        return self.storages[key]


def _read_zip(file):
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        if folder + "byteorder" in archive.namelist() and archive.read(folder + "byteorder") != b"little":
            raise CheckpointError("its numbers are big-endian")

        def make(key, dtype, count):
            return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype, count)

        with archive.open(pickled) as stream:
            return _Unpickler(stream, make).load()


def _read_legacy(file):
    file.seek(0)
    size = Path(file.name).stat().st_size

    def refuse(*_):
        raise CheckpointError("its header names tensors")

    def make(key, dtype, count):  # its bytes come behind the pickle
        if not 0 <= count * dtype.itemsize <= size:
            raise CheckpointError(f"storage {key} of {count} elements is larger than the file")
        return np.empty(count, dtype)

    if _Unpickler(file, refuse).load() != LEGACY_MAGIC:
        raise CheckpointError("it is not a file of torch.save")
    _Unpickler(file, refuse).load()  # the version of the protocol
    _Unpickler(file, refuse).load()  # the machine that wrote it
    unpickler = _Unpickler(file, make)
    state = unpickler.load()
    for key in _Unpickler(file, refuse).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != len(storage):
            raise CheckpointError(f"storage {key} has another length than its tensors say")
        if file.readinto(memoryview(storage).cast("B")) != storage.nbytes:
            raise CheckpointError("it ends within its tensors")
    return state
