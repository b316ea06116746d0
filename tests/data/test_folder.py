"""Image files of every kind, written by Pillow, and folders of class folders."""

import numpy as np
import pytest
from PIL import Image

from minicnn.data import ArrayDataset, DataError, ImageFolder, Resized, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants(size=8):
    """Red and green above, blue and white below."""
    pixels = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    pixels[:half, :half], pixels[:half, half:], pixels[half:, :half], pixels[half:, half:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def corners(pixels):
    return [tuple(int(v) for v in pixels[row, column]) for row in (0, -1) for column in (0, -1)]


def write_folder(root, classes, count=3, size=8):
    """Class c, image i: filled with (10 c, i, 0)."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (size, size), (10 * c, i, 0)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "gif"])
def test_lossless_formats_keep_every_pixel(tmp_path, extension):
    quadrants().save(tmp_path / f"image.{extension}")
    assert np.array_equal(read_image(tmp_path / f"image.{extension}", 8), np.asarray(quadrants()))


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_lossy_formats_come_close(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    quadrants(64).save(path, quality=95)
    difference = read_image(path, 64).astype(int) - np.asarray(quadrants(64))
    assert np.abs(difference)[4:28, 4:28].max() <= 12  # inside a quadrant: the chroma is subsampled at its edges


def test_a_large_jpeg_decoded_at_a_fraction_shows_the_same(tmp_path):
    path = tmp_path / "large.jpg"
    quadrants(1024).save(path, quality=95)
    pixels = read_image(path, 32)
    assert pixels.shape == (32, 32, 3)
    assert np.abs(pixels.astype(int) - np.asarray(quadrants(32)))[2:14, 2:14].max() <= 12


@pytest.mark.parametrize(("width", "height"), [(24, 8), (8, 24)])
def test_the_central_square_is_taken(tmp_path, width, height):
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(quadrants(8), ((width - 8) // 2, (height - 8) // 2))
    image.save(tmp_path / "wide.png")
    assert np.array_equal(read_image(tmp_path / "wide.png", 8), np.asarray(quadrants(8)))


def test_shrinking_averages_over_the_whole_footprint(tmp_path):
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.png")
    inner = read_image(tmp_path / "checks.png", 8)[1:-1, 1:-1].astype(int)
    assert np.abs(inner - 127).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (6, [BLUE, RED, WHITE, GREEN]),  # the camera was turned: show it a quarter clockwise
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quadrants().save(tmp_path / "turned.png", exif=exif)
    assert corners(read_image(tmp_path / "turned.png", 8)) == expected


def test_grey_palette_and_one_bit_become_rgb(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "bit.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "palette.png")
    for name, colour in (("grey", (77, 77, 77)), ("bit", WHITE), ("palette", (9, 8, 7))):
        assert corners(read_image(tmp_path / f"{name}.png", 4)) == [colour] * 4


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    pixel = read_image(tmp_path / "ink.jpg", 8)[4, 4].astype(int)
    assert pixel[0] >= 250 and max(pixel[1:]) <= 5


def test_transparency_shows_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(tmp_path / "solid.png")
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "grey.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([1, 2, 3])
    palette.save(tmp_path / "palette.png", transparency=0)
    for name, colour in (("clear", WHITE), ("solid", RED), ("grey", WHITE), ("palette", WHITE)):
        assert corners(read_image(tmp_path / f"{name}.png", 4)) == [colour] * 4


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, extension):
    values = np.array([[0, 257], [128 * 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{extension}")
    assert read_image(tmp_path / f"deep.{extension}", 2, channels=1)[..., 0].tolist() == [[0, 1], [128, 255]]


def test_grey_on_request(tmp_path):
    quadrants().save(tmp_path / "colour.png")
    grey = read_image(tmp_path / "colour.png", 8, channels=1)
    assert grey.shape == (8, 8, 1) and grey[0, 0, 0] == 76  # 0.299 * 255


def test_one_pixel_and_a_sliver(tmp_path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "one.png")
    Image.new("RGB", (1, 9000), RED).save(tmp_path / "sliver.png")
    for name in ("one.png", "sliver.png"):
        assert corners(read_image(tmp_path / name, 16)) == [RED] * 4


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "webp"])
def test_truncated_files_are_named(tmp_path, extension):
    path = truncated(tmp_path / f"half.{extension}")
    with pytest.raises(DataError) as error:
        read_image(path, 8)
    assert str(error.value).startswith(f"cannot read image {path}: ")


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    for name, reason in (
        ("text.jpg", "it is not an image of a known format"),
        ("empty.png", "it is not an image of a known format"),
        ("float.tif", "its pixels are of mode 'F': convert it to 8-bit RGB or grey"),
        ("absent.png", "No such file or directory"),
    ):
        with pytest.raises(DataError) as error:
            read_image(tmp_path / name, 8)
        assert str(error.value) == f"cannot read image {tmp_path / name}: {reason}"


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


def test_formats_that_are_refused(tmp_path):
    with pytest.raises(DataError) as error:
        ImageFolder(tmp_path, 0)
    assert str(error.value) == "image_size is 0: expected at least 1 pixel"
    with pytest.raises(DataError) as error:
        read_image(tmp_path, 8, channels=4)
    assert str(error.value) == "channels is 4: expected 3 (RGB) or 1 (grey)"


def test_running_out_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    def exhausted(path):
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "fine.png", 8)


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
