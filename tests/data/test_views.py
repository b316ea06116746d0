"""What augmentation cuts out of images and pictures where they are read, against plain slices and formulas; fact V6."""

import numpy as np
import pytest
from image_files import quadrants
from PIL import Image

from minicnn.data import (
    ArrayDataset,
    Augment,
    CenterCrop,
    ChannelStatistics,
    DataError,
    ImageFolder,
    Loader,
    Prepare,
    Resized,
    Subset,
)
from minicnn.data.pictures import View, copy_window, cut_view, rescaled
from minicnn.evaluation import network_input
from minicnn.ops.prepare_images import cut

LAST = 2**32 - 1  # the word that draws the last place


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def photo(height, width, seed=0):
    """Smooth, as a photograph is: what lies between two pixels lies between their values."""
    return Image.fromarray(noise(height // 8, width // 8, seed=seed)).resize((width, height), Image.Resampling.BICUBIC)


def blank(width, height, colour=(255, 255, 255)):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.fixture
def images():
    return ArrayDataset(np.stack([noise(9, 7, seed=i) for i in range(20)]), np.arange(20) % 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 1), (-3, 2), (4, -2), (7, 6), (-4, -4), (-9, 0), (0, 9)])
def test_a_window_of_an_image(top, left, mirrored, channels):
    """Also one that reaches over the edges, or lies outside."""
    image = noise(8, 7, channels)
    padded = np.pad(image, ((12, 12), (12, 12), (0, 0)))
    expected = padded[12 + top : 12 + top + 4, 12 + left : 12 + left + 5]
    out = np.full((4, 5, channels), 99, np.uint8)
    copy_window(image, (top, left, mirrored), out)
    assert np.array_equal(out, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(mirror=True, crop=5),
        Augment(mirror=True, padding=2),
        Augment(crop=8, padding=3),
        CenterCrop(4),
    ],
    ids=str,
)
def test_what_is_read_is_what_the_device_would_cut(images, augment):
    indices = np.random.default_rng(1).permutation(20)
    windows = augment.windows(9, 7, indices, 3, 5)
    expected = cut(images.read(indices), windows, *augment.size(9, 7))
    read = augment.read(images, indices, 3, 5)
    assert read.shape[1:] == augment.batch_shape(images) and np.array_equal(read, expected)
    ((batch, labels),) = Loader(images, 20, augment, shuffle=True, seed=5).iterate(3)
    order = Loader(images, 20, shuffle=True, seed=5).order(3)
    assert np.array_equal(batch, augment.read(images, order, 3, 5)) and np.array_equal(labels, order % 2)


def test_views_of_pictures_have_the_windows_of_images(images):
    augment = Augment(mirror=True, crop=5, padding=2)
    for image, view, expected in zip(
        images.images, augment.views(np.arange(20), 3, 5), augment.read(images, np.arange(20), 3, 5), strict=True
    ):
        assert np.array_equal(cut_view(image, view, (5, 5), 2), expected)


def test_v6_the_side_is_drawn_evenly_from_the_least_to_the_most():
    count = 257 * 400
    views = Augment(crop=224, scale=(256, 512)).views(np.arange(count), 0, 0)
    sides = np.array([view.side for view in views])
    counts = np.bincount(sides - 256)
    assert len(counts) == 257 and np.abs(counts - 400).max() < 5 * np.sqrt(400)
    assert ((counts - 400) ** 2 / 400).sum() < 256 + 5 * np.sqrt(2 * 256)  # chi-square with 256 degrees of freedom
    places = np.array([[view.row, view.column, view.mirrored] for view in views], float)
    others = np.corrcoef(np.column_stack([sides, places[:, :2]]).T)[0, 1:]
    assert np.abs(others).max() < 4 / np.sqrt(count)
    assert {view.side for view in Augment(crop=224, scale=384).views(np.arange(50), 0, 0)} == {384}


