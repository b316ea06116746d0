"""IDX files, written here byte by byte as the format has them."""

import gzip
import struct

import numpy as np
import pytest

from minicnn.data import DataError, read_idx
from minicnn.data.idx import read_idx_pair


def idx_bytes(array):
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, sizes=(20, 10), joint="-", suffix=".gz"):
    """The four files of an MNIST-like set; image i of a split is filled with i, its label is i % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    compress = gzip.compress if suffix else bytes
    for stem, size in zip(("train", "t10k"), sizes, strict=True):
        numbers = np.arange(size, dtype=np.uint8)
        images = np.broadcast_to(numbers[:, None, None], (size, 28, 28))
        for what, array in (("images", images), ("labels", numbers % 10)):
            name = f"{stem}-{what}{joint}idx{array.ndim}-ubyte{suffix}"
            (folder / name).write_bytes(compress(idx_bytes(array)))
    return folder


ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_round_trip(tmp_path, compress):
    (tmp_path / "any-name").write_bytes(compress(idx_bytes(ARRAY)))
    assert np.array_equal(read_idx(tmp_path / "any-name"), ARRAY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path} is not an IDX file of uint8: it starts with , expected 00 00 08"),
        (b"\x89PNG..", "{path} is not an IDX file of uint8: it starts with 89 50 4e 47, expected 00 00 08"),
        (b"\0\0\x0d\1", "{path} is not an IDX file of uint8: it starts with 00 00 0d 01, expected 00 00 08"),
        (idx_bytes(ARRAY)[:14], "{path} is damaged: it ends inside its header"),
        (idx_bytes(ARRAY)[:-1], "{path} is damaged: its header says (2, 3, 4), 24 bytes, but 23 follow"),
        (idx_bytes(ARRAY) + b"\0", "{path} is damaged: its header says (2, 3, 4), 24 bytes, but 25 follow"),
        (
            gzip.compress(idx_bytes(ARRAY), mtime=0)[:-9],
            "cannot read {path}: Compressed file ended before the end-of-stream marker was reached",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert str(error.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("place", "reason"), [(10, "Error -3 while decompressing data: invalid block type"), (-8, "CRC check failed")]
)
def test_a_damaged_gzip_body_is_named(tmp_path, place, reason):
    """The first byte of the compressed data, which holds the block's type (7: a last block of no known type), and the CRC."""
    content = bytearray(gzip.compress(idx_bytes(ARRAY)))
    content[place] = 7 if place == 10 else content[place] ^ 0xFF
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(tmp_path / "images")
    assert str(error.value).startswith(f"cannot read {tmp_path / 'images'}: {reason}")


def test_missing_file():
    with pytest.raises(DataError) as error:
        read_idx("nowhere/images")
    assert str(error.value) == "cannot read nowhere/images: No such file or directory"


@pytest.mark.parametrize(("joint", "suffix"), [("-", ".gz"), ("-", ""), (".", "")])
def test_the_names_that_the_files_go_by(tmp_path, joint, suffix):
    write_set(tmp_path, joint=joint, suffix=suffix)
    test = read_idx_pair(tmp_path, "test", tuple("0123456789"))
    assert len(test) == 10 and test.image_shape == (28, 28, 1) and test.images[7, 0, 0, 0] == 7 and test.labels[7] == 7


def test_pairs_that_do_not_fit(tmp_path):
    write_set(tmp_path, suffix="")
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(9, np.uint8)))
    with pytest.raises(DataError) as error:
        read_idx_pair(tmp_path, "test", tuple("0123456789"))
    assert str(error.value) == (
        f"{tmp_path / 't10k-images-idx3-ubyte'} holds (10, 28, 28) and t10k-labels-idx1-ubyte (9,): "
        "expected images (N, H, W) and labels (N,)"
    )
    labels.unlink()
    with pytest.raises(DataError) as error:
        read_idx_pair(tmp_path, "test", tuple("0123456789"))
    assert str(error.value) == f"{tmp_path} lacks t10k-labels-idx1-ubyte[.gz]"
