"""ONNX files as networks: what export_onnx wrote comes back, and graphs as others write them give onnxruntime's outputs."""

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import CheckpointError, OnnxImportError, export_onnx, load_onnx, models, nn


def ours(network, x):
    with minicnn.no_grad():
        return network.eval()(minicnn.tensor(x)).numpy()


def close(actual, expected):
    assert np.abs(expected).max() > 1e-3
    assert_close(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.fixture
def by_runtime(onnxruntime):
    """by_runtime(path, x): the file's output for x in the file's layout."""

    def run(path, x):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (feed,) = session.get_inputs()
        return session.run(None, {feed.name: np.ascontiguousarray(x)})[0]

    return run


@pytest.mark.parametrize("name", models.CONSTRUCTORS)
def test_every_network_comes_back(name, by_runtime, rng, tmp_path):
    network = twins.spread(models.find(name)(10, 28, 1), rng)
    export_onnx(network, tmp_path / "first.onnx")
    again = load_onnx(tmp_path / "first.onnx")
    x = rng.standard_normal((2, 28, 28, 1)).astype(np.float32)
    expected = ours(network, x)
    close(ours(again, x), expected)
    export_onnx(again, tmp_path / "second.onnx", input_shape=x.shape)
    close(by_runtime(tmp_path / "second.onnx", x.transpose(0, 3, 1, 2)), expected)


def test_normalisation_in_groups_comes_back(rng, onnx, tmp_path):
    network = twins.spread(models.alexnet(10, 28, 1, norm_groups=2), rng)
    export_onnx(network, tmp_path / "network.onnx")
    again = load_onnx(tmp_path / "network.onnx")
    assert [layer.groups for layer in again if isinstance(layer, nn.LocalResponseNorm)] == [2, 2]
    x = rng.standard_normal((2, 28, 28, 1)).astype(np.float32)
    close(ours(again, x), ours(network, x))


@pytest.mark.parametrize("name", ["alexnet", "alexnet_owt", "resnet18"])
def test_full_forms_come_back(name, rng, onnx, tmp_path):
    network = twins.spread(twins.network(name, 224, divisor=8), rng)
    export_onnx(network, tmp_path / "network.onnx")
    x = rng.standard_normal((1, 224, 224, 3)).astype(np.float32)
    close(ours(load_onnx(tmp_path / "network.onnx"), x), ours(network, x))


@pytest.fixture
def graph(onnx, tmp_path, rng):
    """graph(nodes, x_shape): the path of a file of these nodes, (operator, inputs, output, attributes); arrays among the inputs
    become its constants. The first reads "x", the last writes "y"."""
    helper = onnx.helper

    def write(nodes, x_shape, opset=17, y_rank=2):
        constants, made = [], []
        for i, (operator, inputs, output, attributes) in enumerate(nodes):
            names = []
            for j, each in enumerate(inputs):
                if not isinstance(each, str):
                    constants.append(onnx.numpy_helper.from_array(np.asarray(each), f"constant_{i}_{j}"))
                    each = constants[-1].name
                names.append(each)
            made.append(helper.make_node(operator, names, [output], name=f"node_{i}", **attributes))
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x_shape)
        y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * y_rank)
        made = helper.make_graph(made, "graph", [x], [y], constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        path = tmp_path / "graph.onnx"
        onnx.save(model, path)
        return path

    return write


def floats(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def integers(*values):
    return np.array(values, np.int64)


# As PyTorch writes them: x.flatten(1); x.view(x.size(0), -1), whose batch is computed; x.reshape(-1, features).
FLATTENED = {
    "Flatten": [("Flatten", ["x"], "rows", {"axis": 1})],
    "Flatten from behind": [("Flatten", ["x"], "rows", {"axis": -3})],
    "view": [
        ("Shape", ["x"], "shape", {}),
        ("Gather", ["shape", np.array(0)], "batch", {"axis": 0}),
        ("Unsqueeze", ["batch", integers(0)], "batches", {}),
        ("Concat", ["batches", integers(-1)], "wanted", {"axis": 0}),
        ("Reshape", ["x", "wanted"], "rows", {}),
    ],
    "reshape": [("Reshape", ["x", integers(-1, 60)], "rows", {})],
    "reshape that keeps the batch": [("Reshape", ["x", integers(0, -1)], "rows", {})],
    "channels last": [("Transpose", ["x"], "last", {"perm": [0, 2, 3, 1]}), ("Flatten", ["last"], "rows", {})],
}
READERS = {
    "Gemm": [("Gemm", ["rows", floats(7, 60), floats(7)], "y", {"transB": 1})],
    "Gemm, scaled": [("Gemm", ["rows", floats(60, 7), floats(1, 7)], "y", {"alpha": 0.5, "beta": 2.0})],
    "Gemm, one bias for all": [("Gemm", ["rows", floats(60, 7), np.float32(3)], "y", {})],
    "MatMul": [("MatMul", ["rows", floats(60, 7)], "y", {})],
    "MatMul and Add": [("MatMul", ["rows", floats(60, 7)], "m", {}), ("Add", [floats(7), "m"], "y", {})],
    "what keeps the order between": [
        ("BatchNormalization", ["rows", floats(60), floats(60), floats(60), floats(60) ** 2], "n", {"epsilon": 0.01}),
        ("Relu", ["n"], "r", {}),
        ("Dropout", ["r"], "d", {}),
        ("Identity", ["d"], "i", {}),
        ("Softmax", ["i"], "s", {"axis": 1}),
        ("Gemm", ["s", floats(7, 60)], "y", {"transB": 1}),
    ],
    "joined rows": [
        ("Relu", ["rows"], "r", {}),
        ("Concat", ["r", "rows"], "j", {"axis": 1}),
        ("Gemm", ["j", floats(120, 7)], "y", {}),
    ],
    "added rows": [
        ("Tanh", ["rows"], "t", {}),
        ("Add", ["t", "rows"], "j", {}),
        ("MatMul", ["j", floats(60, 7)], "y", {}),
    ],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("flattened", FLATTENED)
def test_what_reads_a_flattened_map_finds_its_order(flattened, reader, graph, by_runtime):
    path, x = graph(FLATTENED[flattened] + READERS[reader], ["N", 3, 4, 5]), floats(2, 3, 4, 5)
    close(ours(load_onnx(path), x.transpose(0, 2, 3, 1)), by_runtime(path, x))


POOLS = {"kernel_shape": [3, 2], "strides": [2, 1]}
MAPS = {
    "convolution": [("Conv", ["x", floats(6, 4, 3, 2), floats(6)], "y", {"strides": [2, 1], "pads": [1, 0, 1, 0]})],
    "groups, dilation": [("Conv", ["x", floats(6, 2, 3, 3)], "y", {"group": 2, "dilations": [2, 2]})],
    "same": [("Conv", ["x", floats(6, 4, 3, 3)], "y", {"auto_pad": "SAME_UPPER"})],
    "valid": [("Conv", ["x", floats(6, 4, 3, 3)], "y", {"auto_pad": "VALID"})],
    "padded before": [
        ("Pad", ["x", integers(0, 0, 1, 2, 0, 0, 1, 2)], "p", {}),
        ("Conv", ["p", floats(6, 4, 3, 3)], "y", {"pads": [1, 0, 1, 0]}),
    ],
    "maximum": [("MaxPool", ["x"], "y", POOLS | {"pads": [1, 0, 1, 0], "ceil_mode": 1})],
    "mean": [("AveragePool", ["x"], "y", POOLS | {"pads": [1, 0, 1, 0]})],
    "mean that counts padding": [("AveragePool", ["x"], "y", POOLS | {"pads": [1, 0, 1, 0], "count_include_pad": 1})],
    "mean, padded before": [
        ("Pad", ["x", integers(0, 0, 1, 1, 0, 0, 1, 1)], "p", {}),
        ("AveragePool", ["p"], "y", POOLS),
    ],
    "global mean": [("GlobalAveragePool", ["x"], "y", {})],
    "global maximum": [("GlobalMaxPool", ["x"], "y", {})],
    "mean of axes": [("ReduceMean", ["x"], "y", {"axes": [2, -1]})],
    "odd LRN": [("LRN", ["x"], "y", {"size": 3, "alpha": 0.7, "beta": 0.6, "bias": 1.5})],
    "normalisation": [("BatchNormalization", ["x", floats(4), floats(4), floats(4), floats(4) ** 2], "y", {})],
    "over channels": [("Softmax", ["x"], "y", {"axis": 1})],
    "over width": [("Softmax", ["x"], "y", {"axis": -1})],
    "branches": [
        ("Sigmoid", ["x"], "a", {}),
        ("Conv", ["x", floats(4, 4, 1, 1)], "b", {}),
        ("Relu", ["b"], "c", {}),
        ("Sum", ["a", "c"], "d", {}),
        ("Concat", ["d", "a", "x"], "y", {"axis": 1}),
    ],
    "through channels last": [
        ("Relu", ["x"], "r", {}),
        ("Transpose", ["r"], "t", {"perm": [0, 2, 3, 1]}),
        ("Softmax", ["t"], "s", {}),
        ("Transpose", ["s"], "y", {"perm": [0, 3, 1, 2]}),
    ],
    "a weight that is computed": [
        ("Mul", [floats(6, 4, 1, 1), np.float32(3)], "w", {}),
        ("Conv", ["x", "w"], "y", {}),
    ],
}


@pytest.mark.parametrize("case", MAPS)
def test_maps(case, graph, by_runtime):
    path, x = graph(MAPS[case], ["N", 4, 7, 6], y_rank=4), floats(2, 4, 7, 6)
    close(ours(load_onnx(path), x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), by_runtime(path, x))


@pytest.mark.parametrize("size", [2, 4])
def test_even_windows_of_channels_lie_as_in_onnx(size, graph, onnx, tmp_path):
    """By the words of the specification: onnxruntime has odd windows only, and ONNX's reference sums over too few channels."""
    options, x = {"size": size, "alpha": 0.7, "beta": 0.6, "bias": 1.5}, floats(2, 6, 3, 2)
    network = load_onnx(graph([("LRN", ["x"], "y", options)], ["N", 6, 3, 2], y_rank=4))
    expected = np.empty_like(x)
    for c in range(6):
        below, above = (size - 1) // 2, size // 2
        square_sum = (x[:, max(0, c - below) : c + above + 1] ** 2).sum(axis=1)
        expected[:, c] = x[:, c] / (1.5 + 0.7 / size * square_sum) ** 0.6
    close(ours(network, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), expected)
    export_onnx(network, tmp_path / "again.onnx", (1, 3, 2, 6))
    (node, _) = onnx.load(tmp_path / "again.onnx").graph.node
    written = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert node.op_type == "LRN" and written == pytest.approx(options)


POOLED = {
    "squeezed": [("GlobalAveragePool", ["x"], "p", {}), ("Squeeze", ["p", integers(2, 3)], "y", {})],
    "flattened": [("GlobalAveragePool", ["x"], "p", {}), ("Flatten", ["p"], "y", {})],
    "mean": [("ReduceMean", ["x"], "y", {"axes": [2, 3], "keepdims": 0})],
}


@pytest.mark.parametrize("case", POOLED)
def test_means_over_a_map_become_rows(case, graph, by_runtime):
    path, x = graph(POOLED[case], ["N", 4, 7, 6]), floats(2, 4, 7, 6)
    close(ours(load_onnx(path), x.transpose(0, 2, 3, 1)), by_runtime(path, x))


def test_a_graph_whose_images_have_their_channels_last(graph, by_runtime):
    nodes = [("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}), ("Conv", ["t", floats(6, 4, 3, 3)], "y", {})]
    path, x = graph(nodes, ["N", 7, 6, 4], y_rank=4), floats(2, 7, 6, 4)
    close(ours(load_onnx(path), x).transpose(0, 3, 1, 2), by_runtime(path, x))


def test_a_chain_is_a_sequential_that_can_be_trained(graph):
    nodes = [
        ("Conv", ["x", floats(4, 3, 3, 3), floats(4)], "c", {}),
        ("Relu", ["c"], "r", {}),
        ("Dropout", ["r", np.float32(0.25)], "d", {}),
        ("Flatten", ["d"], "f", {}),
        ("Gemm", ["f", floats(5, 24)], "y", {"transB": 1}),
    ]
    network = load_onnx(graph(nodes, [1, 3, 4, 5]))
    assert [type(layer) for layer in network] == [nn.Conv2d, nn.ReLU, nn.Dropout, nn.Flatten, nn.Linear]
    assert (network[2].p, network.training) == (0.25, False)
    network.train()(minicnn.tensor(floats(2, 4, 5, 3))).sum().backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in network.parameters())


def test_open_extents_want_an_input_shape(graph, by_runtime):
    path = graph(FLATTENED["Flatten"] + READERS["Gemm"], ["N", 3, "H", "W"])
    with pytest.raises(OnnxImportError, match=r"^input x has the shape \(N, None, None, 3\): pass input_shape$"):
        load_onnx(path)
    with pytest.raises(OnnxImportError, match=r"^input_shape is \(1, 4, 5, 2\), the file has \(N, None, None, 3\)$"):
        load_onnx(path, (1, 4, 5, 2))
    x = floats(2, 3, 4, 5)
    close(ours(load_onnx(path, (1, 4, 5, 3)), x.transpose(0, 2, 3, 1)), by_runtime(path, x))


REFUSED = {
    r"^node_0 \(Elu\): this operator has no counterpart here; known are Add, AveragePool, ": [("Elu", ["x"], "y", {})],
    r"^node_1 \(Mul\): this operator has no counterpart": [("Relu", ["x"], "r", {}), ("Mul", ["r", "x"], "y", {})],
    r"^node_0 \(Conv\): pads \[0, 0, 1, 1\] are not the same on both sides": [
        ("Conv", ["x", floats(2, 4, 3, 3)], "y", {"pads": [0, 0, 1, 1]})
    ],
    r"^node_0 \(Conv\): pads \[0, 0, 1, 1\] are not": [
        ("Conv", ["x", floats(2, 4, 2, 2)], "y", {"auto_pad": "SAME_UPPER"})
    ],
    r"^node_0 \(Conv\): pads \[1, 1, 0, 0\] are not": [
        ("Conv", ["x", floats(2, 4, 2, 2)], "y", {"auto_pad": "SAME_LOWER"})
    ],
    r"^node_0 \(Conv\): conv2d: weight expects": [("Conv", ["x", floats(2, 3, 3, 3)], "y", {})],
    r"^node_0 \(Pad\): this operator": [
        ("Pad", ["x", integers(0, 0, 0, 0, 0, 0, 1, 1)], "p", {}),
        ("Conv", ["p", floats(2, 4, 3, 3)], "y", {}),
    ],
    r"^node_0 \(Pad\): this": [
        ("Pad", ["x", integers(0, 0, 1, 1, 0, 0, 1, 1), np.float32(1)], "p", {}),
        ("Conv", ["p", floats(2, 4, 3, 3)], "y", {}),
    ],
    r"^node_0 \(MaxPool\): dilations \(2, 2\)": [
        ("MaxPool", ["x"], "y", {"kernel_shape": [2, 2], "dilations": [2, 2]})
    ],
    r"^node_0 \(Flatten\): axis 2: maps are flattened from axis 1": [("Flatten", ["x"], "y", {"axis": 2})],
    r"^node_0 \(Reshape\): shape \[8, 21\]: maps become rows \(N, 168\)": [
        ("Reshape", ["x", integers(8, 21)], "y", {})
    ],
    r"^node_0 \(Transpose\): perm \[0, 1, 3, 2\]": [("Transpose", ["x"], "y", {"perm": [0, 1, 3, 2]})],
    r"^node_0 \(Add\): a constant as an operand": [("Add", ["x", floats(1)], "y", {})],
    r"^node_1 \(Add\): its inputs are \(1, 7, 6, 4\), \(1, 1, 1, 4\)": [
        ("GlobalAveragePool", ["x"], "p", {}),
        ("Add", ["x", "p"], "y", {}),
    ],
    r"^node_0 \(ReduceMean\): only means over height and width": [("ReduceMean", ["x"], "y", {"axes": [1]})],
    r"^node_1 \(Conv\): it wants images": [
        ("Transpose", ["x"], "t", {"perm": [0, 2, 3, 1]}),
        ("Conv", ["t", floats(2, 7, 3, 3)], "y", {}),
    ],
    r"^node_1 \(Conv\): the weight must be a constant": [
        ("Relu", ["x"], "r", {}),
        ("Conv", ["x", "r"], "y", {}),
    ],
    r"^output y is a flattened map in the order \(C, H, W\)": [("Flatten", ["x"], "y", {})],
    r"^node_4 \(Add\): its inputs are maps that were flattened in different orders": [
        ("Flatten", ["x"], "a", {}),
        ("Transpose", ["x"], "t", {"perm": [0, 2, 3, 1]}),
        ("Flatten", ["t"], "b", {}),
        ("Relu", ["b"], "c", {}),
        ("Add", ["a", "c"], "y", {}),
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_counterpart_is_named(message, graph):
    with pytest.raises(OnnxImportError, match=message):
        load_onnx(graph(REFUSED[message], ["N", 4, 7, 6]))


def test_an_old_softmax_over_maps_is_refused(graph):
    with pytest.raises(OnnxImportError, match=r"^node_0 \(Softmax\): before opset 13 it goes over several axes"):
        load_onnx(graph([("Softmax", ["x"], "y", {})], ["N", 4, 7, 6], opset=11))


def test_files_that_are_none(onnx, tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be read as an ONNX file"):
        load_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no protobuf at all")
    with pytest.raises(CheckpointError, match=r"cannot be read as an ONNX file"):
        load_onnx(tmp_path / "text.onnx")
