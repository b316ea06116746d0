"""Resizing: against its formula in loops, against Pillow, in each instruction set's kernels and without any."""

import numpy as np
import pytest
from conftest import unavailable
from image_files import write_folder
from PIL import Image

from minicnn import backend
from minicnn.data import Augment, DataError, ImageFolder, read_image
from minicnn.data.pictures import View, cut_view, rescaled
from minicnn.data.resize import resize

PATHS = ("avx512", "avx2", "baseline", "pillow")


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """What resizes in this test: the kernels of an instruction set, or Pillow."""
    module = None
    if request.param != "pillow":
        baseline = backend.native_module() and backend._module("_native_baseline")
        if baseline is None or request.param not in baseline.instruction_sets():
            unavailable(f"native kernels for {request.param}", "not compiled, or not for this processor")
        module = backend._module(f"_native_{request.param}")
    monkeypatch.setattr("minicnn.data.resize.native_module", lambda: module)
    return request.param


def noise(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def along_rows(image, begin, end, outputs):
    """(H, W, C) to (H, outputs, C): a triangle of weights about each output's centre, in units of 2^-22. The box and its
    extents are float32."""
    scale = float(end - begin) / outputs
    centres = float(begin) + (np.arange(outputs) + 0.5) * scale
    distances = np.abs(np.arange(image.shape[1]) + 0.5 - centres[:, None])
    heights = np.maximum(0, 1 - distances / max(scale, 1))
    weights = np.floor(heights / heights.sum(1, keepdims=True) * 2**22 + 0.5).astype(np.int64)
    return (weights @ image.astype(np.int64) + 2**21 >> 22).clip(0, 255)


def by_formula(image, box, size, mirrored=False):
    left, top, right, bottom = np.float32(box)
    rows = along_rows(image, left, right, size[1])
    resized = along_rows(rows.transpose(1, 0, 2), top, bottom, size[0]).transpose(1, 0, 2)
    return resized[:, ::-1] if mirrored else resized


def by_pillow(image, box, size):
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.atleast_3d(np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box)))


def differences(one, other):
    assert one.shape == other.shape and one.dtype == np.uint8
    return np.abs(one.astype(int) - other)


def check(image, box, size, mirrored=False):
    """The bytes of the formula; and Pillow's, but where it went down the columns first, and rounded elsewhere."""
    resized = resize(image, box, size, mirrored)
    assert resized.dtype == np.uint8 and np.array_equal(resized, by_formula(image, box, size, mirrored))
    expected = by_pillow(image, box, size)
    assert differences(resized[:, ::-1] if mirrored else resized, expected).max() <= 1


