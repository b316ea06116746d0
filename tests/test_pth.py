"""Files of torch.save without PyTorch: both formats, every dtype, and nothing called that a state dict does not need."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from minicnn import pth
from minicnn.checkpoint import CheckpointError

LEGACY = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def save(torch, state, path, legacy):
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


@LEGACY
def test_every_dtype_and_stride_comes_back(legacy, tmp_path, torch):
    dtypes = (
        *(torch.float32, torch.float64, torch.float16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
    numbers = torch.arange(24).reshape(2, 3, 4) % 2 * torch.arange(24).reshape(2, 3, 4)
    state = OrderedDict((str(dtype), numbers.to(dtype)) for dtype in dtypes)
    state["transposed"] = torch.arange(12.0).reshape(3, 4).T
    state["part"], state["last"] = state["transposed"][1:, 1], state["torch.float32"][1, 2, 3:]
    state["channels last"] = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state["scalar"], state["empty"] = torch.tensor(3.5), torch.zeros(0, 3)
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    read = pth.read(save(torch, state, tmp_path / "state.pth", legacy))
    assert list(read) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        assert read[name].dtype == expected.dtype
        np.testing.assert_array_equal(read[name], expected, err_msg=name)


class Runs:
    """A pickle that calls a function as it is read."""

    def __reduce__(self):
        return os.system, ("echo called",)


@LEGACY
def test_a_pickle_that_calls_something_is_refused(legacy, tmp_path, torch, capfd):
    path = save(torch, {"weight": torch.ones(2), "other": Runs()}, tmp_path / "evil.pth", legacy)
    with pytest.raises(CheckpointError, match=r"asks for (posix|nt)\.system, and only tensors are read"):
        pth.read(path)
    assert "called" not in capfd.readouterr().out


def test_a_plain_pickle_that_calls_something_is_refused(tmp_path, capfd):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(CheckpointError, match="only tensors are read"):
        pth.read(path)
    assert "called" not in capfd.readouterr().out


@LEGACY
def test_a_whole_module_is_refused(legacy, tmp_path, torch):
    path = save(torch, torch.nn.Linear(2, 2), tmp_path / "module.pth", legacy)
    with pytest.raises(CheckpointError, match=r"save model\.state_dict"):
        pth.read(path)


@LEGACY
def test_what_is_no_state_dict_is_refused(legacy, tmp_path, torch):
    path = save(torch, {"epoch": 3, "model": {"weight": torch.ones(2)}}, tmp_path / "run.pth", legacy)
    with pytest.raises(CheckpointError, match=r"run\.pth: it holds no state dict"):
        pth.read(path)


@LEGACY
def test_every_shortened_file_is_refused(legacy, tmp_path, torch):
    whole = save(torch, {"weight": torch.arange(100.0)}, tmp_path / "whole.pth", legacy).read_bytes()
    path = tmp_path / "short.pth"
    for length in {*range(0, len(whole), 37), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"short\.pth"):
            pth.read(path)


def rewritten(source, target, change):
    """The zip archive with each file's bytes as change(name, bytes) has them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_a_tensor_that_reaches_past_its_storage_is_refused(tmp_path, torch):
    path = save(torch, {"weight": torch.arange(100.0)}, tmp_path / "state.pth", legacy=False)

    def longer(name, content):  # size (100,) in the pickle becomes (101,)
        return content.replace(b"K\x00Kd\x85", b"K\x00Ke\x85") if name.endswith("data.pkl") else content

    changed = rewritten(path, tmp_path / "changed.pth", longer)
    with pytest.raises(CheckpointError, match=r"a tensor of \(101,\) at 0 does not lie within its storage of 100"):
        pth.read(changed)


def test_big_endian_numbers_are_refused(tmp_path, torch):
    path = save(torch, {"weight": torch.arange(3.0)}, tmp_path / "state.pth", legacy=False)
    changed = rewritten(path, tmp_path / "big.pth", lambda name, b: b"big" if name.endswith("byteorder") else b)
    with pytest.raises(CheckpointError, match="big-endian"):
        pth.read(changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), (b"", "is damaged or no file of torch.save"), (b"weights", "is damaged or no file")],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "file.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        pth.read(path)
