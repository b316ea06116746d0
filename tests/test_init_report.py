"""The initialisation report: prediction against measurement and theory, the faults of the papers' initial values, the fix."""

import json
import math

import numpy as np
import pytest

from minicnn import models, nn, random
from minicnn.init_report import init_report
from minicnn.nn import init

SMALL = {"num_classes": 10, "image_size": 28, "in_channels": 1}


def report_of(name: str, **options):
    random.manual_seed(0)
    return init_report(models.find(name)(**SMALL | options))


def figures(report, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, measured) of the rows where both are known."""
    pairs = [(getattr(row, f"predicted_{what}"), getattr(row, f"measured_{what}")) for row in report.rows]
    return np.array([pair for pair in pairs if None not in pair]).T


@pytest.mark.parametrize("initialize", ["he", "paper", "paper-0.01"])
@pytest.mark.parametrize("what", ["signal", "gradient"])
def test_prediction_is_near_measurement(initialize, what):
    """Within a factor of two behind eleven layers and three pools, through fourteen orders of magnitude."""
    predicted, measured = figures(report_of("vgg_d", initialize=initialize), what)
    assert len(predicted) >= 35
    np.testing.assert_array_less(np.abs(np.log2(predicted / measured)), 1.3)
    assert measured.max() / measured.min() > (1e10 if initialize == "paper-0.01" else 5)


@pytest.mark.parametrize("name", ["alexnet", "lenet", "resnet18", "nin", "vgg11_bn"])
def test_prediction_knows_other_networks(name):
    options = {} if name != "lenet" else {"image_size": 28}
    report = report_of(name, **options)
    predicted, measured = figures(report, "signal")
    np.testing.assert_array_less(np.abs(np.log2(predicted / measured)), 1.5)
    assert report.warning == ""


def test_without_pools_gains_are_those_of_fan_in():
    """Fully connected, wide: std 0.1 and ReLU multiply the signal's square by fan_in * 0.01 / 2, also backward."""
    random.manual_seed(0)
    layers = [nn.Linear(1024, 1024, bias=False), nn.ReLU()] * 2
    model = nn.Sequential(
        nn.Flatten(), *(type(x)(1024, 1024, False) if isinstance(x, nn.Linear) else x for x in layers)
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            init.normal_(layer.weight, 0.1)
    report = init_report(model, (16, 64, 1))
    squares = [row.predicted_signal**2 for row in report.rows]
    assert squares[1] == pytest.approx(10.24, rel=0.05)
    gradients = [row.predicted_gradient**2 for row in report.rows]
    assert gradients[2] / gradients[4] == pytest.approx(10.24 / 2, rel=0.1)
    predicted, measured = figures(report, "gradient")
    np.testing.assert_allclose(predicted, measured, rtol=0.2)  # of eight images


def test_a_bias_is_no_signal():
    """AlexNet's biases of 1 keep activations near 1 where 28-pixel images leave a ten-millionth of their differences."""
    report = report_of("alexnet", initialize="paper")
    assert report.rows[-1].measured_signal < 1e-6
    assert report.warning.startswith("the signal vanishes: logits differ by 4e-07 from image to image")


def test_explosion_is_told_and_a_fix_proposed():
    report = report_of("vgg_a", initialize="paper")
    assert report.first_loss > 100
    assert report.predicted_first_loss == pytest.approx(report.first_loss, rel=0.3)
    assert report.warning.startswith("the signal explodes, and ")
    assert "initialize='he'" in report.warning
    assert report_of("vgg_a").warning == ""


def test_he_starts_at_the_loss_of_a_guess():
    report = report_of("vgg_d")
    assert report.first_loss == pytest.approx(math.log(10), rel=0.1)
    assert report.verdict.endswith(": signal and gradient pass")


def test_the_model_is_left_as_it_was():
    model = models.vgg11_bn(**SMALL)
    model.train()
    before = model.state_dict()
    init_report(model)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert all(module.training and not module.has_hooks for _, module in model.named_modules())
    assert not any(p.grad.numpy().any() for p in model.parameters())


class Cube(nn.Module):
    def forward(self, x):
        return x * x * x


def test_a_layer_that_nobody_knows_ends_the_prediction_alone():
    random.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Cube(), nn.Linear(32, 4))
    for layer in (model[1], model[3]):
        init.he_normal_(layer.weight)
    rows = init_report(model, (8, 8, 1)).rows
    assert [row.predicted_signal is None for row in rows] == [False, False, True, True]
    assert [row.predicted_gradient is None for row in rows] == [True, True, True, False]
    assert all(row.measured_gradient is not None for row in rows[1:])


def test_the_shape_of_a_module_of_ones_own_must_be_said():
    with pytest.raises(
        ValueError, match=r"^init_report: say the shape \(H, W, C\) of the images that this Linear reads$"
    ):
        init_report(nn.Linear(2, 2))


def test_as_dict_is_json_and_the_table_has_a_row_a_layer():
    report = report_of("vgg_a")
    written = json.loads(json.dumps(report.as_dict()))
    assert written["rows"][0]["path"] == "features.0"
    assert len(str(report).splitlines()) == len(report.rows) + 6
