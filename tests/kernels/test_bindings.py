"""What csrc/bindings.cpp promises to minicnn/backend.py: names, signatures, conversions."""

import pathlib
import re

import numpy as np
import pytest

from minicnn import shapes

KERNELS_H = pathlib.Path(__file__).parents[2] / "csrc" / "kernels.h"


def test_signatures_name_arrays_by_dtype(emulated):
    assert emulated.signatures["relu_forward"] == ("float32", "float32", "int", "stream")
    assert emulated.signatures["relu_backward"] == ("float32", "float32", "float32", "accumulate", "int", "stream")
    assert emulated.probes.signatures["philox"] == (
        "uint32",
        "uint8",
        "int",
        "int",
        "int",
        "int",
        "int",
        "float",
        "stream",
    )
    assert emulated.index_maps.signatures["x_offset"] == ("ConvShape", "int", "int", "int", "int")


def test_every_function_of_kernels_h_is_bound(emulated):
    declared = set(re.findall(r"^\w+ (\w+)\(", KERNELS_H.read_text(), re.MULTILINE))
    assert "relu_forward" in declared
    assert set(emulated.signatures) == declared
    assert all(callable(getattr(emulated, name)) for name in declared)


@pytest.mark.parametrize("name", ["ConvShape", "PoolShape"])
def test_shapes_have_the_fields_of_their_python_twins(emulated, name):
    assert emulated.shape_fields[name] == getattr(shapes, name)._fields


def test_shapes_arrive_field_by_field(emulated):
    conv = shapes.ConvShape(*range(1, 16), 1)
    pool = shapes.PoolShape(*range(1, 13))
    axis = lambda s, *names: tuple(getattr(s, name) for name in names)  # noqa: E731
    assert emulated.index_maps.conv_axes(conv) == (
        axis(conv, "h", "r", "p", "stride_h", "padding_h", "dilation_h"),
        axis(conv, "w", "s", "q", "stride_w", "padding_w", "dilation_w"),
    )
    assert emulated.index_maps.pool_axes(list(pool)) == (
        (*axis(pool, "h", "r", "p", "stride_h", "padding_h"), 1),
        (*axis(pool, "w", "s", "q", "stride_w", "padding_w"), 1),
    )


def test_what_is_no_shape_is_refused(emulated):
    message = r"^Axis has 6 fields \(inputs taps outputs stride padding dilation\), not 5$"
    with pytest.raises(ValueError, match=message):
        emulated.index_maps.tap_step((1, 1, 1, 1, 0))
    for wrong in (1.5, 2**31, None):
        with pytest.raises(TypeError, match=rf"^Axis\.taps must be an integer of 32 bits, not {wrong}$"):
            emulated.index_maps.tap_step((1, wrong, 1, 1, 0, 1))
    with pytest.raises(TypeError, match=r"^tap_step: argument 0 must be Axis, not 6$"):
        emulated.index_maps.tap_step(6)


def test_accumulate_is_zero_or_one(emulated):
    with pytest.raises(ValueError, match=r"^accumulate is 0 \(overwrite\) or 1 \(add\), not 2$"):
        emulated.relu_backward(0, 0, 0, 2, 0, 0)


def test_activation_is_none_or_relu(emulated):
    with pytest.raises(ValueError, match=r"^activation is 0 \(none\) or 1 \(relu\), not 2$"):
        emulated.linear_forward(0, 0, 0, 2, 0, 0, 0, 0, 0, (0, 0), 0)


def test_nothing_to_do_touches_nothing(emulated):
    emulated.relu_forward(0, 0, 0, 0)
    emulated.relu_backward(0, 0, 0, 1, 0, 0)


def test_numbers_are_not_rounded_on_the_way(emulated):
    with pytest.raises(TypeError, match=r"^relu_forward: argument 2 must be int, not 1\.0$"):
        emulated.relu_forward(0, 0, 1.0, 0)


def test_arguments_are_counted(emulated):
    with pytest.raises(TypeError, match=r"^relu_forward takes 4 arguments, not 3$"):
        emulated.relu_forward(0, 0, 0)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(4, np.float64),
        np.zeros(4, np.int32),
        np.zeros(4, ">f4"),
        np.zeros((4, 4), np.float32)[:, 0],
        "0",
        1.5,
        -1,
    ],
    ids=["wider", "integers", "big_endian", "strided", "text", "fraction", "below_zero"],
)
def test_what_is_no_array_of_the_dtype_is_refused(emulated, array):
    with pytest.raises(TypeError, match=rf"^relu_forward: argument 0 must be float32, not {re.escape(repr(array))}$"):
        emulated.relu_forward(array, None, 0, 0)


def test_bfloat16_arrives_as_its_bits(emulated):
    wide = np.empty(3, np.float32)
    emulated.widen_bfloat16(np.array([0x3F80, 0xC000, 0x7F80], np.uint16), None, wide, 0, 3, 0)
    np.testing.assert_array_equal(wide, [1.0, -2.0, np.inf])
    with pytest.raises(TypeError, match=r"^widen_bfloat16: argument 0 must be bfloat16"):
        emulated.widen_bfloat16(np.zeros(3, np.float16), None, wide, 0, 3, 0)


def test_emulated_module_was_built_for_no_gpu(emulated):
    assert (emulated.architectures, emulated.cuda_version) == ("", 0)
