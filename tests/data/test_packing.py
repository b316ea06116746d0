"""Packed folders: the same images, labels and statistics as the files, whole or not at all, and what damage is told as."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from image_files import truncated
from PIL import Image

from minicnn import cli, data
from minicnn.data import ChannelStatistics, DataError, ImageFolder, PackedImages, packing

SIZE = 12
SHARD_BYTES = 5 * SIZE * SIZE * 3  # five images


def write_photos(root, counts, seed=0):
    """PNGs of noise, `counts[name]` of them in the class folder `name`, of 20 x 14."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (14, 20, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos" / "train", {"cat": 8, "dog": 5})
    write_photos(tmp_path / "photos" / "val", {"cat": 1, "dog": 2}, seed=1)
    return tmp_path / "photos"


@pytest.fixture
def shards(photos, tmp_path):
    return data.pack(photos, tmp_path / "packed", image_size=SIZE, shard_bytes=SHARD_BYTES)


def test_a_packed_folder_is_the_folder(photos, shards, tmp_path):
    folder, images = data.open(photos, image_size=SIZE), data.open(shards)
    assert images.class_names == ("cat", "dog") and images.test is None and images.name == str(shards)
    for ours, theirs in ((images.train, folder.train), (images.validation, folder.validation)):
        assert isinstance(ours, PackedImages) and ours.image_shape == (SIZE, SIZE, 3)
        assert np.array_equal(ours.images, theirs.images) and np.array_equal(ours.labels, theirs.labels)
    assert [len(shard) for shard in images.train.shards] == [5, 5, 3]
    some, labels = images.train[np.array([12, 0, 5, 4, 12])]
    assert np.array_equal(some, folder.train.images[[12, 0, 5, 4, 12]]) and labels.tolist() == [1, 0, 0, 0, 1]
    some[...] = 0  # the caller's own
    assert np.array_equal(images.train.images, folder.train.images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "photos"]
    names = ["pack.json", "train-00000.npy", "train-00001.npy", "train-00002.npy", "train-labels.npy"]
    assert sorted(path.name for path in shards.iterdir()) == [*names, "validation-00000.npy", "validation-labels.npy"]


def test_images_are_not_copied_before_their_batch(shards):
    train = data.open(shards).train
    first, again = (next(iter(train.peek(np.array([7])))) for _ in range(2))
    assert np.shares_memory(first, again) and np.shares_memory(first, train.shards[1]) and not first.flags.writeable


def test_statistics_are_those_of_the_training_images(photos, shards):
    folder, images = data.open(photos, image_size=SIZE), data.open(shards)
    expected = ChannelStatistics.of(folder.train)
    assert images.train.statistics == expected and ChannelStatistics.of(images.train) == expected
    for ours, theirs in zip(images.train.statistics.principal_components, expected.principal_components, strict=True):
        assert np.array_equal(ours, theirs)
    assert images.validation.statistics is None


def test_without_validation_images_some_are_held_out(photos, tmp_path):
    images = data.open(data.pack(photos / "train", tmp_path / "packed", image_size=SIZE), validation_fraction=0.25)
    assert len(images.train) == 10 and len(images.validation) == 3
    assert images.train.statistics == ChannelStatistics.of(ImageFolder(photos / "train", SIZE))


def test_another_image_size_is_resized(shards):
    assert data.open(shards, image_size=6).image_shape == (6, 6, 3)
    assert isinstance(data.open(shards, image_size=SIZE).train, PackedImages)


def test_a_worker_process_opens_the_files_itself(shards):
    train = data.open(shards).train
    message = pickle.dumps(train)
    assert len(message) < 1000 and np.array_equal(pickle.loads(message).images, train.images)