@pytest.mark.parametrize("seed", range(30))
def test_any_box_at_any_size(path, seed):
    rng = np.random.default_rng(seed)
    most = (4, 25, 70)[seed % 3]
    image = noise(*rng.integers(1, most, 2), (1, 3)[seed // 3 % 2], seed)
    height, width, _ = image.shape
    (left, right), (top, bottom) = np.sort(rng.random(2)) * width, np.sort(rng.random(2)) * height
    check(image, (left, top, right, bottom), tuple(rng.integers(1, 60, 2).tolist()), bool(seed % 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("extents", "box", "size"),
    [
        ((1, 1), (0, 0, 1, 1), (1, 1)),
        ((1, 1), (0, 0, 1, 1), (17, 5)),
        ((1, 1), (0.25, 0.5, 0.26, 0.51), (3, 4)),
        ((40, 30), (0, 0, 30, 40), (1, 1)),
        ((1, 900), (0, 0, 900, 1), (9, 7)),
        ((900, 1), (0, 0, 1, 900), (7, 9)),
        ((900, 2), (0, 450, 2, 451), (30, 60)),
        ((20, 30), (0, 0, 11, 9), (8, 8)),
        ((20, 30), (19, 0, 30, 9), (8, 8)),
        ((20, 30), (0, 11, 11, 20), (8, 8)),
        ((20, 30), (19, 11, 30, 20), (24, 24)),
        ((20, 30), (29.5, 19.5, 30, 20), (2, 2)),
        ((33, 47), (0, 0, 47, 33), (33, 47)),
    ],
    ids=str,
)
def test_pixels_slivers_and_borders(path, extents, box, size, channels):
    for mirrored in (False, True):
        check(noise(*extents, channels), box, size, mirrored)


def test_the_whole_image_at_its_own_size_is_the_image(path):
    image = noise(19, 23, 3)
    assert np.array_equal(resize(image, (0, 0, 23, 19), (19, 23)), image)


@pytest.mark.parametrize("extents", [(1, 70_000), (70_000, 1), (400, 300)])
def test_white_stays_white_and_black_black(path, extents):
    """Also where the roundings of many weights add up."""
    for value in (0, 255):
        image = np.full((*extents, 3), value, np.uint8)
        for size in ((1, 1), (3, 2)):
            assert (resize(image, (0, 0, extents[1], extents[0]), size) == value).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_wide_picture_in_proportion_has_pillows_bytes(path, seed, channels):
    """Whatever Pillow's version."""
    rng = np.random.default_rng(seed)
    image = noise(*np.sort(rng.integers(60, 500, 2)), channels, seed)
    height, width, _ = image.shape
    side = int(rng.integers(height // 3, 2 * height))
    shrink, crop = height / side, int(rng.integers(1, side))
    left, top = rng.random() * (width - crop * shrink), rng.random() * (height - crop * shrink)
    box = (left, top, left + crop * shrink, top + crop * shrink)
    expected = by_pillow(image, box, (crop, crop))
    assert np.array_equal(resize(image, box, (crop, crop)), expected)
    assert np.array_equal(resize(image, box, (crop, crop), mirrored=True), expected[:, ::-1])


@pytest.mark.parametrize("extents", [(5000, 7000), (60_000, 300), (300, 60_000)])
def test_huge_images(path, extents):
    image = np.repeat(noise(extents[0] // 100, extents[1] // 10, 1), 100, 0).repeat(10, 1)
    height, width, _ = image.shape
    box = (width / 7, height / 5, width, height)
    assert differences(resize(image, box, (224, 224)), by_pillow(image, box, (224, 224))).max() <= 1


def test_only_what_lies_under_the_box_counts(path):
    image = noise(60, 80, 3)
    other = 255 - image
    other[18:43, 28:53] = image[18:43, 28:53]
    box = (30, 20, 51, 41)
    assert np.array_equal(resize(image, box, (14, 14)), resize(other, box, (14, 14)))
    other[20:41, 50] = 255 - image[20:41, 50]
    assert not np.array_equal(resize(image, box, (14, 14)), resize(other, box, (14, 14)))


def test_any_array_of_bytes_is_taken_and_none_is_written(path):
    image = noise(30, 40, 3)
    before, expected = image.copy(), resize(image, (3, 4, 33, 24), (16, 24))
    image.flags.writeable = False
    strided = np.repeat(image, 2, 1)[:, ::2]
    for same in (image, strided, np.asfortranarray(image)):
        resized = resize(same, (3, 4, 33, 24), (16, 24))
        assert np.array_equal(resized, expected)
        resized[...] = 0  # new memory
    assert np.array_equal(image, before)


def test_files_are_read_with_it(path, tmp_path):
    """Wide and high pictures: the central square; and rescaled, cropped and mirrored."""
    root = write_folder(tmp_path / "folder", ("a", "b"), count=0)
    for i, extents in enumerate([(100, 75), (64, 200), (130, 131), (33, 90)]):
        Image.fromarray(noise(*extents, 3, i)).save(root / "ab"[i % 2] / f"{i}.png")
    folder, augment = ImageFolder(root, 24), Augment(mirror=True, crop=30, scale=(32, 64))
    indices = np.arange(4)
    read, augmented = folder.read(indices), augment.read(folder, indices, 1, 2)
    for index, view in enumerate(augment.views(indices, 1, 2)):
        image = folder.picture(index, 24)
        height, width = rescaled(image.shape[:2], view.side)
        left, top = view.column * (width - 29) >> 32, view.row * (height - 29) >> 32
        across, down = image.shape[1] / width, image.shape[0] / height
        box = (left * across, top * down, (left + 30) * across, (top + 30) * down)
        assert np.array_equal(augmented[index], by_formula(image, box, (30, 30), view.mirrored))
        side = min(image.shape[:2])
        top, left = ((extent - side) // 2 for extent in image.shape[:2])
        assert np.array_equal(read[index], by_formula(image, (left, top, left + side, top + side), (24, 24)))
    assert np.array_equal(read_image(folder.paths[2], 24), read[2])
    assert any(view.mirrored for view in augment.views(indices, 1, 2))


def test_a_window_of_an_image_that_is_not_rescaled_is_copied(path):
    image = noise(20, 30, 3)
    window = cut_view(image, View(None, 2**31, 2**31, True), (8, 9))
    assert np.array_equal(window, image[6:14, 11:20][:, ::-1])


IMAGE = np.zeros((20, 30, 3), np.uint8)
BOX_ORDER = "from the left and the top to the right and the bottom: expected a part of an image of 20x30"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (IMAGE[..., 0], (0, 0, 1, 1), (1, 1)),
            "resize: the image is (20, 30) uint8: expected (H, W, 3) or (H, W, 1) uint8",
        ),
        (
            (IMAGE[..., :2], (0, 0, 1, 1), (1, 1)),
            "resize: the image is (20, 30, 2) uint8: expected (H, W, 3) or (H, W, 1) uint8",
        ),
        (
            (IMAGE / 1, (0, 0, 1, 1), (1, 1)),
            "resize: the image is (20, 30, 3) float64: expected (H, W, 3) or (H, W, 1) uint8",
        ),
        (
            (IMAGE[:0], (0, 0, 1, 1), (1, 1)),
            "resize: the image is (0, 30, 3) uint8: expected (H, W, 3) or (H, W, 1) uint8",
        ),
        ((IMAGE, (0, 0, 1, 1), (0, 5)), "resize: the size is 0x5: expected at least 1 pixel a side"),
        (
            (IMAGE, (0, 0, 1, 1), (1, 2**24 + 1)),
            "resize: from 20x30 to 1x16777217: expected at most 16,777,216 pixels a side",
        ),
        ((IMAGE, (0, 0, 30.5, 20), (5, 5)), f"resize: the box is (0.0, 0.0, 30.5, 20.0), {BOX_ORDER}"),
        ((IMAGE, (0, -1, 30, 20), (5, 5)), f"resize: the box is (0.0, -1.0, 30.0, 20.0), {BOX_ORDER}"),
        ((IMAGE, (9, 5, 9, 6), (5, 5)), f"resize: the box is (9.0, 5.0, 9.0, 6.0), {BOX_ORDER}"),
        ((IMAGE, (0, 0, 9, float("nan")), (5, 5)), f"resize: the box is (0.0, 0.0, 9.0, nan), {BOX_ORDER}"),
    ],
)
def test_what_is_refused(path, arguments, message):
    with pytest.raises(DataError) as error:
        resize(*arguments)
    assert str(error.value) == message
