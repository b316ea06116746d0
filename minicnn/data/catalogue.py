"""Data by name, from a folder or from memory: everything becomes `Splits`."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from minicnn.data.cifar import read_cifar
from minicnn.data.datasets import ArrayDataset, DataError, Dataset, Splits, split
from minicnn.data.folder import ImageFolder, Resized, checked_folder, class_folders
from minicnn.data.idx import find_idx, read_idx_pair
from minicnn.data.packed import PackedImages, is_packed, read_manifest

DEFAULT = "fashion-mnist-12k"
FOLDER_IMAGE_SIZE = 224
BUNDLED_FOLDER = Path(__file__).parent / "bundled" / DEFAULT
DIGITS = tuple("0123456789")
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def open(
    data=DEFAULT, data_dir=None, image_size=None, *, validation_fraction=0.1, split_seed=0, skip_unreadable=False
) -> Splits:
    """Training, validation and test images of `data`, which is one of

    - a name: "fashion-mnist-12k" (bundled: 10,000 training and 2,000 test images), "fashion-mnist", "mnist", "cifar10",
      "cifar100"; all but the first are read from `data_dir`, in the form they are published in;
    - the path of a folder of class folders, or of one that holds nothing but such trees called train, val (valid,
      validation) and test; image files are decoded to `image_size`, 224 if that is not given (see `ImageFolder`);
    - the path of a folder that `pack` has made of such a one;
    - a Dataset, a pair of arrays (images, labels; see `ArrayDataset`), or Splits, which are returned as they are.

    Without a validation set of its own, a seeded `validation_fraction` of every class of the training images is held
    out for it (see `split`); test images, where there are some, are left alone. The split does not move with the
    training seed. Images that are in memory already are resized, when read, where `image_size` differs from theirs.

    An unreadable image is an error when it is read; with `skip_unreadable` such files are left out and listed in the
    result's `skipped`. Raises DataError. Example:
    >>> splits = open("fashion-mnist-12k")
    >>> len(splits.train), len(splits.validation), len(splits.test), splits.image_shape
    (9000, 1000, 2000, (28, 28, 1))
    """
    if isinstance(data, Splits):
        return data
    name, train, validation, test = _parts(data, data_dir, image_size, skip_unreadable)
    folders = [part for part in (train, validation, test) if isinstance(part, ImageFolder)]
    if validation is None:
        train, validation = split(train, validation_fraction, split_seed)
    skipped = tuple(file for folder in folders for file in folder.skipped)
    return Splits(name, *(_resized(part, image_size) for part in (train, validation, test)), skipped)


def _parts(data, data_dir, image_size, skip_unreadable) -> tuple[str, Dataset, Dataset | None, Dataset | None]:
    if isinstance(data, Dataset):
        return type(data).__name__, data, None, None
    if isinstance(data, (tuple, list)) and len(data) == 2 and not any(isinstance(part, Dataset) for part in data):
        return "arrays", ArrayDataset(*data), None, None
    if not isinstance(data, (str, os.PathLike)):
        raise DataError(
            f"data is a {type(data).__name__}: expected a name, a folder, a Dataset, Splits or a pair of arrays "
            "(images, labels)"
        )
    if data in NAMED:
        train, test = NAMED[data](data, data_dir)
        return data, train, None, test
    _check_name(data)
    if is_packed(Path(data).expanduser()):
        return _read_packed(data)
    return _read_folder(data, FOLDER_IMAGE_SIZE if image_size is None else image_size, skip_unreadable)


def _check_name(data) -> None:
    """A word that is no folder is a misspelt name; with a separator in it, it is a path, which ImageFolder judges."""
    text = os.fspath(data)
    if isinstance(data, os.PathLike) or os.path.exists(os.path.expanduser(text)) or set(text) & {"/", os.sep}:
        return
    near = difflib.get_close_matches(text.lower(), NAMED, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise DataError(
        f"unknown data {text!r}: {hint}expected {', '.join(NAMED)}, or the path of a folder of class folders"
    )


def _read_packed(path) -> tuple[str, Dataset, Dataset | None, Dataset | None]:
    parts = read_manifest(Path(path).expanduser()).get("parts", ())
    return str(path), *(PackedImages(path, part) if part in parts else None for part in ("train", "validation", "test"))


def _read_folder(path, image_size: int, skip_unreadable: bool) -> tuple[str, Dataset, Dataset | None, Dataset | None]:
    root = checked_folder(path)
    trees = class_folders(root)
    if "train" not in trees or not set(trees) <= set(SPLIT_FOLDERS):
        return str(path), ImageFolder(root, image_size, skip_unreadable=skip_unreadable), None, None
    parts = {"train": ImageFolder(trees.pop("train"), image_size, skip_unreadable=skip_unreadable)}
    for name, tree in trees.items():
        part = SPLIT_FOLDERS[name]
        if part in parts:
            raise DataError(
                f"{root} holds two {part} folders, {', '.join(trees)}: expected one of val, valid, validation"
            )
        class_names = parts["train"].class_names
        parts[part] = ImageFolder(tree, image_size, class_names=class_names, skip_unreadable=skip_unreadable)
    return str(path), parts["train"], parts.get("validation"), parts.get("test")


def _resized(dataset: Dataset | None, image_size: int | None) -> Dataset | None:
    if dataset is None or image_size is None or dataset.image_shape[:2] == (image_size, image_size):
        return dataset
    return Resized(dataset, image_size)


def _read_bundled(name, data_dir) -> tuple[Dataset, Dataset]:
    check_digests(BUNDLED_FOLDER)
    return tuple(read_idx_pair(BUNDLED_FOLDER, part, GARMENTS) for part in ("train", "test"))


def check_digests(folder: Path) -> None:
    """Hold the files of `folder` against its SHA256SUMS, in the form of sha256sum(1). Raises DataError."""
    advice = "the file is damaged or was changed: install minicnn again, or check its checkout out again"
    try:
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            expected, file = line.split()
            digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
            if digest != expected:
                raise DataError(f"{folder / file} has SHA-256 {digest}, expected {expected}: {advice}")
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}: install minicnn again") from error


def _read_idx_set(name, data_dir) -> tuple[Dataset, Dataset]:
    idx_set = IDX_SETS[name]
    if data_dir is not None:
        data_dir = Path(data_dir).expanduser()
        candidates = [data_dir, data_dir / idx_set.folder]
    else:
        candidates = idx_set.system_folders
    for folder in candidates:
        if find_idx(folder, "train-images", 3) is not None:
            return tuple(read_idx_pair(folder, part, idx_set.class_names) for part in ("train", "test"))
    where = "data_dir was not given" if data_dir is None else f"no {name} in {data_dir}"
    raise DataError(
        f"{where}: expected a folder with train- and t10k-images-idx3-ubyte[.gz] and -labels-idx1-ubyte[.gz], "
        f"{idx_set.source}"
    )


def _read_cifar(name, data_dir) -> tuple[Dataset, Dataset]:
    if data_dir is None:
        raise DataError(f"data_dir was not given: expected the folder or archive that {name} lies in")
    return read_cifar(name, data_dir)


@dataclass(frozen=True)
class IdxSet:
    class_names: tuple[str, ...]
    folder: str  # below data_dir, as torchvision lays it out
    source: str  # where to get it, for the error
    system_folders: tuple[Path, ...] = ()  # looked into without a data_dir


IDX_SETS = {
    "fashion-mnist": IdxSet(
        GARMENTS,
        "FashionMNIST/raw",
        "as published at https://github.com/zalandoresearch/fashion-mnist; "
        "Debian and Ubuntu: apt install dataset-fashion-mnist, and no data_dir",
        (Path("/usr/share/datasets/fashion-mnist"),),
    ),
    "mnist": IdxSet(DIGITS, "MNIST/raw", "as published at http://yann.lecun.com/exdb/mnist"),
}
NAMED = {
    DEFAULT: _read_bundled,
    "fashion-mnist": _read_idx_set,
    "mnist": _read_idx_set,
    "cifar10": _read_cifar,
    "cifar100": _read_cifar,
}
