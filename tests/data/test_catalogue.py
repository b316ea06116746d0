"""`open`: names, folders and arrays become splits; and the bundled set."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn import data
from minicnn.data import ArrayDataset, DataError, Resized, Splits, catalogue
from minicnn.data.catalogue import BUNDLED_FOLDER, IDX_SETS, check_digests

DEBIAN_FOLDER = IDX_SETS["fashion-mnist"].system_folders[0]


def write_idx_set(folder):
    make = bundled_make()
    folder.mkdir(parents=True)
    for stem, size in (("train", 40), ("t10k", 20)):
        labels = np.arange(size, dtype=np.uint8) * 7 % 10
        images = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None], (size, 28, 28))
        make.write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images)
        make.write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels)
    return folder


def bundled_make():
    spec = importlib.util.spec_from_file_location("make", BUNDLED_FOLDER.parent / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_images(root, classes, count=4):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (6, 6), (i, 0, 0)).save(root / name / f"{i}.png")
    return root


def test_the_bundled_set_is_the_default_and_is_balanced():
    splits = data.open()
    assert splits.name == "fashion-mnist-12k"
    for part, per_class in ((splits.train, 900), (splits.validation, 100), (splits.test, 200)):
        assert np.bincount(part.labels).tolist() == [per_class] * 10
        assert part.image_shape == (28, 28, 1) and part.images.dtype == np.uint8
    assert splits.class_names[0] == "T-shirt/top" and splits.class_names[9] == "Ankle boot"
    whole = data.open(validation_fraction=0)
    assert np.bincount(whole.train.labels).tolist() == [1000] * 10 and whole.validation is None
    assert len(np.unique(whole.train.images.reshape(10_000, -1), axis=0)) > 9_990  # no image stands for another


def test_the_bundled_set_is_the_first_of_each_class_of_the_published_files():
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("the published Fashion-MNIST is not installed (Debian: dataset-fashion-mnist)")
    ours, published = data.open(validation_fraction=0), data.open("fashion-mnist", validation_fraction=0)
    for part, count in (("train", 1000), ("test", 200)):
        mine, theirs = getattr(ours, part), getattr(published, part)
        for label in range(10):
            first = np.flatnonzero(theirs.labels == label)[:count]
            assert np.array_equal(mine.images[mine.labels == label], theirs.images[first])


def test_make_takes_the_first_of_each_class_in_the_order_of_the_file(tmp_path):
    source = write_idx_set(tmp_path / "source")
    bundled_make().make(source, tmp_path / "target", {"train": 2, "t10k": 1})
    check_digests(tmp_path / "target")
    images = data.read_idx(tmp_path / "target" / "train-images-idx3-ubyte.gz")
    labels = data.read_idx(tmp_path / "target" / "train-labels-idx1-ubyte.gz")
    assert images[:, 0, 0].tolist() == list(range(20)) and labels.tolist() == [i * 7 % 10 for i in range(20)]
    assert data.read_idx(tmp_path / "target" / "t10k-images-idx3-ubyte.gz")[:, 0, 0].tolist() == list(range(10))


def test_a_damaged_bundled_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "BUNDLED_FOLDER", tmp_path)
    with pytest.raises(DataError) as error:
        data.open()
    assert str(error.value) == f"cannot read {tmp_path}/SHA256SUMS: No such file or directory: install minicnn again"
    for file in BUNDLED_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert len(data.open().test) == 2000
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(labels.read_bytes())
    content[100] ^= 1
    labels.write_bytes(content)
    with pytest.raises(DataError) as error:
        data.open()
    message = str(error.value)
    assert message.startswith(f"{labels} has SHA-256 ") and ", expected " in message
    assert message.endswith(
        ": the file is damaged or was changed: install minicnn again, or check its checkout out again"
    )
    labels.unlink()
    with pytest.raises(DataError) as error:
        data.open()
    assert str(error.value) == f"cannot read {labels}: No such file or directory: install minicnn again"


def test_the_bundled_set_carries_its_licence():
    text = (BUNDLED_FOLDER / "LICENSE").read_text()
    assert "Zalando SE" in text and "Permission is hereby granted" in text


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
def test_mnist_from_data_dir(tmp_path, layout):
    write_idx_set(tmp_path / "set" / layout)
    splits = data.open("mnist", tmp_path / "set")
    assert splits.name == "mnist" and splits.class_names == tuple("0123456789")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 10, 20)
    assert splits.test.images[7, 0, 0, 0] == 7


IDX_FILES = (
    "expected a folder with train- and t10k-images-idx3-ubyte[.gz] and -labels-idx1-ubyte[.gz], as published at "
)


def test_named_sets_that_are_not_there(tmp_path):
    for name, data_dir, message in (
        ("mnist", None, f"data_dir was not given: {IDX_FILES}http://yann.lecun.com/exdb/mnist"),
        ("mnist", tmp_path, f"no mnist in {tmp_path}: {IDX_FILES}http://yann.lecun.com/exdb/mnist"),
        (
            "fashion-mnist",
            tmp_path,
            f"no fashion-mnist in {tmp_path}: {IDX_FILES}https://github.com/zalandoresearch/fashion-mnist; "
            "Debian and Ubuntu: apt install dataset-fashion-mnist, and no data_dir",
        ),
        ("cifar10", None, "data_dir was not given: expected the folder or archive that cifar10 lies in"),
    ):
        with pytest.raises(DataError) as error:
            data.open(name, data_dir)
        assert str(error.value) == message


NAMES = "fashion-mnist-12k, fashion-mnist, mnist, cifar10, cifar100"


def test_unknown_names_and_missing_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, message in (
        (
            "fashion-minst",
            "unknown data 'fashion-minst': did you mean fashion-mnist or fashion-mnist-12k? expected " + NAMES,
        ),
        ("CIFAR-10", "unknown data 'CIFAR-10': did you mean cifar10 or cifar100? expected " + NAMES),
        ("imagenet", "unknown data 'imagenet': expected " + NAMES),
    ):
        with pytest.raises(DataError) as error:
            data.open(name)
        assert str(error.value) == message + ", or the path of a folder of class folders"
    for path in ("./imagenet", Path("mnist")):
        with pytest.raises(DataError) as error:
            data.open(path)
        assert str(error.value) == (
            f"no folder {Path(path)}: expected a folder that holds one folder of images for each class"
        )


def test_a_flat_folder_is_split_and_decoded_at_the_size_asked_for(tmp_path):
    write_images(tmp_path, ["cat", "dog"], count=10)
    splits = data.open(tmp_path, image_size=5)
    assert np.bincount(splits.train.labels).tolist() == [9, 9] and np.bincount(splits.validation.labels).tolist() == [
        1,
        1,
    ]
    assert splits.test is None and splits.image_shape == (5, 5, 3) and splits.class_names == ("cat", "dog")
    assert not isinstance(splits.train, Resized)  # decoded at 5, not at 224 and shrunk
    assert data.open(os.fspath(tmp_path)).image_shape == (224, 224, 3)


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_a_folder_of_splits(tmp_path, validation):
    write_images(tmp_path / "train", ["cat", "dog"])
    write_images(tmp_path / validation, ["dog"], count=2)
    write_images(tmp_path / "test", ["cat"], count=1)
    splits = data.open(tmp_path, image_size=5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8, 2, 1)
    assert splits.validation.labels.tolist() == [1, 1] and splits.test.labels.tolist() == [0]


def test_train_and_test_folders_leave_the_test_images_alone(tmp_path):
    write_images(tmp_path / "train", ["cat", "dog"], count=10)
    write_images(tmp_path / "test", ["cat", "dog"], count=3)
    splits = data.open(tmp_path, image_size=5)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 6)


def test_a_class_called_train_is_a_class(tmp_path):
    write_images(tmp_path, ["train", "bus"])
    assert data.open(tmp_path, image_size=5).class_names == ("bus", "train")


def test_folders_of_splits_that_are_refused(tmp_path):
    write_images(tmp_path / "train", ["cat", "dog"])
    write_images(tmp_path / "val", ["wolf"])
    with pytest.raises(DataError) as error:
        data.open(tmp_path, image_size=5)
    assert str(error.value) == f"{tmp_path}/val has a class folder 'wolf' that is not among the 2 classes cat, dog"
    (tmp_path / "val" / "wolf").rename(tmp_path / "val" / "cat")
    write_images(tmp_path / "validation", ["cat"])
    with pytest.raises(DataError) as error:
        data.open(tmp_path, image_size=5)
    assert str(error.value) == (
        f"{tmp_path} holds two validation folders, val, validation: expected one of val, valid, validation"
    )


def test_unreadable_files_are_skipped_only_if_asked(tmp_path):
    write_images(tmp_path, ["cat", "dog"])
    (tmp_path / "cat" / "broken.jpg").write_text("not an image")
    assert len(data.open(tmp_path, image_size=5, validation_fraction=0).train) == 9
    splits = data.open(tmp_path, image_size=5, skip_unreadable=True)
    assert (len(splits.train), len(splits.validation)) == (6, 2)
    reason = f"cannot read image {tmp_path}/cat/broken.jpg: it is not an image of a known format"
    assert splits.skipped == ((f"{tmp_path}/cat/broken.jpg", reason),)


def test_arrays_datasets_and_splits():
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    for given in ((images, labels), ArrayDataset(images, labels)):
        splits = data.open(given)
        assert len(splits.train) == 18 and len(splits.validation) == 2 and splits.image_shape == (4, 4, 1)
    assert data.open(splits) is splits
    with pytest.raises(DataError) as error:
        data.open(images)
    assert str(error.value) == (
        "data is a ndarray: expected a name, a folder, a Dataset, Splits or a pair of arrays (images, labels)"
    )
    with pytest.raises(DataError) as error:
        data.open((splits.train, splits.validation))
    assert str(error.value).startswith("data is a tuple: ")


def test_the_split_moves_with_split_seed_alone():
    dataset = ArrayDataset(np.zeros((100, 4, 4), np.uint8), np.arange(100) % 2)
    first, again, other = (data.open(dataset, split_seed=seed).validation.indices for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_images_in_memory_are_resized_when_another_size_is_asked_for():
    splits = data.open(image_size=32)
    assert isinstance(splits, Splits) and splits.image_shape == (32, 32, 1)
    images, labels = splits.test[np.array([5])]
    assert images.shape == (1, 32, 32, 1) and labels[0] == data.open().test.labels[5]
    assert abs(images.mean() - data.open().test[np.array([5])][0].mean()) < 1
