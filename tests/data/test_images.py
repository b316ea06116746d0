"""Image files of every kind, written by Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import BLUE, GREEN, RED, WHITE, corners, quadrants, truncated
from PIL import Image

from minicnn.data import DataError, images, read_image


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
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),  # the camera was turned: show it a quarter clockwise
        (7, [WHITE, GREEN, BLUE, RED]),
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


def test_sizes_and_channels_that_are_refused(tmp_path):
    for arguments, message in (
        ((0,), "image_size is 0: expected at least 1 pixel"),
        ((8, 4), "channels is 4: expected 3 (RGB) or 1 (grey)"),
    ):
        with pytest.raises(DataError) as error:
            read_image(tmp_path, *arguments)
        assert str(error.value) == message


def test_running_out_of_memory_is_not_the_files_fault(tmp_path, monkeypatch):
    def exhausted(file):
        raise MemoryError

    quadrants().save(tmp_path / "fine.png")
    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "fine.png", 8)


def png(width, height, bits, colour_type, rows=b""):
    """A PNG file of raw rows, each with its filter byte: Pillow writes no 16-bit colour."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_16_bit_colour_keeps_its_high_bytes(tmp_path):
    (tmp_path / "deep.png").write_bytes(png(1, 1, 16, 2, b"\0" + bytes([200, 1, 100, 2, 50, 3])))
    (tmp_path / "clear.png").write_bytes(png(1, 1, 16, 6, b"\0" + bytes([200, 1, 100, 2, 50, 3, 0, 0])))
    assert read_image(tmp_path / "deep.png", 1).tolist() == [[[200, 100, 50]]]
    assert read_image(tmp_path / "clear.png", 1).tolist() == [[[255, 255, 255]]]


def test_a_decompression_bomb_is_named(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20000, 20000, 1, 0))
    with pytest.raises(DataError) as error:
        read_image(path, 8)
    assert str(error.value).startswith(
        f"cannot read image {path}: Image size (400000000 pixels) exceeds limit of 178956970"
    )


def test_orientation_that_cannot_be_read_is_upright(tmp_path):
    quadrants().save(tmp_path / "noise.png", exif=b"Exif\0\0no orientation in here")
    assert np.array_equal(read_image(tmp_path / "noise.png", 8), np.asarray(quadrants()))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_turned_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quadrants(512).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    expected = {1: [RED, GREEN, BLUE, WHITE], 6: [BLUE, RED, WHITE, GREEN]}[orientation]
    difference = np.array(corners(read_image(tmp_path / "turned.jpg", 16))) - np.array(expected)
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [8, 100, 500])
def test_both_decoders_give_the_same_pixels(tmp_path, monkeypatch, mode, size):
    """Whichever is installed, and at whichever fraction it decodes."""
    pytest.importorskip("simplejpeg")
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((1001, 803), Image.Resampling.BICUBIC).convert(mode)
    picture.save(tmp_path / "noise.jpg", quality=90)
    sooner = read_image(tmp_path / "noise.jpg", size)
    monkeypatch.setattr(images, "simplejpeg", None)
    assert np.array_equal(sooner, read_image(tmp_path / "noise.jpg", size))


def test_what_the_stricter_decoder_refuses_is_left_to_pillow(tmp_path):
    """Bytes between two segments of the file: a warning to libjpeg, and Pillow reads on."""
    buffer = io.BytesIO()
    quadrants(64).save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    end = 4 + int.from_bytes(content[4:6], "big")  # of the first segment
    (tmp_path / "noise.jpg").write_bytes(content[:end] + b"\0\0\0" + content[end:])
    assert corners(read_image(tmp_path / "noise.jpg", 8))[0][0] >= 250
