"""Images at other sizes than their data set's: whole or square, from files and from memory."""

import numpy as np
import pytest
from PIL import Image

from minicnn import data


@pytest.fixture
def wide(tmp_path, rng):
    """A folder whose images are 40x64, one of them 64x40."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (40, 64, 3)).astype(np.uint8)
            pixels = pixels.transpose(1, 0, 2) if (name, i) == ("b", 1) else pixels
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return data.ImageFolder(tmp_path, 16)


def test_files_are_read_whole_with_the_short_side_at_the_scale(wide):
    images = data.read_at(wide, [0, 3], 20, whole=True)
    assert [image.shape for image in images] == [(20, 32, 3), (32, 20, 3)]
    with Image.open(wide.paths[0]) as file:
        expected = np.asarray(file.resize((32, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[0], expected)
    np.testing.assert_array_equal(data.read_file_at(wide.paths[0], 20, whole=True), expected)


def test_files_at_their_own_size_are_not_resampled(wide):
    (image,) = data.read_at(wide, [0], 40, whole=True)
    with Image.open(wide.paths[0]) as file:
        np.testing.assert_array_equal(image, np.asarray(file))


def test_squares_are_what_a_folder_of_that_size_reads(wide, tmp_path):
    images = data.read_at(wide, [1, 2], 24)
    np.testing.assert_array_equal(np.stack(images), data.ImageFolder(tmp_path, 24).read(np.array([1, 2])))


def test_a_subset_and_a_resized_one_go_to_the_files(wide):
    subset = data.Resized(data.Subset(wide, [3, 0]), 8)
    first, second = data.read_at(subset, [0, 1], 20, whole=True)
    assert (first.shape, second.shape) == ((32, 20, 3), (20, 32, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_are_resized(rng, channels):
    images = rng.integers(0, 256, (3, 20, 30, channels)).astype(np.uint8)
    dataset = data.ArrayDataset(images, [0, 1, 1])
    whole, square = (data.read_at(dataset, [2], 10, whole=whole)[0] for whole in (True, False))
    assert whole.shape == (10, 15, channels)
    np.testing.assert_array_equal(square, data.Resized(dataset, 10).read(np.array([2]))[0])


def test_images_in_memory_of_that_size_are_themselves(rng):
    images = rng.integers(0, 256, (2, 12, 12, 1)).astype(np.uint8)
    np.testing.assert_array_equal(data.read_at(data.ArrayDataset(images, [0, 1]), [1], 12)[0], images[1])


def test_files_may_be_grey_and_stay_named_when_damaged(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (30, 20), 7).save(tmp_path / name / "x.png")
    (tmp_path / "b" / "x.png").write_bytes(b"no image")
    folder = data.ImageFolder(tmp_path, 16, channels=1)
    assert data.read_at(folder, [0], 10, whole=True)[0].shape == (10, 15, 1)
    with pytest.raises(data.DataError, match=r"b/x\.png: it is not an image of a known format$"):
        data.read_at(folder, [1], 10, whole=True)
