"""The operator cases that the ONNX package ships, by our ops: those that it generates, and those converted from PyTorch.

A case counts where each operator of its graph is one of ours (onnx_graphs.OPERATORS); graphs into which ONNX expands its
functions are among them. Every such case is run, or stands below with the reason why it cannot be.
"""

import functools
import importlib
import warnings
from pathlib import Path

import onnx_graphs as graphs
import pytest
from tolerances import assert_close

MODULES = """
    add averagepool batch_normalization concat conv div dropout exp flatten gemm globalaveragepool globalmaxpool log logsoftmax
    lrn matmul maxpool mean meanvariancenormalization mul neg pow reciprocal reduce_log_sum reducemax reducemean reducesum
    reducesumsquare relu reshape sigmoid slice softmax softmax_cross_entropy_loss split sqrt squeeze sub sum tanh transpose
    unsqueeze
"""
FOLDERS = ("pytorch-converted", "pytorch-operator", "simple")
GROUPS = (*MODULES.split(), *FOLDERS)

CASES = 439  # of onnx 1.23.2: those that pass and those left out
LEFT_OUT = {
    "add": {
        graphs.DTYPE: "add_int8 add_int16 add_uint8 add_uint16 add_uint32 add_uint64",
    },
    "averagepool": {
        graphs.VOLUMES: """
            averagepool_3d_default averagepool_3d_dilations_small
            averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True
            averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False
            averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True
            averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False
        """,
        graphs.ONE_SIDED: "averagepool_2d_same_upper averagepool_2d_same_lower",
        graphs.DILATED_POOLING: "averagepool_2d_dilations",
    },
    "div": {
        graphs.DTYPE: "div_int8 div_int16 div_int32_trunc div_uint8 div_uint16 div_uint32 div_uint64",
    },
    "dropout": {
        graphs.PLACES: """
            dropout_default_mask dropout_default_mask_ratio training_dropout_default_mask training_dropout_mask
            training_dropout_zero_ratio_mask
        """,
        graphs.RANDOM: "training_dropout_default training_dropout",
    },
    "matmul": {
        graphs.NO_MATRIX: "matmul_3d matmul_4d matmul_bcast matmul_1d_3d matmul_4d_1d matmul_1d_1d",
    },
    "maxpool": {
        graphs.DTYPE: "maxpool_2d_uint8",
        graphs.PLACES: "maxpool_with_argmax_2d_precomputed_pads maxpool_with_argmax_2d_precomputed_strides",
        graphs.VOLUMES: """
            maxpool_3d_default maxpool_3d_dilations maxpool_3d_dilations_use_ref_impl
            maxpool_3d_dilations_use_ref_impl_large
        """,
        graphs.ONE_SIDED: "maxpool_2d_same_upper maxpool_2d_same_lower",
        graphs.DILATED_POOLING: "maxpool_2d_dilations",
    },
    "mul": {
        graphs.DTYPE: "mul_int8 mul_int16 mul_uint8 mul_uint16 mul_uint32 mul_uint64",
    },
    "pow": {
        graphs.EXPONENTS: """
            pow_example pow pow_bcast_array pow_types_float32_int64 pow_types_float32_int32 pow_types_float32_uint64
            pow_types_float32_uint32
        """,
        graphs.DTYPE: """
            pow_types_int64_float32 pow_types_int32_float32 pow_types_int64_int64 pow_types_int32_int32
        """,
    },
    "reducemax": {
        graphs.DTYPE: "reduce_max_bool_inputs reduce_max_empty_set_bool",
        graphs.NOTHING: "reduce_max_empty_set",
    },
    "slice": {
        graphs.BACKWARD: "slice_neg_steps",
    },
    "softmax_cross_entropy_loss": {
        graphs.WEIGHTED: """
            sce_none_weights sce_none_weights_log_prob sce_mean_weight sce_mean_weight_log_prob sce_mean_weight_ii
            sce_mean_weight_ii_log_prob sce_mean_no_weight_ii sce_mean_no_weight_ii_log_prob sce_mean_weight_ii_3d
            sce_mean_weight_ii_3d_log_prob sce_mean_no_weight_ii_3d sce_mean_no_weight_ii_3d_log_prob
            sce_mean_weight_ii_4d sce_mean_weight_ii_4d_log_prob sce_mean_no_weight_ii_4d
            sce_mean_no_weight_ii_4d_log_prob sce_NCd1d2d3d4d5_mean_weight sce_NCd1d2d3d4d5_mean_weight_log_prob
            sce_NCd1_mean_weight_negative_ii sce_NCd1_mean_weight_negative_ii_log_prob
            sce_NCd1d2d3_none_no_weight_negative_ii sce_NCd1d2d3_none_no_weight_negative_ii_log_prob
            sce_NCd1d2d3_sum_weight_high_ii sce_NCd1d2d3_sum_weight_high_ii_log_prob
        """,
    },
    "sub": {
        graphs.DTYPE: "sub_int8 sub_int16 sub_uint8 sub_uint16 sub_uint32 sub_uint64",
    },
    "pytorch-converted": {
        graphs.VOLUMES: """
            AvgPool3d AvgPool3d_stride AvgPool3d_stride1_pad0_gpu_input Conv3d Conv3d_dilated Conv3d_dilated_strided
            Conv3d_groups Conv3d_no_bias Conv3d_stride Conv3d_stride_padding MaxPool3d MaxPool3d_stride
            MaxPool3d_stride_padding
        """,
        graphs.DILATED_POOLING: "MaxPool1d_stride_padding_dilation MaxPool2d_stride_padding_dilation",
    },
    "pytorch-operator": {
        graphs.DTYPE: """
            operator_add_broadcast operator_add_size1_broadcast operator_add_size1_right_broadcast
            operator_add_size1_singleton_broadcast operator_addconstant operator_non_float_params
        """,
        graphs.EXPONENTS: "operator_pow",
    },
}