@pytest.mark.parametrize(("width", "height"), [(50, 32), (32, 50), (20, 20)])
def test_v6_the_short_side_is_rescaled_and_the_window_lies_anywhere_in_the_whole_picture(width, height):
    picture = photo(8 * height, 8 * width).resize((width, height))
    whole = (28, 28 * height // width) if width <= height else (28 * width // height, 28)
    assert rescaled((width, height), 28) == whole
    expected = np.asarray(picture.resize(whole, Image.Resampling.BILINEAR)).astype(int)
    assert expected.shape[:2] == whole[::-1]
    for row in (0, LAST // 3, LAST):
        for column in (0, LAST // 2, LAST):
            window = cut_view(np.asarray(picture), View(28, row, column, False), (24, 20))
            top, left = row * (whole[1] - 23) >> 32, column * (whole[0] - 19) >> 32
            assert np.abs(window - expected[top : top + 24, left : left + 20]).max() <= 1
            mirrored = cut_view(np.asarray(picture), View(28, row, column, True), (24, 20))
            assert np.array_equal(mirrored, window[:, ::-1])
    assert top == whole[1] - 24 and left == whole[0] - 20  # the last place reaches the edges


@pytest.mark.parametrize("extents", [(1, 1), (1, 9000), (9000, 1), (2, 3)])
def test_v6_pictures_of_a_pixel_and_slivers(extents):
    colour = (200, 100, 50)
    window = cut_view(blank(*extents, colour), View(256, LAST, LAST, True), (224, 224))
    assert window.shape == (224, 224, 3) and (window == colour).all()


def test_padding_is_put_round_the_rescaled_picture():
    white = blank(40, 20)
    corner = cut_view(white, View(10, 0, 0, False), (8, 8), padding=3)
    assert not corner[:3].any() and not corner[:, :3].any() and (corner[3:, 3:] == 255).all()
    corner = cut_view(white, View(10, LAST, LAST, False), (8, 8), padding=3)
    assert not corner[-3:].any() and not corner[:, -3:].any() and (corner[:-3, :-3] == 255).all()


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_pictures_are_turned_about_their_centre(angle):
    turned = cut_view(np.asarray(quadrants(32)), View(None, 0, 0, False, angle), (32, 32))
    expected = np.rot90(np.asarray(quadrants(32)), angle // 90)  # anticlockwise too
    assert np.array_equal(turned[2:14, 2:14], expected[2:14, 2:14])
    assert np.array_equal(turned[-14:-2, 2:14], expected[-14:-2, 2:14])


def test_corners_are_black_where_a_picture_was_turned():
    turned = cut_view(blank(40, 40), View(None, 0, 0, False, 45), (40, 40))
    assert not turned[0, 0].any() and not turned[-1, -1].any() and (turned[20, 20] == 255).all()


def test_brightness_contrast_and_saturation():
    """The formulas of Pillow's ImageEnhance: between black, the mean grey, or the pixel's grey, and the pixel."""
    image = noise(12, 12)
    grey = np.asarray(Image.fromarray(image).convert("L")).astype(float)[..., None]

    def shown(**factors):
        return cut_view(image, View(None, 0, 0, False, **factors), (12, 12)).astype(int)

    for factors, towards in (
        ({"brightness": 0.6}, 0),
        ({"brightness": 1.3}, 0),
        ({"contrast": 0.6}, round(grey.mean())),
        ({"saturation": 0.3}, grey),
        ({"saturation": 1.5}, grey),
    ):
        (factor,) = factors.values()
        assert np.abs(shown(**factors) - np.clip(towards + factor * (image.astype(float) - towards), 0, 255)).max() <= 1
    assert np.array_equal(shown(), image)
    one, other = shown(brightness=0.5, contrast=0.5), shown(brightness=0.5)
    assert np.abs(one.std() / other.std() - 0.5) < 0.02  # one after the other


def test_spreads_are_drawn_evenly_on_both_sides():
    count = 20_000
    views = Augment(rotation=30, brightness=0.1, contrast=0.2, saturation=0.4).views(np.arange(count), 0, 0)
    drawn = np.array([view[4:] for view in views])
    for values, middle, spread in zip(drawn.T, (0, 1, 1, 1), (30, 0.1, 0.2, 0.4), strict=True):
        values = np.sort((values - middle) / spread)
        assert -1 <= values[0] < -0.999 and 0.999 < values[-1] <= 1
        assert np.abs(values - np.linspace(-1, 1, count)).max() < 2 * 1.95 / np.sqrt(count)  # Kolmogorov, 0.001
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 4 / np.sqrt(count)
    assert {view[:1] + view[4:] for view in Augment(mirror=True).views(np.arange(9), 0, 0)} == {(None, 0, 1, 1, 1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """14 pictures, wide and high."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(14):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        photo(64 + 8 * i, 160 - 8 * i, seed=i).save(root / "ab"[i % 2] / f"{i:02}.png")
    return ImageFolder(root, 32)


EVERYTHING = Augment(True, 24, 2, scale=(26, 40), rotation=10, brightness=0.2, contrast=0.2, saturation=0.2)


@pytest.mark.parametrize("augment", [Augment(crop=24, scale=(26, 40)), EVERYTHING], ids=["scale", "everything"])
def test_a_sample_is_seen_the_same_in_any_batch(folder, augment):
    together = augment.read(folder, np.arange(14), 4, 7)
    for part in np.split(np.random.default_rng(0).permutation(14), [1, 4, 11]):
        assert np.array_equal(augment.read(folder, part, 4, 7), together[part])
    assert not np.array_equal(augment.read(folder, np.arange(14), 5, 7), together)
    assert not np.array_equal(augment.read(folder, np.arange(14), 4, 8), together)
    subset = Subset(folder, [3, 9])
    assert np.array_equal(subset.picture(1, 32), folder.picture(9, 32))
    assert subset.picture(0, 32).shape[:2] != (32, 32)


def test_only_scale_takes_the_whole_picture(folder):
    for dataset in (folder, Resized(folder, 20), Subset(folder, np.arange(14))):
        assert dataset.picture(0, 40).shape == (64, 160, 3)
        assert np.array_equal(dataset.picture(0), dataset.read(np.array([0]))[0])
    assert np.array_equal(folder.picture(1), folder.read(np.array([1]))[0])
    turned = Augment(rotation=1e-9).read(folder, np.arange(14), 0, 0)  # the stored squares, as good as not turned
    assert np.abs(turned[:, 1:-1, 1:-1].astype(int) - folder.images[:, 1:-1, 1:-1]).max() <= 1


def test_prepare_leaves_nothing_of_a_view_to_the_device(folder):
    statistics = ChannelStatistics.of(folder)
    augment = Augment(True, 24, scale=(26, 40), colour=0.1)
    prepare, indices = Prepare(statistics, augment), np.arange(14)
    read = prepare.read(folder, indices, 1, 2)
    assert np.array_equal(read, augment.read(folder, indices, 1, 2)) and prepare.batch_shape(folder) == (24, 24, 3)
    batch = prepare(read, indices, 1, 2)
    assert batch.size == (24, 24) and np.array_equal(batch.windows[:, 0], np.arange(14))
    assert not batch.windows[:, 1:].any()
    plain = Prepare(statistics, Augment(colour=0.1))(read, indices, 1, 2)
    assert np.array_equal(network_input(batch, "numpy").numpy(), network_input(plain, "numpy").numpy())


def test_scale_as_json_has_it():
    assert Augment(crop=224, scale=[256, 512]) == Augment(crop=224, scale=(256, 512))


NO_CROP = "Augment: scale needs a crop: rescaled pictures differ in their long sides"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation": -1}, "Augment: rotation is -1: expected at least 0"),
        ({"brightness": 2}, "Augment: brightness is 2: expected 0 to 1"),
        ({"contrast": float("nan")}, "Augment: contrast is nan: expected 0 to 1"),
        ({"saturation": -0.1}, "Augment: saturation is -0.1: expected 0 to 1"),
        ({"scale": 256}, NO_CROP),
        ({"scale": 0, "crop": 1}, "Augment: scale is 0: expected at least 1, and the lesser side first"),
        ({"scale": (9, 8), "crop": 1}, "Augment: scale is (9, 8): expected at least 1, and the lesser side first"),
        ({"scale": (8,), "crop": 1}, "Augment: scale is (8,): expected a short side or a pair, its least and its most"),
        ({"scale": (8, 12), "crop": 9}, "Augment: a crop of 9 does not fit into a short side of 8"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(DataError) as error:
        Augment(**arguments)
    assert str(error.value) == message


def test_a_crop_that_does_not_fit_into_the_images(images):
    with pytest.raises(DataError, match=r"^a crop of 8x8 does not fit into images of 9x7: "):
        Augment(crop=8, rotation=5).read(images, np.arange(2), 0, 0)
    assert Augment(crop=8, padding=1, scale=6).read(images, np.arange(2), 0, 0).shape == (2, 8, 8, 3)