def test_an_interrupted_pack_is_gone_on_with(photos, tmp_path):
    whole = data.pack(photos, tmp_path / "whole", image_size=SIZE, shard_bytes=SHARD_BYTES)

    def interrupt(done, total):
        assert total == 16
        if done >= 10:
            raise KeyboardInterrupt

    out, arguments = tmp_path / "packed", {"image_size": SIZE, "shard_bytes": SHARD_BYTES}
    with pytest.raises(KeyboardInterrupt):
        data.pack(photos, out, report=interrupt, **arguments)
    assert not out.exists()
    kept = (tmp_path / "packed.partial" / "train-00000.npy").stat().st_mtime_ns
    reported = []
    data.pack(photos, out, report=lambda done, total: reported.append(done), **arguments)
    assert reported[0] == 10 and reported[-1] == 16 and reported == sorted(reported)
    assert (out / "train-00000.npy").stat().st_mtime_ns == kept
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    assert not (tmp_path / "packed.partial").exists()


@pytest.mark.parametrize("change", ["image_size", "shard_bytes", "file", "foreign"])
def test_an_unfinished_pack_of_something_else_is_refused(photos, tmp_path, change):
    out, arguments = tmp_path / "packed", {"image_size": SIZE, "shard_bytes": SHARD_BYTES}

    def interrupt(done, total):
        raise KeyboardInterrupt

    if change == "foreign":
        (tmp_path / "packed.partial").mkdir()
    else:
        with pytest.raises(KeyboardInterrupt):
            data.pack(photos, out, report=interrupt, **arguments)
    if change == "file":
        (photos / "train" / "dog" / "0.png").rename(photos / "train" / "dog" / "new.png")
    with pytest.raises(DataError) as error:
        data.pack(photos, out, **(arguments | ({change: 6} if change in arguments else {})))
    assert str(error.value) == (
        f"{tmp_path}/packed.partial is an unfinished pack of other images, or in other shards: remove it, then pack again"
    )


def test_packs_that_are_refused(photos, tmp_path):
    for arguments, message in (
        ({"out": photos}, f"{photos} is there already: choose another name, or remove it"),
        ({"shard_bytes": 0}, "shard_bytes is 0: expected at least 1"),
        ({"image_size": 0}, "image_size is 0: expected at least 1 pixel"),
    ):
        with pytest.raises(DataError) as error:
            data.pack(photos, **({"out": tmp_path / "packed"} | arguments))
        assert str(error.value) == message
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_unreadable_image_is_named_or_left_out(photos, tmp_path):
    path = truncated(photos / "train" / "cat" / "half.png")
    with pytest.raises(DataError) as error:
        data.pack(photos, tmp_path / "packed", image_size=SIZE)
    assert str(error.value).startswith(f"cannot read image {path}: ") and not (tmp_path / "packed").exists()
    (tmp_path / "packed.partial" / packing.PLAN).unlink()
    (tmp_path / "packed.partial" / "train-00000.npy").unlink()
    (tmp_path / "packed.partial").rmdir()
    data.pack(photos, tmp_path / "packed", image_size=SIZE, skip_unreadable=True)
    manifest = json.loads((tmp_path / "packed" / "pack.json").read_text())
    assert [file for file, _ in manifest["skipped"]] == [str(path)] and manifest["parts"]["train"]["images"] == 13