# Its outputs are written down with four decimals; the bound is the package's own.
BOUNDS = {"averagepool_2d_ceil_last_window_starts_on_pad": {"rtol": 1e-3}}


@functools.cache
def generated() -> dict[str, list]:
    """{module: [(name, model, inputs, outputs)]}: a module adds its cases to one list when it is imported."""
    found, cases = {}, importlib.import_module("onnx.backend.test.case.node")._NodeTestCases
    for module in MODULES.split():
        start = len(cases)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the formulas that they compute with NumPy
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
        found[module] = [(case.name, case.model, *data) for case in cases[start:] for data in case.data_sets]
    return found


def stored(onnx, folder: str) -> list:
    """[(name, model, inputs, outputs)] from files."""
    found = []
    for path in sorted(Path(onnx.__file__).with_name("backend").joinpath("test", "data", folder).glob("test_*")):
        model = onnx.load(path / "model.onnx")
        for data in path.glob("test_data_set_*") if is_ours(model) else []:
            found.append((path.name, model, arrays(onnx, data, "input"), arrays(onnx, data, "output")))
    return found


def arrays(onnx, folder: Path, kind: str) -> list:
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda file: int(file.stem.removeprefix(f"{kind}_")))
    return [onnx.numpy_helper.to_array(onnx.load_tensor(file)) for file in files]


def is_ours(model) -> bool:
    return {node.op_type for node in model.graph.node} <= set(graphs.OPERATORS)


def cases_of(onnx, group: str) -> list:
    """[(name, model, inputs, outputs)] of the cases that count."""
    cases = stored(onnx, group) if group in FOLDERS else generated()[group]
    return [(name.removeprefix("test_"), *case) for name, *case in cases if is_ours(case[0])]


@pytest.mark.parametrize("group", GROUPS)
def test_vectors(group, device, onnx, count):
    left_out = {}
    for name, model, inputs, outputs in cases_of(onnx, group):
        try:
            results = graphs.compute(model, inputs, device)
        except graphs.LeftOut as reason:
            left_out[name] = str(reason)
            continue
        for got, expected in zip(results, outputs, strict=True):
            assert_close(got, expected, what=name, **BOUNDS.get(name, {}))
        count(f"passed on {device.name}")
    assert left_out == {name: reason for reason, names in LEFT_OUT.get(group, {}).items() for name in names.split()}
    if device.name == "numpy":
        for reason in left_out.values():
            count(f"left out {reason}")


def test_no_vector_has_disappeared(onnx):
    assert sum(len(cases_of(onnx, group)) for group in GROUPS) == CASES
