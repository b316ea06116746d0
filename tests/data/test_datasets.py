"""The contract of datasets, arrays as one, and the class-balanced split."""

import numpy as np
import pytest

from minicnn.data import ArrayDataset, DataError, Dataset, Splits, Subset, split


def numbered(labels, class_names=None, shape=(2, 3, 1)):
    """A dataset whose image i is filled with i."""
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), (len(labels), *shape))
    return ArrayDataset(images, labels, class_names)


def test_contract():
    dataset = numbered([0, 1, 2, 1])
    images, labels = dataset[np.array([3, 0])]
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert images.shape == (2, 2, 3, 1) and images[:, 0, 0, 0].tolist() == [3, 0] and labels.tolist() == [1, 0]
    assert len(dataset) == 4 and dataset.image_shape == (2, 3, 1) and dataset.class_names == ("0", "1", "2")
    assert np.array_equal(dataset.images, Dataset.images.fget(dataset))
    image, label = dataset[2]
    assert image.shape == (2, 3, 1) and image[0, 0, 0] == 2 and label == 2
    with pytest.raises(IndexError):
        dataset[np.array([4])]


def test_a_batch_is_the_callers_to_write_into():
    dataset = numbered([0, 1])
    dataset[np.array([0, 1])][0][:] = 77
    assert dataset.images.max() == 1


def test_grey_images_get_a_channel_axis_and_uint8_is_not_copied():
    images = np.zeros((2, 4, 5), np.uint8)
    dataset = ArrayDataset(images, [0, 1], ["cat", "dog"])
    assert dataset.image_shape == (4, 5, 1) and dataset.class_names == ("cat", "dog")
    assert np.shares_memory(dataset.images, images)


def test_floats_in_0_to_1_and_integers_in_0_to_255_come_back_as_the_uint8_they_were():
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    for images in (
        values / 255,
        (values / 255).astype(np.float32),
        (values / 255).astype(np.float16),
        values.astype(int),
    ):
        assert np.array_equal(ArrayDataset(images, [0, 1, 0, 1]).images[..., 0], values)


def test_floats_between_two_levels_go_to_the_nearer():
    images = np.array([0.4, 0.6, 254.4, 254.6]).reshape(1, 2, 2) / 255
    assert ArrayDataset(images, [0]).images.ravel().tolist() == [0, 1, 254, 255]


GOOD = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "class_names", "message"),
    [
        (np.zeros((2, 4)), [0, 1], None, "images are (2, 4): expected (N, H, W, C) or (N, H, W)"),
        (np.zeros((2, 4, 0)), [0, 1], None, "images are (2, 4, 0, 1): expected (N, H, W, C) or (N, H, W)"),
        (np.zeros((0, 4, 4)), [], None, "there are no images: the array's first axis is empty"),
        (
            np.zeros((2, 3, 8, 8)),
            [0, 1],
            None,
            "images are (2, 3, 8, 8), which looks like (N, C, H, W): expected channels last, "
            "images.transpose(0, 2, 3, 1)",
        ),
        (GOOD == 0, [0, 1], None, "images are bool: expected uint8, integers in [0, 255] or floats in [0, 1]"),
        (
            np.full((2, 4, 4), 255.0),
            [0, 1],
            None,
            "images are float64 from 255.0 to 255.0: expected floats in [0, 1]: divide by 255, or pass uint8",
        ),
        (
            np.full((2, 4, 4), np.nan),
            [0, 1],
            None,
            "images are float64 from nan to nan: expected floats in [0, 1]: divide by 255, or pass uint8",
        ),
        (GOOD.astype(int) - 1, [0, 1], None, "images are int64 from -1 to -1: expected integers in [0, 255]"),
        (GOOD, [0, 1, 2], None, "labels are (3,): expected (2,), one for each image"),
        (GOOD, np.eye(2), None, "labels are (2, 2): expected class numbers (2,), for one-hot rows labels.argmax(1)"),
        (GOOD, [0.0, 1.0], None, "labels are float64: expected integers, the class numbers from 0"),
        (GOOD, [0, -1], None, "label -1 at index 1: expected class numbers from 0"),
        (GOOD, [0, 2], ["a", "b"], "label 2 has no name: 2 class_names cover labels 0 to 1"),
    ],
)
def test_arrays_that_are_refused(images, labels, class_names, message):
    with pytest.raises(DataError) as error:
        ArrayDataset(images, labels, class_names)
    assert str(error.value) == message


def test_subset_follows_its_indices():
    subset = Subset(numbered([0, 1, 2, 1]), [2, 0, 3])
    images, labels = subset[np.array([0, 2])]
    assert images[:, 0, 0, 0].tolist() == [2, 3] and labels.tolist() == [2, 1]
    assert len(subset) == 3 and subset.class_names == ("0", "1", "2")


def test_split_takes_the_same_fraction_of_every_class_and_parts_the_whole():
    dataset = numbered([0] * 40 + [1] * 20 + [2] * 10)
    rest, held_out = split(dataset, 0.2)
    assert np.bincount(held_out.labels).tolist() == [8, 4, 2]
    assert np.array_equal(np.sort(np.concatenate([rest.indices, held_out.indices])), np.arange(70))
    assert all(np.all(np.diff(part.indices) > 0) for part in (rest, held_out))


def test_split_depends_on_its_seed_alone():
    dataset = numbered([0, 1] * 50)
    assert np.array_equal(split(dataset, 0.1, 3)[1].indices, split(dataset, 0.1, 3)[1].indices)
    assert not np.array_equal(split(dataset, 0.1, 3)[1].indices, split(dataset, 0.1, 4)[1].indices)


def test_split_leaves_a_class_its_last_image_and_takes_one_of_two():
    rest, held_out = split(numbered([0, 1, 1, 2, 2, 2]), 0.1)
    assert np.bincount(held_out.labels).tolist() == [0, 1, 1] and np.bincount(rest.labels).tolist() == [1, 1, 2]
    rest, held_out = split(numbered([0, 0, 1, 1]), 0.99)
    assert np.bincount(rest.labels).tolist() == [1, 1]


def test_split_of_nothing_and_splits_that_are_refused():
    dataset = numbered([0, 1])
    assert split(dataset, 0) == (dataset, None)
    with pytest.raises(DataError) as error:
        split(dataset, 0.1)
    assert str(error.value) == (
        "no class has two images, so none can be held out for validation: add images, or pass a fraction of 0"
    )
    with pytest.raises(DataError) as error:
        split(dataset, 1)
    assert str(error.value) == "validation fraction is 1: expected a number from 0 up to but not including 1"


def test_splits_must_agree_and_have_two_classes():
    train = numbered([0, 1])
    assert Splits("x", train, test=numbered([1, 1])).class_names == ("0", "1")
    with pytest.raises(DataError) as error:
        Splits("x", train, numbered([0, 1], shape=(2, 2, 1)))
    assert str(error.value) == "x: validation has image_shape (2, 2, 1) but train has (2, 3, 1)"
    with pytest.raises(DataError) as error:
        Splits("x", train, test=numbered([0, 2]))
    assert str(error.value) == "x: test has class_names ('0', '1', '2') but train has ('0', '1')"
    with pytest.raises(DataError) as error:
        Splits("x", numbered([1, 1], ["cat", "dog"]))
    assert str(error.value) == "x: every training image is of one class, 'dog': a classifier needs at least two"
