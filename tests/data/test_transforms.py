"""Augmentation and normalisation, against plain loops and NumPy's own covariance; fact A7."""

import dataclasses
import json
import time
from fractions import Fraction

import numpy as np
import pytest

from minicnn.data import (
    ArrayDataset,
    Augment,
    CenterCrop,
    ChannelStatistics,
    DataError,
    Prepare,
    colour_shift,
    ten_crops,
)
from minicnn.data.transforms import ChannelSums, below, normals
from minicnn.evaluation import network_input
from minicnn.ops.prepare_images import cut


@pytest.fixture
def photos():
    """20 images of 9 x 7 whose channels are correlated, as a photograph's are."""
    rng = np.random.default_rng(1)
    light, noise = rng.integers(0, 200, (20, 9, 7, 1)), rng.integers(0, 56, (20, 9, 7, 3))
    return ArrayDataset((light + noise).astype(np.uint8), np.arange(20) % 2)


def positions(count, height, width, channels=3):
    """Images whose every byte says where it was: (n, h, w, c) holds a different number mod 251 along each axis."""
    n, h, w, c = np.indices((count, height, width, channels))
    return ((n * 61 + h * 31 + w * 7 + c) % 251).astype(np.uint8)


WHOLE = CenterCrop()


def augmented(augment, images, indices, epoch=0, seed=0):
    """The uint8 images that the augmentation leaves."""
    height, width = images.shape[1:3]
    return cut(images, augment.windows(height, width, indices, epoch, seed), *augment.size(height, width))


def prepared(statistics, images, augment=WHOLE, indices=None, epoch=0, seed=0):
    """What a network sees: float32 (B, H, W, C)."""
    indices = np.arange(len(images)) if indices is None else indices
    return network_input(Prepare(statistics, augment)(images, indices, epoch, seed), "numpy").numpy()