def test_a_full_disk_leaves_no_pack(photos, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        data.pack(photos, tmp_path / "packed", image_size=SIZE)
    assert not (tmp_path / "packed").exists()


def overwrite(path, offset, content):
    with open(path, "rb+") as file:
        file.seek(offset)
        file.write(content)


def test_damage_is_told(shards):
    shard, labels, manifest = shards / "train-00001.npy", shards / "train-labels.npy", shards / "pack.json"
    size = shard.stat().st_size

    def cut():
        os.truncate(shard, size - 1)

    def longer():
        os.truncate(shard, size + 1)

    def missing():
        shard.unlink()

    def foreign():
        shard.write_bytes(b"x" * size)

    def of_another_pack():
        other = (shards / "train-00002.npy").read_bytes()
        shard.write_bytes(other + bytes(size - len(other)))

    def labelled_otherwise():
        overwrite(labels, labels.stat().st_size - 8, b"\5")

    def no_json():
        manifest.write_text("{")

    def other_json():
        manifest.write_text("{}")

    def newer():
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 2}))

    def lacking():
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"image_size": None}))

    for damage, message in (
        (cut, f"{shard} is damaged, or no array of NumPy: "),
        (longer, f"{shard} is damaged: it has {size + 1} bytes, expected {size}"),
        (missing, f"cannot read {shard}: No such file or directory: it is a part of the packed images"),
        (foreign, f"{shard} is damaged, or no array of NumPy: "),
        (of_another_pack, f"{shard} holds (3, 12, 12, 3) uint8, expected (5, 12, 12, 3) uint8: it is of another pack"),
        (labelled_otherwise, f"{shards} is damaged: its shards, labels and class names do not match"),
        (no_json, f"{manifest} is damaged: "),
        (other_json, f"{manifest} does not describe images packed by minicnn"),
        (newer, f"{manifest} has version 2, this minicnn reads up to 1: update it"),
        (
            lacking,
            f"{shard.with_name('train-00000.npy')} holds (5, 12, 12, 3) uint8, expected (5, None, None, 3) uint8",
        ),
    ):
        before = {path: path.read_bytes() for path in shards.iterdir()}
        damage()
        with pytest.raises(DataError) as error:
            data.open(shards)
        assert str(error.value).startswith(message), damage
        for path, content in before.items():
            path.write_bytes(content)
    data.open(shards)


def test_parts_that_are_not_there(shards, tmp_path):
    with pytest.raises(DataError) as error:
        PackedImages(shards, "test")
    assert str(error.value) == f"{shards}/pack.json lacks 'test': expected the part test (it has train, validation)"
    with pytest.raises(DataError) as error:
        PackedImages(tmp_path)
    assert str(error.value) == (
        f"cannot read {tmp_path}/pack.json: No such file or directory: expected a folder that minicnn pack has made"
    )


def test_changed_bytes_are_found_by_a_check(shards, capsys):
    assert cli.main(["pack", str(shards), "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "train-labels.npy: as it was packed",
        "train-00000.npy: as it was packed",
    ]
    overwrite(shards / "train-00001.npy", 200, b"\0\1\2\3\4\5\6\7")
    data.open(shards)
    assert cli.main(["pack", str(shards), "--check"]) == 2
    expected = f"minicnn: {shards}/train-00001.npy is damaged: pack its folder again\n"
    assert capsys.readouterr().err == expected


def test_the_command(photos, tmp_path, capsys):
    out = tmp_path / "packed"
    arguments = ["pack", photos, out, "--size", SIZE, "--shard-bytes", SHARD_BYTES, "--workers", 0]
    assert cli.main([*map(str, arguments)]) == 0
    assert capsys.readouterr().out == f"{out}: 13 train, 3 validation images, 12x12x3, 2 classes\n"
    truncated(photos / "train" / "cat" / "half.png")
    assert cli.main(["pack", str(photos), str(tmp_path / "more"), "--skip-unreadable", "--size", "12"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"left out because they cannot be read: 1, listed in {tmp_path}/more/pack.json"
    )
    assert cli.main(["pack", str(photos)]) == 2
    assert capsys.readouterr().err == "minicnn: OUT is missing: expected minicnn pack FOLDER OUT\n"


def test_a_killed_pack_leaves_nothing_half_written(photos, tmp_path):
    """A real process, killed after its second shard; a second one makes of it what an undisturbed one makes."""
    script = (
        "import sys, time; from minicnn import data\n"
        "def report(done, total):\n    print(done, flush=True)\n    time.sleep(600 * (done >= 10))\n"
        f"data.pack(*sys.argv[1:], image_size={SIZE}, shard_bytes={SHARD_BYTES}, report=report)"
    )
    out = tmp_path / "packed"
    with subprocess.Popen(
        [sys.executable, "-c", script, photos, out], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert [process.stdout.readline() for _ in range(2)] == ["5\n", "10\n"]
        finally:
            process.send_signal(signal.SIGKILL)
    assert not out.exists() and (tmp_path / "packed.partial").exists()
    arguments = {"image_size": SIZE, "shard_bytes": SHARD_BYTES}
    whole = data.pack(photos, tmp_path / "whole", **arguments)
    data.pack(photos, out, **arguments)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
