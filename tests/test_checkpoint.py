"""Checkpoint files: round trip, atomicity, and a clear refusal of everything that is none."""

import os

import numpy as np
import pytest
import safetensors.numpy

from minicnn import checkpoint
from minicnn.checkpoint import CheckpointError

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1 << 40], np.int64)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, ARRAYS, {"epoch": 3})
    return path


def test_round_trip(saved):
    arrays, description = checkpoint.read(saved)
    assert description == {"epoch": 3}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_the_same_state_gives_the_same_bytes(tmp_path):
    """safetensors keeps its metadata in a hash map, whose order is another one each time."""
    written = set()
    for i in range(8):
        path = tmp_path / f"{i}.safetensors"
        checkpoint.write(path, ARRAYS, {"epoch": 3, "loss": 0.5})
        written.add(path.read_bytes())
    assert len(written) == 1


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"is damaged or no checkpoint of minicnn"):
        checkpoint.read(saved)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"is damaged or no checkpoint of minicnn"):
        checkpoint.read(path)


def test_foreign_safetensors_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    with pytest.raises(CheckpointError, match=r"is a safetensors file, but not a checkpoint of minicnn$"):
        checkpoint.read(path)


def test_a_newer_version_is_refused(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 0)
    with pytest.raises(CheckpointError, match=r"has checkpoint version 1, this minicnn reads up to 0: update it$"):
        checkpoint.read(saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"^there is no checkpoint .*nothing\.safetensors$"):
        checkpoint.read(tmp_path / "nothing.safetensors")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(saved, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match="No space left on device; the one before it is untouched"):
        checkpoint.write(saved, {"a": np.zeros(9)}, {})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_disk_that_fills_up_while_writing_is_reported(saved):
    """A limit on the size of this process's files stands in for the full disk: the kernel refuses the same write."""
    resource = pytest.importorskip("resource")
    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"^cannot write .*the one before it is untouched$"):
            checkpoint.write(saved, {"a": np.ones(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
