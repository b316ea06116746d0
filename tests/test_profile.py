"""The profile of a training step: every part once, times that add up, floors where they are known."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

import minicnn
from minicnn import models, nn, plots
from minicnn.layerwise import INPUT, LOSS, OPTIMIZER, Part, told_apart
from minicnn.optim import SGD
from minicnn.profile import Clock, ceilings, profile
from minicnn.step import Step
from minicnn.summary import H100, Machine


def network():
    minicnn.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5)),
    )


def test_every_part_of_the_step_has_a_row(device):
    profiled = profile(network(), (4, 8, 8, 3), device=device, steps=1)
    pooled = (("0", "Conv2d + ReLU"), ("2", "MaxPool2d"))
    assert [(row.path, row.layer) for row in profiled.rows] == [
        *(("input", ""), ("network", "")),
        *(pooled if device.computes_on_host else (("0", "Conv2d + ReLU + MaxPool2d"),)),
        *(
            ("3", "Flatten"),
            ("4", "Linear + ReLU + Dropout"),
            ("7", "Linear"),
        ),
        *(("loss", ""), ("optimizer", "")),
    ]
    for row in profiled.rows:
        assert row.forward_seconds > 0 and (row.backward_seconds > 0) == (row.layer != "" or row.path == "loss")
    assert sum(map(profiled.share, profiled.rows)) == pytest.approx(1)
    assert profiled.step_seconds > 0 and profiled.loader_seconds > 0
    known = {row.path for row in profiled.rows if row.floor_seconds}
    assert known == ({"0", "2", "4", "7"} if device.computes_on_host else set()) or device.name.startswith("cuda")


def test_layers_that_are_not_fused_have_their_own_rows():
    with nn.fusion(False):
        rows = profile(network(), (4, 8, 8, 3), device="cpu", steps=1).rows
    assert [row.path for row in rows if row.layer] == [str(i) for i in range(8)]


class Slow(nn.Module):
    """Sleeps for as long as its neighbours do not."""

    def forward(self, x):
        time.sleep(0.05)
        return minicnn.functional.relu(x)


def test_time_is_that_of_the_layer_that_takes_it():
    slow = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), Slow(), nn.Linear(8, 5))
    profiled = profile(slow, (4, 8, 8, 3), device="numpy", steps=3)
    seconds = {row.path: row.forward_seconds for row in profiled.rows}
    assert max(seconds, key=seconds.get) == "2" and seconds["2"] >= 0.05
    assert profiled.step_seconds >= 0.05


class Sum(nn.Module):
    """Two paths, a sum that is no layer, and a layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.flatten = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Flatten()
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        a = self.a(x)
        return self.fc(self.flatten(self.b(self.b(a)) + a))


def parts_of(model, shape, **options):
    """The parts of one step, in the order in which they were entered."""
    entered = []
    step = Step(model, SGD(model.parameters(), 0.1), **options)
    windows = np.arange(shape[0])[:, None] * [1, 0, 0, 0]
    scale, offset = np.ones(1, np.float32), np.zeros((shape[0], 1), np.float32)
    images = minicnn.data.ImageBatch(np.ones(shape, np.uint8), windows, scale, offset, shape[1:3])
    with told_apart(step, entered.append):
        step(images, np.zeros(shape[0], np.int64))
    assert "forward" not in vars(model) and "update" not in vars(step)
    return [part for i, part in enumerate(entered) if i == 0 or part != entered[i - 1]]


def test_what_no_layer_computes_is_of_the_module_around_it():
    network, a, b, flatten, fc = (Part(path, "forward") for path in ("network", "a", "b", "flatten", "fc"))
    backward = [Part(path, "backward") for path in ("loss", "fc", "flatten", "network", "b", "a")]
    parts = parts_of(Sum(), (2, 4, 4, 1))
    forward = [INPUT, network, a, network, b, network, b, network, flatten, network, fc, network, INPUT, LOSS]
    behind = [part for part in parts[len(forward) :] if part != INPUT]
    assert parts[: len(forward)] == forward
    assert [part for i, part in enumerate(behind) if i == 0 or part != behind[i - 1]] == [*backward, OPTIMIZER]


def test_in_slices_each_has_its_parts():
    parts = parts_of(Sum(), (5, 4, 4, 1), micro_batch=2)
    assert parts.count(LOSS) == 3 and parts.count(OPTIMIZER) == 1


def test_the_clock_leaves_nothing_out():
    clock = Clock(minicnn.backend.device("numpy"))
    for _ in range(2):
        for part in (INPUT, LOSS, INPUT):
            clock.enter(part)
            time.sleep(0.01)
        clock.stop()
    medians = clock.medians()
    assert list(medians) == [INPUT, LOSS] and medians[INPUT] >= 0.02 and medians[LOSS] >= 0.01


def test_everything_goes_into_json_and_into_the_table():
    profiled = profile(models.lenet(10, 28, 1), (2, 28, 28, 1), device="cpu", steps=2)
    read = json.loads(json.dumps(profiled.as_dict()))
    assert read["rows"][0]["path"] == "input" and sum(row["share"] for row in read["rows"]) == pytest.approx(1)
    assert Machine(**read["machine"]) == profiled.machine
    lines = str(profiled).splitlines()
    assert lines[0].strip() == "lenet, full form: x (2, 28, 28, 1), on cpu, ms"
    assert lines[-3].startswith("step: ") and lines[-1].startswith("floor: at the ceilings of this machine's ")


def test_the_picture(tmp_path):
    if not plots.available():
        pytest.skip("matplotlib is not installed")
    profile(network(), (2, 8, 8, 3), device="numpy", steps=1).draw(tmp_path / "time.png")
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")


def test_weights_stay_as_they_are():
    model = network()
    before = [p.numpy() for p in model.parameters()]
    profile(model, (4, 8, 8, 3), device="numpy", steps=1)
    for p, values in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), values)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"^profile: steps must be at least 1, got 0$"):
        profile(network(), (4, 8, 8, 3), steps=0)


@pytest.mark.parametrize(("precision", "times"), [("float32", 1), ("tf32", 7.4), ("bfloat16", 14.8), ("float16", 14.8)])
def test_an_h100_multiplies_faster_on_tensor_cores(precision, times):
    device = SimpleNamespace(computes_on_host=False, hardware=lambda: "NVIDIA H100 80GB HBM3")
    assert ceilings(device, precision).flops / H100.flops == pytest.approx(times, abs=0.1)
    assert ceilings(device, precision).bandwidth == H100.bandwidth


def test_a_profile_s_floors_are_those_of_its_precision(monkeypatch):
    asked = []
    monkeypatch.setitem(profile.__globals__, "ceilings", lambda device, precision: asked.append(precision))
    profile(network(), (4, 8, 8, 3), device="numpy", steps=1, precision="tf32")
    assert asked == ["tf32"]
