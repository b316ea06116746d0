"""The input of a network from bytes, against plain loops: windows inside and over the edge, mirrored, coloured."""

import numpy as np
import pytest
from checks import check_thread_orders
from number_formats import BFLOAT16, FLOAT16
from tolerances import assert_close

from minicnn import precision, tensor
from minicnn.errors import OpError
from minicnn.functional import prepare_images

CASES = {  # images (M, H, W, C), size, windows: image, top, left, mirrored
    "whole": ((2, 4, 5, 3), (4, 5), [(0, 0, 0, 0), (1, 0, 0, 0)]),
    "mirrored": ((3, 4, 5, 3), (4, 5), [(0, 0, 0, 1), (1, 0, 0, 0), (2, 0, 0, 1)]),
    "inside": ((3, 9, 8, 3), (5, 4), [(0, 0, 4, 0), (1, 4, 0, 1), (2, 2, 3, 1)]),
    "over_every_edge": ((4, 4, 5, 3), (4, 5), [(0, -2, -1, 0), (1, 2, 1, 1), (2, -1, 2, 1), (3, 1, -2, 0)]),
    "larger_than_the_image": ((2, 3, 3, 2), (7, 6), [(0, -2, -1, 1), (1, -4, -3, 0)]),
    "wholly_outside": ((2, 3, 3, 1), (2, 2), [(0, -2, 0, 0), (1, 0, 3, 1)]),
    "one_channel": ((2, 7, 5, 1), (3, 3), [(0, 1, 1, 0), (1, 4, 2, 1)]),
    "four_channels": ((2, 5, 5, 4), (3, 3), [(0, 1, 1, 0), (1, 2, 2, 1)]),
    "past_one_block": ((3, 20, 19, 3), (17, 16), [(0, 3, 0, 1), (1, 0, 3, 0), (2, 1, 1, 1)]),
    "some_of_many": ((7, 6, 5, 3), (4, 5), [(5, 2, 0, 0), (0, 1, 0, 1), (6, 0, 0, 0)]),
    "more_than_there_are": ((2, 4, 4, 1), (4, 4), [(1, 0, 0, 0), (0, 0, 0, 1), (1, 1, 0, 1), (1, 0, 0, 0)]),
    "empty": ((0, 4, 4, 3), (3, 3), np.zeros((0, 4))),
    "none_of_some": ((3, 4, 4, 3), (3, 3), np.zeros((0, 4))),
}


def inputs_of(case, rng, dtype=np.float32):
    shape, size, windows = CASES[case]
    images, windows = rng.integers(0, 256, shape, np.uint8), np.array(windows, np.int64)
    scale, offset = (rng.standard_normal(extents).astype(dtype) for extents in (shape[3], (len(windows), shape[3])))
    return images, windows, scale, offset, size


def one_by_one(images, windows, scale, offset, size):
    c = images.shape[3]
    y = np.empty((len(windows), *size, c))
    for i, p, q, k in np.ndindex(y.shape):
        image, top, left, mirrored = windows[i]
        row, column = top + p, left + (size[1] - 1 - q if mirrored else q)
        inside = 0 <= row < images.shape[1] and 0 <= column < images.shape[2]
        y[i, p, q, k] = np.float64(images[image, row, column, k] if inside else 0) * scale[k] + offset[i, k]
    return y


def prepared(images, windows, scale, offset, size, device):
    return prepare_images(*(tensor(array, device=device) for array in (images, windows, scale, offset)), size)


@pytest.mark.parametrize("case", CASES)
def test_reference_is_its_formula(case, rng):
    inputs = inputs_of(case, rng, np.float64)
    y = prepared(*inputs, "numpy")
    assert y.dtype == np.float64 and not y.requires_grad
    assert_close(y.numpy(), one_by_one(*inputs))


@pytest.mark.parametrize("case", CASES)
def test_kernel_is_the_formula(case, kernel_device, rng):
    inputs = inputs_of(case, rng)
    assert_close(prepared(*inputs, kernel_device).numpy(), one_by_one(*inputs), rtol=1e-6, atol=1e-5)  # 255 * 2^-24


def test_kernel_is_exact_on_integers(kernel_device, rng):
    images, windows, _, _, size = inputs_of("over_every_edge", rng)
    scale, offset = np.float32([2, -3, 5]), rng.integers(-9, 9, (4, 3)).astype(np.float32)
    y = prepared(images, windows, scale, offset, size, kernel_device).numpy()
    np.testing.assert_array_equal(y, one_by_one(images, windows, scale, offset, size))


def test_kernel_on_unaligned_arrays(unaligned_device, rng):
    inputs = inputs_of("inside", rng)
    assert_close(prepared(*inputs, unaligned_device).numpy(), one_by_one(*inputs), rtol=1e-6, atol=1e-5)


