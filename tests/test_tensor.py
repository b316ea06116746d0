"""Tensor: its creation, what it says of itself, reading and writing, journeys between devices."""

import numpy as np
import pytest
from checks import leaf

import minicnn


@pytest.mark.parametrize(
    "values, dtype",
    [
        ([1.5, 2.0], "float32"),
        (3, "int64"),
        ([1, 2], "int64"),
        ([True, False], "int64"),
        (np.zeros(2), "float64"),
        (np.zeros(2, np.float32), "float32"),
        (np.zeros(2, np.uint8), "uint8"),
        (np.float64(2.5), "float64"),
    ],
)
def test_dtypes(values, dtype):
    assert minicnn.tensor(values).dtype.name == dtype


def test_a_dtype_may_be_asked_for():
    assert minicnn.tensor([1, 2], dtype="float64").dtype == np.float64
    assert minicnn.tensor(minicnn.tensor([1.5]), dtype="int64").numpy().tolist() == [1]


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex128", "<U1", "bool"])
def test_refuses_other_dtypes(dtype):
    with pytest.raises(
        TypeError,
        match=rf"^tensor: dtype {np.dtype(dtype).name} is not supported, choose one of float32, float64, int64, uint8$",
    ):
        minicnn.tensor(np.zeros(2, dtype))


def test_refuses_a_gradient_of_integers():
    with pytest.raises(TypeError, match=r"^tensor: only floating-point tensors have gradients, this one is int64$"):
        minicnn.tensor([1, 2], requires_grad=True)


def test_a_tensor_is_a_copy(device):
    values = np.ones(3, np.float32)
    x = minicnn.tensor(values, device=device)
    values[0] = 5
    assert x.numpy().tolist() == [1, 1, 1]
    x.numpy()[0] = 5
    assert x.numpy().tolist() == [1, 1, 1]


def test_a_tensor_is_contiguous(device):
    x = minicnn.tensor(np.arange(6, dtype=np.float32).reshape(2, 3).T, device=device)
    assert x.data.flags.c_contiguous
    assert x.numpy().tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4)], ids=str)
def test_its_extents(shape, device):
    x = minicnn.tensor(np.zeros(shape, np.float32), device=device)
    assert (x.shape, x.ndim, x.size) == (shape, len(shape), int(np.prod(shape)))
    assert x.device is device


def test_length_and_item(device):
    assert len(minicnn.tensor(np.zeros((3, 2), np.float32), device=device)) == 3
    assert minicnn.tensor(np.full((1, 1), 2.5, np.float32), device=device).item() == 2.5
    with pytest.raises(TypeError, match=r"^a tensor without axes has no length$"):
        len(minicnn.tensor(1.0, device=device))
    with pytest.raises(ValueError, match=r"^item\(\) wants a tensor of one element, this one is \(2,\)$"):
        minicnn.tensor([1.0, 2.0], device=device).item()


def test_repr_names_values_device_dtype_and_origin():
    x = leaf(np.array([1.0, 2.5], np.float32), "numpy")
    assert repr(x) == "tensor([1. , 2.5], device='numpy', dtype=float32, requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 5.], device='numpy', dtype=float32, op=mul)"
    assert repr(x.detach()) == "tensor([1. , 2.5], device='numpy', dtype=float32)"


def test_copy_writes_in_place_and_counts(device):
    x = leaf(np.zeros((2, 2), np.float32), device)
    array = x.data
    for version, values in enumerate([np.ones((2, 2)), [[1, 2], [3, 4]], minicnn.tensor([[5.0, 6], [7, 8]])], 1):
        x.copy_(values)
        assert x.data is array
        assert x.version == version
        np.testing.assert_array_equal(x.numpy(), values.numpy() if isinstance(values, minicnn.Tensor) else values)


def test_copy_refuses_another_shape(device):
    x = leaf(np.zeros((2, 2), np.float32), device)
    with pytest.raises(ValueError, match=r"^copy_: values are \(2,\), the tensor is \(2, 2\)$"):
        x.copy_([1.0, 2.0])
    assert x.version == 0
    assert not x.numpy().any()


def test_detach_shares_the_array_and_leaves_the_graph(device):
    x = leaf(np.ones(2, np.float32), device)
    y = x * 2
    z = y.detach()
    assert z.data is y.data
    assert (z.op, z.requires_grad) == (None, False)
    z.copy_([5.0, 6.0])
    assert y.numpy().tolist() == [5, 6]
    assert y.version == 1


def test_the_gradient_lies_on_the_tensor_s_device(device):
    x = leaf(np.ones(2, np.float32), device)
    (x * 2).backward([1.0, 1.0])
    assert x.grad.device is device
    assert not x.grad.requires_grad


def test_to_its_own_device_is_the_tensor_itself(device):
    x = leaf(np.ones(2, np.float32), device)
    assert x.to(device) is x


def test_to_another_device_is_a_leaf(kernel_device):
    x = leaf(np.array([1.0, 2.0], np.float32), "numpy")
    y = x.to(kernel_device)
    assert y.device is kernel_device
    assert y.requires_grad
    assert y.numpy().tolist() == [1, 2]
    assert not (x * 2).to(kernel_device).requires_grad
    assert y.to("numpy").numpy().tolist() == [1, 2]
