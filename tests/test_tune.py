"""Measured schedules: what is measured, kept, taken in later runs; and that they change nothing but the order of sums."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tolerances import assert_close

import minicnn
from minicnn import choices, cli, nn, tune
from minicnn import functional as F
from minicnn.choices import Choices, Product
from minicnn.errors import DeviceError
from minicnn.shapes import ConvShape, Math, Schedule

INPUT = (2, 8, 8, 3)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "ROUNDS", 1)
    monkeypatch.setattr(tune, "LAUNCHES", 1)
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path))


def network():
    minicnn.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


@pytest.fixture
def slow_but(monkeypatch):
    """Makes one schedule ten times as quick as all others, by the tuner's clock."""

    def make(tile, splits):
        def seconds_of(_tuner, launch, schedule, _launches):
            launch(schedule)
            return 1.0 if schedule[:2] == (tile, splits) else 10.0

        monkeypatch.setattr(tune.Tuner, "seconds_of", seconds_of)

    return make


@pytest.fixture
def emulated_tuner():
    return tune.Tuner(minicnn.backend.device("emulated"), lambda row: None)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_every_product_of_a_step_is_measured_once(ladder_device, precision):
    rows = []
    tuned = tune.tune(network(), INPUT, device=ladder_device, precision=precision, on_row=rows.append)
    assert rows == tuned.rows
    kernels = [row.product.kernel.removesuffix("_bfloat16") for row in rows]
    linear = "conv2d" if precision == "bfloat16" else "linear"
    expected = [f"conv2d{pooled}_forward" for pooled in ("", "_maxpool2d")]
    expected += [f"{linear}_{direction}" for direction in ("forward", "backward_weight", "backward_input")]
    assert sorted(kernels) == sorted([*expected, "conv2d_backward_input", *2 * ["conv2d_backward_weight"]])
    assert {row.layer for row in rows} == {"0", "3", "5", "8"}
    assert all(row.product.math is (Math.tf32 if precision == "tf32" else Math.float32) for row in rows)


def test_the_quickest_schedule_is_kept_and_taken(ladder_device, slow_but, monkeypatch):
    slow_but(128, 2)
    tuned = tune.tune(network(), INPUT, device=ladder_device)
    kept = {str(row.product): row.schedule for row in tuned.rows}
    assert set(kept.values()) == {(128, 2), (0, 0)}, "conv2d_maxpool2d cuts no reduction"
    found = choices.load(ladder_device.identity())
    assert found.measured == {name: [128, 2] for name, schedule in kept.items() if schedule == (128, 2)}

    seen = []
    of = Choices.of
    monkeypatch.setattr(Choices, "of", lambda self, *asked: seen.append(of(self, *asked)) or seen[-1])
    monkeypatch.setattr(ladder_device, "choices", found)
    x, weight = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((2, 4, 4, 8), (8, 3, 3, 8)))
    x, weight = (minicnn.tensor(v, device=ladder_device) for v in (x, weight))
    F.conv2d(x, weight, padding=1)
    assert seen == [Schedule(128, 2)]


@pytest.mark.parametrize("tile, splits", [(64, 1), (64, 4), (128, 1), (128, 4)])
def test_a_schedule_changes_no_result_but_by_rounding(ladder_device, monkeypatch, rng, tile, splits):
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((2, 6, 6, 8), (16, 3, 3, 8)))

    def results():
        leaves = [minicnn.tensor(v, device=ladder_device, requires_grad=True) for v in (x, weight)]
        y = F.conv2d(*leaves, padding=1)
        y.backward(np.ones(y.shape, np.float32))
        return [y.numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    expected = results()
    shape = ConvShape.of("conv2d", x.shape, weight.shape, 1, 1, 1, 1)
    kernels = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
    measured = {str(Product(kernel, shape, Math.float32)): [tile, splits] for kernel in kernels}
    monkeypatch.setattr(ladder_device, "choices", Choices(measured))
    for value, ours in zip(expected, results(), strict=True):
        assert_close(ours, value, what="result", rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("seconds", "launches"), [(1e-4, 10), (2e-3, 2), (1.0, 1)])
def test_slow_products_are_launched_less_often(emulated_tuner, monkeypatch, seconds, launches):
    """In each of three rounds, behind a launch of no interest and one that says how slow it is."""
    made, now = [], [0.0]

    def launch(schedule):
        made.append(schedule)
        now[0] += seconds

    monkeypatch.setattr(tune, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(tune, "ROUNDS", 3)
    monkeypatch.setattr(tune, "LAUNCHES", 10)
    product = Product("gemm", (1, 1, 1), Math.float32)
    row = emulated_tuner.measure(product, launch, lambda schedule: schedule[:2] == (0, 0))
    assert len(made) == 2 + 3 * launches
    assert row.seconds == pytest.approx(seconds)


def test_what_gains_nothing_keeps_its_own_choice(ladder_device, monkeypatch):
    monkeypatch.setattr(tune.Tuner, "seconds_of", lambda *asked: 1.0 if asked[2][:2] == (0, 0) else 0.98)
    tuned = tune.tune(network(), INPUT, device=ladder_device)
    assert {row.schedule for row in tuned.rows} == {(0, 0)}
    assert choices.load(ladder_device.identity()).measured == {}


def test_measurements_of_several_networks_add_up(ladder_device, slow_but):
    slow_but(64, 1)
    one = tune.tune(network(), INPUT, device=ladder_device)
    other = tune.tune(network(), (3, *INPUT[1:]), device=ladder_device)
    names = {str(row.product) for row in (*one.rows, *other.rows)}
    assert set(choices.load(ladder_device.identity()).measured) == names


def test_another_driver_or_version_has_nothing(ladder_device, slow_but):
    slow_but(64, 1)
    path = tune.tune(network(), INPUT, device=ladder_device).file
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"key": "another GPU, driver 1.0"}))
    assert choices.load(ladder_device.identity()).measured == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"key": "x"}', '{"key": "x", "measured": {"a": [1]}}', '{"measured": 1}'])
def test_a_damaged_file_is_named(text, tmp_path):
    choices.file_of("x").write_text(text)
    with pytest.raises(
        DeviceError, match=r"tuned-x\.json holds no schedules .*: remove it, or make it anew by `minicnn tune`$"
    ):
        choices.load("x")


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_devices_without_schedules_are_refused(name):
    with pytest.raises(DeviceError, match=f"^device '{name}' has no graphs"):
        tune.tune(network(), INPUT, device=name)


def test_the_command_prints_a_table(ladder_device, capsys, monkeypatch):
    monkeypatch.setattr(tune, "CANDIDATES", ((0, 0), (64, 1)))
    options = ["--image-size", "28", "--in-channels", "1", "--batch-size", "1", "--num-classes", "3"]
    assert cli.main(["tune", "lenet", *options, "--device", ladder_device.name]) == 0
    out = capsys.readouterr().out
    assert "conv2d_forward" in out
    assert f"kept in {choices.file_of(ladder_device.identity())}" in out


def test_a_run_records_the_schedules_in_force(ladder_device, monkeypatch, tmp_path, rng):
    measured = {"conv2d_forward 1 2 3 float32": [64, 1]}
    monkeypatch.setattr(ladder_device, "choices", Choices(measured))
    images, labels = rng.integers(0, 256, (32, 8, 8, 1), np.uint8), np.arange(32) % 2

    def model(num_classes, image_size, in_channels):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    minicnn.train(
        model, minicnn.data.ArrayDataset(images, labels), device=ladder_device, epochs=1, out=tmp_path, quiet=True
    )
    assert json.loads((tmp_path / "config.json").read_text())["schedules"] == measured