def test_every_thread_order_gives_the_same_bits(kernel_device, rng):
    inputs = inputs_of("past_one_block", rng)
    check_thread_orders(lambda: [prepared(*inputs, kernel_device).numpy()], kernel_device)


each_half = pytest.mark.parametrize("format", (BFLOAT16, FLOAT16), ids=lambda format: format.name)


def check_rounded(inputs, device, format):
    """In the precision, what is otherwise float32, each number rounded once; on devices with such arrays in 16 bits."""
    with np.errstate(over="ignore"):
        expected = format.decode(format.encode(prepared(*inputs, device).numpy()))
    with precision(format.name):
        y = prepared(*inputs, device)
    assert y.dtype == np.float32
    assert (y.numbers is None) == (tensor(0.0, device=device).device.computes_on_host)
    np.testing.assert_array_equal(y.numpy().view(np.uint32), expected.view(np.uint32))


@each_half
@pytest.mark.parametrize("case", CASES)
def test_in_16_bits_it_is_the_result_rounded(case, format, device, rng):
    check_rounded(inputs_of(case, rng), device, format)


@each_half
def test_in_16_bits_what_is_too_large_becomes_infinite(format, device, rng):
    images, windows, _, offset, size = inputs_of("inside", rng)
    inputs = images, windows, np.float32([2e36, -300, 1e-9]), 1e-8 * offset, size
    with precision(format.name):
        y = prepared(*inputs, device)
    assert np.isinf(y.numpy()).any()
    check_rounded(inputs, device, format)


@each_half
def test_in_16_bits_on_unaligned_arrays(format, unaligned_device, rng):
    check_rounded(inputs_of("inside", rng), unaligned_device, format)


@each_half
def test_in_16_bits_every_thread_order_gives_the_same_bits(format, ladder_device, rng):
    inputs = inputs_of("past_one_block", rng)
    with precision(format.name):
        check_thread_orders(lambda: [prepared(*inputs, ladder_device).numpy()], ladder_device)


def test_in_tf32_it_is_float32(device, rng):
    inputs = inputs_of("inside", rng)
    expected = prepared(*inputs, device).numpy()
    with precision("tf32"):
        np.testing.assert_array_equal(prepared(*inputs, device).numpy(), expected)


def test_no_input_is_written(device, rng):
    inputs = inputs_of("whole", rng)
    arrays = [tensor(array, device=device) for array in inputs[:4]]
    prepare_images(*arrays, inputs[4])
    for array, before in zip(arrays, inputs, strict=False):
        np.testing.assert_array_equal(array.numpy(), before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": np.zeros((2, 4, 5), np.uint8)}, "images must be (M, H, W, C) uint8, got (2, 4, 5) uint8"),
        ({"images": np.zeros((2, 4, 5, 3))}, "images must be (M, H, W, C) uint8, got (2, 4, 5, 3) float64"),
        ({"windows": np.zeros((2, 3), int)}, "windows must be (N, 4) int64, got (2, 3) int64"),
        ({"windows": np.zeros((2, 4), np.float32)}, "windows must be (N, 4) int64, got (2, 4) float32"),
        ({"windows": np.array([[1, 0, 0, 0], [2, 0, 0, 0]])}, "windows[1] is of image 2, but there are 2"),
        ({"windows": np.array([[-1, 0, 0, 0], [1, 0, 0, 0]])}, "windows[0] is of image -1, but there are 2"),
        (
            {"scale": np.ones(1, np.float32)},
            "scale must be (3,) for images (2, 4, 5, 3) and windows (2, 4), got (1,)",
        ),
        (
            {"offset": np.ones(3, np.float32)},
            "offset must be (2, 3) for images (2, 4, 5, 3) and windows (2, 4), got (3,)",
        ),
        ({"size": 0}, "size must be an integer of at least 1 or a pair of them, got 0"),
    ],
)
def test_arguments_that_are_refused(changed, message, rng):
    names = ("images", "windows", "scale", "offset", "size")
    arguments = dict(zip(names, inputs_of("whole", rng), strict=True)) | changed
    if "windows" not in changed and changed.get("images") is not None:
        arguments["scale"], arguments["offset"] = arguments["scale"].astype(float), arguments["offset"].astype(float)
    with pytest.raises(OpError) as error:
        prepared(*arguments.values(), "numpy")
    assert str(error.value).split(": ", 1)[1].removeprefix("prepare_images: ") == message


@pytest.mark.parametrize("constant", ["scale", "offset"])
def test_constants_have_no_gradient(constant, rng):
    names = ("images", "windows", "scale", "offset")
    *arrays, size = inputs_of("whole", rng)
    tensors = {name: tensor(a, requires_grad=name == constant) for name, a in zip(names, arrays, strict=True)}
    with pytest.raises(OpError, match="constants here; pass them with requires_grad=False"):
        prepare_images(*tensors.values(), size)