def test_statistics_are_exact(photos):
    statistics = ChannelStatistics.of(photos, chunk=7)
    pixels = photos.images.reshape(-1, 3).tolist()
    count = len(pixels)
    mean = [Fraction(sum(p[c] for p in pixels), count) for c in range(3)]
    for a in range(3):
        assert statistics.mean[a] == float(mean[a] / 255)
        for b in range(3):
            moment = Fraction(sum(p[a] * p[b] for p in pixels), count)
            assert statistics.covariance[a][b] == float((moment - mean[a] * mean[b]) / 255**2)
    assert np.allclose(statistics.covariance, np.cov(np.array(pixels).T / 255, bias=True), rtol=1e-12)
    assert np.allclose(statistics.std, (photos.images / 255).std((0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("workers", [1, 3])
def test_statistics_by_threads_are_the_same_and_reported(workers):
    """Also of images larger than a block of the sums."""
    images = positions(11, 130, 140, 3)
    heard, dataset = [], ArrayDataset(images, np.arange(11) % 2)
    statistics = ChannelStatistics.of(dataset, 2, workers, lambda done, total: heard.append((done, total)))
    assert heard == [(2, 11), (4, 11), (6, 11), (8, 11), (10, 11), (11, 11)]
    pixels = images.reshape(-1, 3).astype(np.int64)
    assert statistics == ChannelSums(len(pixels), pixels.sum(0), pixels.T @ pixels).statistics()


def test_what_reading_raises_ends_the_statistics():
    class Damaged(ArrayDataset):
        def read(self, indices):
            read.append(int(indices[0]))
            if indices[0] == 4:
                raise DataError("cannot read image 4")
            time.sleep(0.005 * (indices[0] > 4))
            return super().read(indices)

    read, dataset = [], Damaged(positions(400, 2, 2, 1), np.arange(400) % 2)
    with pytest.raises(DataError, match=r"^cannot read image 4$"):
        ChannelStatistics.of(dataset, 1, workers=2)
    assert len(read) < 200  # the others are not begun any more


def test_statistics_do_not_cancel():
    """One pixel of 784,000 is a level darker: a variance that float64 sums of squares would get right to five digits."""
    images = np.full((1000, 28, 28), 255, np.uint8)
    images[500, 3, 4] = 254
    count = images.size
    variance = Fraction(count - 1, count**2 * 255**2)
    statistics = ChannelStatistics.of(ArrayDataset(images, np.arange(1000) % 2))
    assert statistics.covariance == ((float(variance),),) and statistics.mean == (float(1 - Fraction(1, 255 * count)),)


def test_statistics_can_be_recorded(photos):
    statistics = ChannelStatistics.of(photos)
    recorded = json.loads(json.dumps(dataclasses.asdict(statistics)))
    back = ChannelStatistics(**recorded)
    assert np.array_equal(prepared(back, photos.images), prepared(statistics, photos.images))


def test_normalised_pixels_have_mean_0_and_std_1(photos):
    x = prepared(ChannelStatistics.of(photos), photos.images)
    assert x.dtype == np.float32 and x.shape == (20, 9, 7, 3)
    assert np.allclose(x.mean((0, 1, 2), np.float64), 0, atol=1e-6) and np.allclose(x.std((0, 1, 2), np.float64), 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_scale_and_offset_are_those_of_the_formula(channels):
    batch = positions(3, 5, 4, channels)
    statistics = ChannelStatistics.of(ArrayDataset(batch, [0, 1, 1]))
    shift = colour_shift(statistics, np.arange(3), epoch=2, seed=1)
    expected = (batch / 255 + shift[:, None, None] - statistics.mean) / statistics.std
    got = prepared(statistics, batch, Augment(colour=0.1), epoch=2, seed=1)
    assert np.allclose(got, expected, rtol=0, atol=2e-6)


def test_a_constant_channel_is_centred():
    batch = positions(2, 4, 4)
    batch[..., 1] = 40
    x = prepared(ChannelStatistics.of(ArrayDataset(batch, [0, 1])), batch)
    assert np.abs(x[..., 1]).max() < 1e-7 and np.isfinite(x).all()


def test_prepare_refuses_other_channels(photos):
    with pytest.raises(DataError) as error:
        prepared(ChannelStatistics.of(photos), photos.images[..., :1])
    assert str(error.value) == "Prepare: the batch is (20, 9, 7, 1) but the statistics are of 3 channels"


def test_a7_principal_components_are_those_of_the_covariance(photos):
    eigenvalues, eigenvectors = ChannelStatistics.of(photos).principal_components
    covariance = np.cov(photos.images.reshape(-1, 3).T / 255, bias=True)
    expected_values, expected_vectors = np.linalg.eigh(covariance)
    assert np.allclose(eigenvalues, expected_values, rtol=1e-10, atol=0)
    assert np.allclose(np.abs((eigenvectors * expected_vectors).sum(0)), 1)  # the same lines; a sign is free
    assert np.allclose(covariance @ eigenvectors, eigenvectors * eigenvalues)


def test_a7_the_colour_shift_is_along_the_components_in_proportion_to_their_eigenvalues(photos):
    statistics = ChannelStatistics.of(photos)
    eigenvalues, eigenvectors = statistics.principal_components
    shift = colour_shift(statistics, np.arange(20_000), epoch=0, seed=0, alpha_std=0.1)
    alpha = shift @ eigenvectors / eigenvalues
    assert shift.shape == (20_000, 3)
    assert np.allclose(alpha.mean(0), 0, atol=4 * 0.1 / np.sqrt(20_000))  # four standard errors of the mean, of the std
    assert np.allclose(alpha.std(0), 0.1, atol=4 * 0.1 / np.sqrt(40_000))
    assert np.abs(np.corrcoef(alpha.T) - np.eye(3)).max() < 4 / np.sqrt(20_000)


def test_a7_the_colour_shift_is_one_number_a_channel_for_the_whole_image(photos):
    statistics, indices = ChannelStatistics.of(photos), np.arange(20)
    coloured = prepared(statistics, photos.images, Augment(colour=0.1), indices, 3, 5)
    difference = coloured - prepared(statistics, photos.images)
    assert np.abs(difference - difference[:, :1, :1]).max() < 1e-5
    shift = colour_shift(statistics, indices, 3, 5)
    assert np.allclose(difference[:, 0, 0], shift / statistics.std, atol=1e-5) and np.abs(shift).min() > 0


def test_a7_alpha_0_is_the_identity(photos):
    statistics = ChannelStatistics.of(photos)
    plain = prepared(statistics, photos.images)
    assert not colour_shift(statistics, np.arange(20), 0, 0, alpha_std=0).any()
    assert np.array_equal(prepared(statistics, photos.images, Augment(colour=0)), plain)


def test_normals_are_normal():
    values = normals(np.arange(40_000), 0, 0, 5)
    assert values.shape == (40_000, 5)
    assert np.abs(np.corrcoef(values.T) - np.eye(5)).max() < 4 / np.sqrt(40_000)
    values.sort(axis=0)
    for quantile, expected in ((0.02275, -2), (0.15866, -1), (0.5, 0), (0.84134, 1), (0.97725, 2)):
        density = np.exp(-(expected**2) / 2) / np.sqrt(2 * np.pi)
        standard_error = np.sqrt(quantile * (1 - quantile) / 40_000) / density
        assert np.abs(values[int(quantile * 40_000)] - expected).max() < 4 * standard_error


def test_below_reaches_both_ends_evenly():
    words = np.linspace(0, 2**32 - 1, 330_000).astype(np.uint64)
    counts = np.bincount(below(words, 33))
    assert len(counts) == 33 and counts.min() >= 9_999 and counts.max() <= 10_001


def test_a_random_crop_takes_every_place_and_the_mirror_half_of_the_images():
    count = 4000
    batch = np.broadcast_to(positions(1, 6, 5), (count, 6, 5, 3))
    out = augmented(Augment(mirror=True, crop=4), batch, np.arange(count))
    views = {}
    for top in range(3):
        for left in range(2):
            window = batch[0, top : top + 4, left : left + 4]
            views[window.tobytes()], views[window[:, ::-1].tobytes()] = (top, left, False), (top, left, True)
    seen = [views[image.tobytes()] for image in out]
    for view in views.values():
        assert abs(seen.count(view) - count / 12) < 4 * np.sqrt(count / 12)


def test_padding_moves_the_image_over_black():
    batch = np.full((500, 4, 4, 1), 9, np.uint8)
    out = augmented(Augment(padding=2), batch, np.arange(500))
    assert out.shape == batch.shape
    shown = out[..., 0] == 9
    rows, columns = shown.any(2).sum(1), shown.any(1).sum(1)
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4}
    assert np.array_equal(shown.sum((1, 2)), rows * columns) and not out[..., 0][~shown].any()


def test_without_anything_asked_for_nothing_is_done():
    batch = positions(2, 4, 4)
    assert augmented(Augment(), batch, np.arange(2)) is batch
    assert augmented(CenterCrop(), batch, np.arange(2)) is batch


@pytest.mark.parametrize(
    "augment",
    [Augment(mirror=True), Augment(crop=5), Augment(padding=2), Augment(mirror=True, crop=6, padding=1, colour=0.1)],
    ids=["mirror", "crop", "padding", "all"],
)
def test_a_sample_is_augmented_the_same_in_any_batch(photos, augment):
    statistics, images, all_indices = ChannelStatistics.of(photos), photos.images.copy(), np.arange(20)
    together = prepared(statistics, images, augment, all_indices, 4, 7)
    for part in np.split(np.random.default_rng(0).permutation(20), [1, 4, 11]):
        assert np.array_equal(prepared(statistics, images[part], augment, part, 4, 7), together[part])
    assert not np.array_equal(prepared(statistics, images, augment, all_indices, 5, 7), together)
    assert not np.array_equal(prepared(statistics, images, augment, all_indices, 4, 8), together)
    assert np.array_equal(images, photos.images)


def test_for_evaluation_nothing_is_random(photos):
    augment = Augment(mirror=True, crop=5, padding=3, colour=0.1)
    statistics = ChannelStatistics.of(photos)
    first, second = (prepared(statistics, photos.images, augment.for_evaluation(), epoch=epoch) for epoch in (0, 1))
    assert np.array_equal(first, second)
    assert np.array_equal(first, prepared(statistics, photos.images[:, 2:7, 1:6]))


def test_center_crop():
    batch = positions(2, 9, 8)
    assert np.array_equal(augmented(CenterCrop(4), batch, np.arange(2)), batch[:, 2:6, 2:6])
    assert np.array_equal(augmented(CenterCrop(8), batch, np.arange(2)), batch[:, 0:8])


def test_a7_ten_crops_in_their_order():
    batch = positions(2, 9, 7)
    crops = ten_crops(batch, 5)
    assert crops.shape == (2, 10, 5, 5, 3)
    centre, top_left, top_right, bottom_left, bottom_right = (
        batch[:, 2:7, 1:6],
        batch[:, :5, :5],
        batch[:, :5, -5:],
        batch[:, -5:, :5],
        batch[:, -5:, -5:],
    )
    for i, expected in enumerate((centre, top_left, top_right, bottom_left, bottom_right)):
        assert np.array_equal(crops[:, i], expected)
        assert np.array_equal(crops[:, 5 + i], expected[:, :, ::-1])
    assert len({crops[0, i].tobytes() for i in range(10)}) == 10


def test_a7_a_crop_of_224_has_33_by_33_places_in_256():
    """The paper counts 32 x 32 places and two mirrors, 2048 views; with both ends there are 33 x 33, 2178 views."""
    offsets = below(np.arange(2**20, dtype=np.uint64) * np.uint64(2**12), 256 - 224 + 1)
    assert len(np.unique(offsets)) == 33
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    batch = np.broadcast_to(image, (64, 256, 256, 3))
    out = augmented(Augment(mirror=True, crop=224), batch, np.arange(64))
    assert out.shape == (64, 224, 224, 3) and len({view.tobytes() for view in out}) >= 60


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            Augment(crop=9),
            "a crop of 9x9 does not fit into images of 9x7: take a smaller crop, larger images or padding",
        ),
        (CenterCrop(8), "a crop of 8x8 does not fit into images of 9x7: take a smaller crop, larger images or padding"),
    ],
)
def test_crops_that_do_not_fit(photos, transform, message):
    with pytest.raises(DataError) as error:
        Prepare(ChannelStatistics.of(photos), transform)(photos.images, np.arange(20), 0, 0)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": 0}, "Augment: crop is 0: expected at least 1"),
        ({"padding": -1}, "Augment: padding is -1: expected at least 0"),
        ({"colour": float("nan")}, "Augment: colour is nan: expected at least 0"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(DataError) as error:
        Augment(**arguments)
    assert str(error.value) == message
