"""Memory shared with other libraries: what one side writes, the other reads."""

import gc

import numpy as np
import pytest

import minicnn
from minicnn.errors import DeviceError

HOST = pytest.mark.parametrize("device", ["cpu", "numpy"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])


def values(dtype):
    return np.arange(12).reshape(3, 4).astype(dtype)


@HOST
@DTYPES
def test_a_tensor_of_torch_is_shared(device, dtype, torch):
    theirs = torch.tensor(values(dtype))
    ours = minicnn.from_dlpack(theirs, device)
    assert ours.device.name == device and ours.dtype.name == dtype and not ours.requires_grad
    theirs[1, 2] = 99
    assert ours.numpy()[1, 2] == 99
    ours.copy_(2 * values(dtype))
    assert theirs.tolist() == (2 * values(dtype)).tolist()


@HOST
@DTYPES
def test_torch_and_numpy_share_a_tensor(device, dtype, torch):
    ours = minicnn.tensor(values(dtype), device=device)
    theirs, array = torch.from_dlpack(ours), np.from_dlpack(ours)
    assert theirs.tolist() == array.tolist() == values(dtype).tolist()
    theirs[0, 1] = 77
    assert ours.numpy()[0, 1] == array[0, 1] == 77


def test_images_of_torch_in_channels_last_are_shared(torch):
    theirs = torch.randn(2, 3, 5, 4).to(memory_format=torch.channels_last)
    ours = minicnn.from_dlpack(theirs.permute(0, 2, 3, 1))
    theirs[1, 2, 3, 0] = 5.0
    assert ours.shape == (2, 5, 4, 3) and ours.numpy()[1, 3, 0, 2] == 5.0


def test_what_is_not_contiguous_is_copied(torch):
    theirs = torch.arange(12.0).reshape(3, 4).T
    ours = minicnn.from_dlpack(theirs)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    theirs[0, 0] = 9.0
    assert ours.numpy()[0, 0] == 0.0
    (ours * 2.0).sum().item()


def test_memory_lives_as_long_as_either_side(torch):
    theirs = torch.from_dlpack(minicnn.tensor(np.full(100_000, 3.0, np.float32)))
    ours = minicnn.from_dlpack(torch.full((100_000,), 4.0))
    gc.collect()
    for _ in range(3):
        minicnn.tensor(np.full(100_000, 7.0, np.float32))  # would take the memory, were it free
        torch.full((100_000,), 7.0)
    assert theirs.eq(3.0).all() and (ours.numpy() == 4.0).all()


def test_gradients_flow_into_shared_memory(torch):
    theirs = torch.ones(3)
    weight = minicnn.from_dlpack(theirs)
    weight.requires_grad = True
    (weight * minicnn.tensor(np.float32([1, 2, 3]))).sum().backward()
    assert weight.grad.numpy().tolist() == [1, 2, 3]


def test_what_requires_a_gradient_is_not_given_away(torch):
    leaf = minicnn.tensor([1.0], requires_grad=True)
    with pytest.raises(BufferError, match=r"share tensor\.detach\(\)"):
        torch.from_dlpack(leaf)
    assert torch.from_dlpack(leaf.detach()).tolist() == [1.0]


def test_only_cuda_tensors_have_its_interface():
    assert not hasattr(minicnn.tensor([1.0]), "__cuda_array_interface__")


@pytest.mark.parametrize(
    ("source", "device", "error", "message"),
    [
        (3.0, None, TypeError, "float does not speak DLPack"),
        (np.zeros(2, np.float16), None, TypeError, "dtype float16 is not supported, choose one of float32"),
        (np.zeros(2), "emulated", DeviceError, "shared with 'cpu' or 'numpy', not with 'emulated'; use minicnn.tensor"),
    ],
)
def test_what_cannot_be_shared(source, device, error, message):
    with pytest.raises(error, match=message):
        minicnn.from_dlpack(source, device)


@pytest.mark.cuda
def test_cupy_and_torch_share_memory_of_a_gpu(torch):
    cupy = pytest.importorskip("cupy")
    ours = minicnn.tensor(values("float32"), device="cuda")
    arrays = cupy.from_dlpack(ours), cupy.asarray(ours), torch.from_dlpack(ours), torch.as_tensor(ours, device="cuda")
    for array in arrays:
        array[0, 0] += 1
    assert ours.numpy()[0, 0] == len(arrays)
    for source in (cupy.ones((2, 3), cupy.float32), torch.ones((2, 3), device="cuda")):
        shared = minicnn.from_dlpack(source)
        source[1, 1] = 5
        assert shared.device.name == "cuda:0" and shared.numpy()[1, 1] == 5
