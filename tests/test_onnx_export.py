"""Every network as an ONNX file: onnxruntime gives our outputs, at any batch size."""

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn
from minicnn.onnx_export import NODES, ExportError, export_onnx


@pytest.fixture
def run(onnxruntime, tmp_path):
    """run(network, x, ...): the outputs of its file, by onnxruntime; x and its like in our layout."""

    def run_file(network, x, **keywords):
        export_onnx(network, tmp_path / "network.onnx", **keywords)
        session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
        images = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
        (y,) = session.run(["y"], {"x": np.ascontiguousarray(images)})
        return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y

    return run_file


def ours(network, x):
    with minicnn.no_grad():
        return network.eval()(minicnn.tensor(x)).numpy()


def check(network, x, run, **keywords):
    expected = ours(network, x)
    assert np.abs(expected).max() > 1e-3
    assert_close(run(network, x, **keywords), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", models.CONSTRUCTORS)
def test_small_form_of_every_network(name, run, rng):
    network = twins.spread(models.find(name)(10, 28, 1), rng)
    check(network, rng.standard_normal((3, 28, 28, 1)).astype(np.float32), run)


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_owt", "vgg_a_lrn", "googlenet", "googlenet_bn", "resnet18", "nin"]
)
def test_full_form(name, run, rng):
    network = twins.spread(twins.network(name, 224, divisor=8), rng)
    check(network, rng.standard_normal((2, 224, 224, 3)).astype(np.float32), run)


@pytest.mark.parametrize(
    "options", [{"shortcut": "A"}, {"shortcut": "B", "stride_on": "1x1"}], ids=lambda options: options["shortcut"]
)
def test_options_of_resnet(options, run, rng):
    name = "resnet50" if "stride_on" in options else "resnet18"
    network = twins.spread(twins.network(name, 28, divisor=2, in_channels=1, **options), rng)
    check(network, rng.standard_normal((2, 28, 28, 1)).astype(np.float32), run)


LAYERS = {
    "rectangles": [nn.Conv2d(3, 4, (3, 5), (2, 1), (1, 2), groups=1, bias=False)],
    "dilation and groups": [nn.Conv2d(4, 8, 3, 2, 2, dilation=2, groups=4)],
    "max pool, ceil": [nn.MaxPool2d(3, 2, 1, ceil_mode=True)],
    "mean, ceil, padding counts": [nn.AvgPool2d((2, 3), (2, 2), 1)],
    "mean, ceil, padding does not": [nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)],
    "adaptive mean": [nn.AdaptiveAvgPool2d((5, 1))],
    "normalisation by the mean": [nn.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=2.0)],
    "normalisation by the sum": [nn.LocalResponseNorm(3, alpha=0.5, beta=0.75, k=2.0, dialect="sum")],
    "normalisation in groups": [nn.LocalResponseNorm(3, alpha=0.5, beta=0.75, k=2.0, groups=2)],
    "channel softmax": [nn.Softmax()],
    "sigmoid and tanh": [nn.Sigmoid(), nn.Tanh()],
    "an output before it is flattened": [nn.ReLU()],
    "features": [nn.Flatten(), nn.Linear(10 * 9 * 4, 6, bias=False), nn.BatchNorm1d(6), nn.Softmax()],
}


@pytest.mark.parametrize("case", LAYERS)
def test_arguments_of_layers(case, run, rng):
    network = twins.spread(nn.Sequential(*LAYERS[case]), rng)
    channels = 3 if case == "rectangles" else 4
    x = rng.standard_normal((2, 10, 9, channels)).astype(np.float32)
    check(network, x, run, input_shape=x.shape)


def test_a_network_of_features_alone(run, rng):
    x = rng.standard_normal((3, 5)).astype(np.float32)
    check(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), x, run, input_shape=(1, 5))


def test_every_layer_has_its_nodes():
    layers = {value for value in vars(nn).values() if isinstance(value, type) and issubclass(value, nn.Module)}
    blocks = {
        nn.BasicBlock,
        nn.Bottleneck,
        nn.ConvBatchNorm2d,
        nn.Inception,
        nn.InceptionBatchNorm,
        nn.MlpConv,
        nn.Module,
    }
    blocks |= {nn.Residual, nn.Sequential}
    assert layers - blocks == NODES.keys()


def test_the_network_is_left_as_it_was(onnx, tmp_path):
    network = models.googlenet(10, 28, 1)
    network.train()
    before = network.state_dict()
    export_onnx(network, tmp_path / "network.onnx")
    assert all(module.training for _, module in network.named_modules())
    for path, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[path])
    assert not any(module._hooks for _, module in network.named_modules())


class Doubled(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.layer = nn.ReLU()
        self.inside = inside

    def forward(self, x):
        return functional.relu(self.layer(x)) if self.inside == "last" else self.layer(functional.relu(x))


class Own(nn.Module):
    def forward(self, x):
        return x * 2.0


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.ReLU(), Own()), r"^1: Own has no counterpart in ONNX here$"),
        (
            Doubled("first"),
            r"^layer: what ReLU sees was computed by no layer of minicnn\.nn: write that part as a Module",
        ),
        (Doubled("last"), r"^the network: what Doubled sees was computed by no layer"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3)), r"^0: windows over 4x4 that give 3x3 are not all of one size"),
        (nn.Sequential(nn.LocalResponseNorm(4)), r"^0: a window of 4 channels lies otherwise in ONNX"),
        (nn.Sequential(nn.Flatten(2)), r"^0: Flatten from axis 2: only from axis 1$"),
    ],
)
def test_what_cannot_be_exported_is_named(network, message, onnx, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_onnx(network, tmp_path / "network.onnx", input_shape=(1, 4, 4, 6))
    assert not list(tmp_path.iterdir())


def test_a_shape_is_needed_where_none_is_known(onnx, tmp_path):
    with pytest.raises(ValueError, match=r"^export_onnx: pass input_shape"):
        export_onnx(nn.Sequential(nn.ReLU()), tmp_path / "network.onnx")
