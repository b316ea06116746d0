"""Folders of class folders, and datasets in another size."""

import numpy as np
import pytest
from image_files import corners, quadrants, truncated, write_folder
from PIL import Image

from minicnn.data import ArrayDataset, DataError, ImageFolder, Resized


def test_folder_of_class_folders(tmp_path):
    write_folder(tmp_path, ["dog", "cat"])
    (tmp_path / "cat" / "more").mkdir()
    Image.new("RGB", (8, 8), (0, 99, 0)).save(tmp_path / "cat" / "more" / "DEEP.PNG")
    for passed_over in ("cat/notes.txt", "cat/._0.png", "cat/.hidden/0.png", ".cache/0.png", "loose.png"):
        (tmp_path / passed_over).parent.mkdir(exist_ok=True)
        (tmp_path / passed_over).write_text("passed over")
    dataset = ImageFolder(tmp_path, 8)
    assert dataset.class_names == ("cat", "dog") and dataset.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    images, labels = dataset[np.array([6, 3, 1])]
    assert images.dtype == np.uint8 and images.shape == (3, 8, 8, 3) and labels.tolist() == [1, 0, 0]
    assert images[:, 0, 0].tolist() == [[0, 2, 0], [0, 99, 0], [10, 1, 0]]
    assert np.array_equal(dataset.images[[6, 3, 1]], images) and dataset.image_shape == (8, 8, 3)


@pytest.mark.parametrize(("cache_bytes", "decodes"), [(1 << 20, 1), (0, 2)])
def test_images_that_fit_are_decoded_once(tmp_path, cache_bytes, decodes):
    dataset = ImageFolder(write_folder(tmp_path, ["cat", "dog"]), 8, cache_bytes=cache_bytes)
    decoded, decode = [], dataset._decode
    dataset._decode = lambda index: decoded.append(index) or decode(index)
    first, again = (dataset[np.array([4, 1])][0] for _ in range(2))
    assert decoded == [4, 1] * decodes and np.array_equal(first, again)
    assert np.array_equal(dataset[4][0], first[0]) and dataset[4][1] == 1
    first[:] = 0
    assert np.array_equal(dataset[np.array([4, 1])][0], again)


def test_a_damaged_file_is_named_when_it_is_read(tmp_path):
    path = truncated(write_folder(tmp_path, ["cat", "dog"]) / "dog" / "half.png")
    dataset = ImageFolder(tmp_path, 8)
    assert len(dataset) == 7
    with pytest.raises(DataError) as error:
        dataset[np.arange(7)]
    assert str(error.value).startswith(f"cannot read image {path}: ")


def test_damaged_files_are_skipped_and_counted_only_if_asked(tmp_path):
    path = truncated(write_folder(tmp_path, ["cat", "dog"]) / "dog" / "half.png")
    dataset = ImageFolder(tmp_path, 8, skip_unreadable=True)
    assert len(dataset) == 6 and dataset.images.shape == (6, 8, 8, 3)
    assert [file for file, _ in dataset.skipped] == [str(path)]
    assert dataset.skipped[0][1].startswith(f"cannot read image {path}: ")


def test_classes_of_another_dataset(tmp_path):
    write_folder(tmp_path, ["dog"])
    dataset = ImageFolder(tmp_path, 8, class_names=["cat", "dog"])
    assert dataset.labels.tolist() == [1, 1, 1] and dataset.class_names == ("cat", "dog")
    with pytest.raises(DataError) as error:
        ImageFolder(tmp_path, 8, class_names=["cat", "wolf"])
    assert str(error.value) == f"{tmp_path} has a class folder 'dog' that is not among the 2 classes cat, wolf"
    with pytest.raises(DataError) as error:
        ImageFolder(tmp_path, 8, class_names="abcdefghijkl")
    assert str(error.value) == (
        f"{tmp_path} has a class folder 'dog' that is not among the 12 classes a, b, c, d, e, f, g, h, i, j, ..."
    )


EXPECTED = "expected a folder that holds one folder of images for each class"
OWN_FOLDER = "put the images of each class in a folder of its own,"
EXTENSIONS = ".avif, .bmp, .gif, .jfif, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"


def test_folders_that_are_refused(tmp_path):
    write_folder(tmp_path / "one", ["cat"])
    write_folder(tmp_path / "hollow", ["cat"])
    (tmp_path / "hollow" / "dog").mkdir()
    truncated(write_folder(tmp_path / "broken", ["cat", "dog"], count=0) / "cat" / "half.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loose").mkdir()
    quadrants().save(tmp_path / "loose" / "image.png")
    (tmp_path / "file").write_text("")
    for name, skip, message in (
        ("absent", False, f"no folder {tmp_path}/absent: {EXPECTED}"),
        ("file", False, f"{tmp_path}/file is a file: {EXPECTED}"),
        (
            "empty",
            False,
            f"{tmp_path}/empty is empty: it holds no class folders: {OWN_FOLDER} {tmp_path}/empty/<class>/",
        ),
        (
            "loose",
            False,
            f"{tmp_path}/loose holds image files (1) but no class folders: {OWN_FOLDER} {tmp_path}/loose/<class>/",
        ),
        (
            "one",
            False,
            f"{tmp_path}/one holds one class only, 'cat': a classifier needs at least two class folders",
        ),
        (
            "hollow",
            False,
            f"class folder {tmp_path}/hollow/dog holds no image: expected files ending in {EXTENSIONS}",
        ),
        (
            "broken",
            True,
            f"class folder {tmp_path}/broken/cat holds no readable image: expected files ending in {EXTENSIONS}",
        ),
    ):
        with pytest.raises(DataError) as error:
            ImageFolder(tmp_path / name, 8, skip_unreadable=skip)
        assert str(error.value) == message


def test_an_image_size_that_is_refused(tmp_path):
    with pytest.raises(DataError) as error:
        ImageFolder(tmp_path, 0)
    assert str(error.value) == "image_size is 0: expected at least 1 pixel"


def test_resized_takes_the_central_square():
    wide = np.zeros((1, 4, 10, 3), np.uint8)
    wide[:, :, 3:7] = np.asarray(quadrants(4))
    assert np.array_equal(Resized(ArrayDataset(wide, [0]), 4).images[0], np.asarray(quadrants(4)))


@pytest.mark.parametrize("channels", [1, 3])
def test_resized(channels):
    small = np.asarray(quadrants(4))[..., :channels]
    resized = Resized(ArrayDataset(np.stack([small, 255 - small]), [0, 1]), 16)
    images, labels = resized[np.array([1, 0])]
    assert (
        images.shape == (2, 16, 16, channels)
        and resized.image_shape == (16, 16, channels)
        and labels.tolist() == [1, 0]
    )
    assert corners(images[1]) == corners(small) and corners(images[0]) == corners(255 - small)
