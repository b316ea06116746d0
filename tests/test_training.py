"""The training loop, on real images: it learns, records, stops, resumes to the same bytes, and says when it fails."""

import functools
import itertools
import json
import os
import re
import signal
import threading
import time

import numpy as np
import pytest

import minicnn
from minicnn import checkpoint, data, digests, models, nn, plots, step, trainer
from minicnn.errors import TrainingError
from minicnn.loss_scale import LossScale
from minicnn.settings import Settings
from minicnn.training import train

QUICK = {"epochs": 2, "batch_size": 32, "quiet": True, "device": "numpy", "warmup_steps": 5}


def small_network(num_classes, image_size, in_channels):
    """A convolution and a linear layer: learns something in seconds."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 5, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(((image_size - 4) // 4) ** 2 * 8, num_classes),
    )


@pytest.fixture(scope="module")
def splits():
    """320 training, 100 validation and 200 test images of the bundled set."""
    whole = data.open("fashion-mnist-12k")
    return data.Splits(
        "some garments",
        data.Subset(whole.train, np.arange(0, 8960, 28)),
        data.Subset(whole.validation, np.arange(0, 1000, 10)),
        data.Subset(whole.test, np.arange(0, 2000, 10)),
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_learns_and_leaves_its_record(splits, tmp_path):
    history = train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 4}))
    assert history.test.top1 > 0.5
    assert history.linear_test_top1 > 0.5
    metrics, steps = rows(tmp_path / "run/metrics.jsonl"), rows(tmp_path / "run/steps.jsonl")
    assert metrics == history.epochs
    assert list(metrics[0]) == [
        *("epoch", "step", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"),
        *("lr", "images_per_second", "data_wait", "seconds"),
    ]
    assert [row["step"] for row in steps] == list(range(1, 41))
    assert metrics[-1]["train_loss"] < min(metrics[0]["train_loss"], np.log(10) - 0.5)
    assert metrics[0]["train_loss"] == pytest.approx(np.mean([row["loss"] for row in steps[:10]]))
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["settings"]["epochs"] == 4
    assert config["data"] == "some garments"
    pictures = {"curves.png", "filters.png"} if plots.available() else set()
    files = {"config.json", "recipe.toml", "steps.jsonl", "metrics.jsonl", "last.safetensors", "best.safetensors"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == files | pictures


class TwoHeads(nn.Module):
    """A network with a loss of its own: in training it has two outputs, and the second weighs ten times as much."""

    def __init__(self):
        super().__init__()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(28 * 28, 10)

    def forward(self, x):
        logits = self.fc(self.flatten(x))
        return (logits, 2 * logits) if self.training else logits

    def loss(self, outputs, target, label_smoothing=0.0):
        logits, second = outputs
        parts = [minicnn.functional.cross_entropy(y, target, label_smoothing) for y in (logits, second)]
        return parts[0] + 10 * parts[1]


def test_a_network_may_have_a_loss_of_its_own(splits, tmp_path):
    history = train(TwoHeads(), splits, out=tmp_path, **QUICK)
    assert rows(tmp_path / "steps.jsonl")[0]["loss"] > 10 * np.log(10)
    assert history.epochs[-1]["train_top1"] > 0.5 and history.test.loss < np.log(10)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(splits, tmp_path):
    weights = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(small_network, splits, out=tmp_path / name, seed=seed, **(QUICK | {"epochs": 1}))
        weights.append(checkpoint.read(tmp_path / name / "last.safetensors")[0])
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])


STOPS = {
    "inside_the_first_epoch": (3, {}),
    "at_its_end": (10, {}),
    "inside_the_second": (14, {}),
    "in_slices_of_the_batch": (14, {"micro_batch": 12}),
    "with_steps_in_backward": (14, {"step_in_backward": True, "clip_norm": None, "device": "emulated"}),
}


@pytest.mark.parametrize(("stop_at", "changes"), STOPS.values(), ids=STOPS)
def test_interrupted_and_resumed_equals_straight(splits, tmp_path, monkeypatch, stop_at, changes):
    settings = QUICK | changes
    train(small_network, splits, out=tmp_path / "straight", **settings)

    whole_step = trainer.Trainer.train_step

    def interrupted_step(self, images, labels):
        whole_step(self, images, labels)
        if self.step_number == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer.Trainer, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt, match=rf"^stopped after step {stop_at}, saved in .*; --resume goes on$"):
        train(small_network, splits, out=tmp_path / "stopped", **settings)
    monkeypatch.undo()
    train(small_network, splits, out=tmp_path / "stopped", resume=True, quiet=True, device=settings["device"])

    straight, stopped = (checkpoint.read(tmp_path / name / "last.safetensors") for name in ("straight", "stopped"))
    assert straight[1] == stopped[1]
    for name, array in straight[0].items():
        np.testing.assert_array_equal(array, stopped[0][name], err_msg=name)
    assert (tmp_path / "straight/steps.jsonl").read_bytes() == (tmp_path / "stopped/steps.jsonl").read_bytes()
    times = {"images_per_second", "data_wait", "seconds"}
    for one, other in zip(
        rows(tmp_path / "straight/metrics.jsonl"), rows(tmp_path / "stopped/metrics.jsonl"), strict=True
    ):
        assert {k: v for k, v in one.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


def test_killed_and_resumed_equals_straight(splits, tmp_path, monkeypatch):
    """Killed four steps behind a checkpoint, in the middle of a line of steps.jsonl."""
    train(small_network, splits, out=tmp_path / "straight", **QUICK)
    whole_step = trainer.Trainer.train_step

    def killed_step(self, images, labels):
        whole_step(self, images, labels)
        if self.step_number == 14:
            raise SystemExit

    monkeypatch.setattr(trainer.Trainer, "train_step", killed_step)
    with pytest.raises(SystemExit):
        train(small_network, splits, out=tmp_path / "killed", **QUICK)
    monkeypatch.undo()
    with (tmp_path / "killed/steps.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    train(small_network, splits, out=tmp_path / "killed", resume=True, quiet=True, device="numpy")

    for name in ("steps.jsonl", "last.safetensors", "best.safetensors"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert not list((tmp_path / "killed").glob(".*"))


def test_digests_stand_at_every_nth_step_and_at_the_end_of_an_epoch(splits, tmp_path, device):
    """Also where losses are read later than their step: the digest is of the weights right after it."""
    few = data.Splits("few garments", data.Subset(splits.train, np.arange(36)))
    settings = QUICK | {"device": device, "batch_size": 6, "digest_every": 4}
    train(small_network, few, out=tmp_path / "run", **settings)
    steps = rows(tmp_path / "run/steps.jsonl")
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert [row["step"] for row in steps if "digest" in row] == [4, 6, 8, 12]
    network = small_network(10, 28, 1)
    network.load_state_dict(checkpoint.without_prefix("model.", checkpoint.read(tmp_path / "run/last.safetensors")[0]))
    assert steps[-1]["digest"] == digests.of_network(network)
    assert all(steps[3]["digest"][name] != steps[-1]["digest"][name] for name in ("0.weight", "5.bias"))
    train(small_network, few, out=tmp_path / "each", **(settings | {"digest_every": 1}))
    each = rows(tmp_path / "each/steps.jsonl")
    assert all(row["digest"] == each[row["step"] - 1]["digest"] for row in steps if "digest" in row)


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_change_no_byte(splits, tmp_path, workers):
    train(small_network, splits, out=tmp_path / "run", workers=workers, **(QUICK | {"epochs": 1}))
    train(small_network, splits, out=tmp_path / "usual", **(QUICK | {"epochs": 1}))
    for name in ("steps.jsonl", "last.safetensors", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "usual" / name).read_bytes(), name


def test_the_config_tells_what_a_resumed_run_went_on_with(splits, tmp_path):
    train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    train(small_network, splits, out=tmp_path / "run", resume=True, epochs=2, quiet=True, device="cpu")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (resumed,) = config["resumed"]
    assert (config["device"], config["settings"]["epochs"]) == ("numpy", 1)
    assert (resumed["after_step"], resumed["device"], resumed["settings"]["epochs"]) == (10, "cpu", 2)
    assert config["environment"] == resumed["environment"]
    assert config["environment"]["numpy"] == np.__version__
    assert config["images"] == {
        "training": 320,
        "mean": [pytest.approx(splits.train.read(np.arange(320)).mean() / 255)],
    }


def test_a_run_never_writes_into_another(splits, tmp_path):
    first = train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    second = train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    assert (first.folder.name, second.folder.name) == ("run", "run-2")


@pytest.mark.parametrize("precision", ("tf32", "bfloat16", "float16"))
def test_a_reduced_precision_learns_as_float32_does(splits, tmp_path, precision):
    """About the same losses, but others; float16 says by what it scaled them."""
    steps = {}
    for name in ("float32", precision):
        train(small_network, splits, out=tmp_path / name, precision=name, **(QUICK | {"epochs": 1}))
        steps[name] = rows(tmp_path / name / "steps.jsonl")
    expected, losses = ([row["loss"] for row in steps[name]] for name in ("float32", precision))
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses[1:] != expected[1:]
    assert {row.get("loss_scale") for row in steps[precision]} == {65536.0 if precision == "float16" else None}


def test_a_step_whose_gradients_overflow_moves_nothing_and_halves_the_scale(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "LossScale", lambda: LossScale(value=2.0**24))
    train(small_network, splits, out=tmp_path / "run", precision="float16", digest_every=1, **QUICK)
    steps = rows(tmp_path / "run/steps.jsonl")
    halved = [after["loss_scale"] == before["loss_scale"] / 2 for before, after in itertools.pairwise(steps)]
    stayed = [
        after["digest"]["0.weight"] == before["digest"]["0.weight"] for before, after in itertools.pairwise(steps)
    ]
    assert steps[0]["loss_scale"] == 2.0**23
    assert halved == stayed
    assert any(halved)
    assert not all(halved)


def test_an_unknown_precision_is_refused_before_anything_is_written(splits, tmp_path):
    with pytest.raises(ValueError, match=r"^precision must be one of float32, tf32, bfloat16, float16, got 'half'$"):
        train(small_network, splits, out=tmp_path / "run", precision="half", **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(splits, tmp_path):
    with pytest.raises(TrainingError, match=r"^the loss is (nan|inf) at step \d+ \(learning rate \S+\): lower lr, "):
        train(small_network, splits, out=tmp_path / "run", lr=1e6, clip_norm=None, **(QUICK | {"warmup_steps": 0}))


def test_a_network_at_chance_is_a_failure(splits, tmp_path):
    with pytest.raises(
        TrainingError, match=r"^test accuracy 0\.\d+ is no better than always naming one class \(0\.1200\)"
    ):
        train(small_network, splits, out=tmp_path / "run", lr=0.0, **(QUICK | {"epochs": 1}))


def test_a_module_of_ones_own_is_trained_as_it_is(splits, tmp_path):
    network = small_network(10, 28, 1)
    before = network[0].weight.numpy()
    train(network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    assert np.abs(network[0].weight.numpy() - before).max() > 1e-3


def test_arrays_are_data_too(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = np.where(labels[:, None, None], np.arange(28) * 9, np.arange(28)[::-1] * 9).astype(np.uint8)
    images = np.broadcast_to(images.reshape(200, -1, 28)[:, :1], (200, 28, 28)) + rng.integers(
        0, 3, (200, 28, 28), np.uint8
    )
    history = train(
        small_network, (images, labels), out=tmp_path / "run", augment="none", **(QUICK | {"batch_size": 20})
    )
    assert history.test.top1 > 0.9


def test_training_works_outside_the_main_thread(splits, tmp_path):
    done = []
    thread = threading.Thread(
        target=lambda: done.append(train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1})))
    )
    thread.start()
    thread.join()
    assert done[0].test.top1 > 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"micro_batch": 0}, "micro_batch must be at least 1, got 0"),
        ({"digest_every": 0}, "digest_every must be at least 1, got 0"),
        ({"workers": -1}, "workers is -1: expected at least 0"),
        ({"schedule": "linar"}, "unknown schedule 'linar': choose one of linear, cosine, step, plateau"),
        ({"augment": "miror"}, "unknown augment 'miror'; did you mean mirror?"),
        ({"augment": {"crp": 24}}, "unknown field of augment 'crp'; did you mean crop?"),
        ({"augment": {"crop": 0}}, "Augment: crop is 0: expected at least 1"),
        ({"optimizer": "adma"}, "unknown optimizer 'adma'; did you mean adam?"),
        ({"ema": 1.0}, "ema must lie between 0 and 1, got 1.0"),
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"lr": "0.1"}, "lr must be float, got '0.1'"),
        ({"schedule": "step", "milestones": [0.5, 30]}, "milestones are parts of the run, between 0 and 1, got 30"),
        ({"drop": 0.0}, "drop, what the learning rate is multiplied by, must lie in (0, 1], got 0.0"),
        ({"multipliers": {"*.bias": 2}}, "multipliers: '*.bias' must be a table of lr and decay, got 2"),
        (
            {"multipliers": {"6.*": {"lr": 0.0}}},
            "multipliers: no parameter is called '6.*'; there are 0.weight, 0.bias, 5.weight, 5.bias",
        ),
        ({"dialect": "caffe"}, "SGD: dialect must be 'torch' or 'paper', got 'caffe'"),
        ({"clip_norm": -1.0}, "clip_norm must be above 0, got -1.0"),
        ({"step_in_backward": 1}, "step_in_backward must be bool, got 1"),
        ({"keep": True}, "keep must be int, got True"),
        (
            {"step_in_backward": True},
            "step_in_backward excludes clip_norm, which is 5.0: the norm is that of all gradients, which are not kept. "
            "Leave the one out, or the other (clip_norm=False; --set clip_norm=false)",
        ),
        (
            {"step_in_backward": True, "clip_norm": False, "optimizer": "adam"},
            "step_in_backward excludes optimizer='adam': there are kernels for the step of 'sgd' alone",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_anything_is_written(splits, tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        train(small_network, splits, out=tmp_path / "run", **(QUICK | settings))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_fit_is_refused_with_the_slice_that_does(splits, tmp_path):
    message = (
        r"^this run needs \d+\.\d MiB of memory on numpy \(.* through \d, batch 64\), there are 1.0 MiB: "
        r"with micro_batch=(\d+) the same batch goes in slices and needs (\d+\.\d) (M|K)iB$"
    )
    settings = QUICK | {"batch_size": 64, "epochs": 1, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match=message) as refused:
        train(small_network, splits, memory_limit=1 << 20, **settings)
    assert not (tmp_path / "run").exists()
    proposed = int(re.search(message, str(refused.value))[1])
    train(small_network, splits, memory_limit=1 << 20, micro_batch=proposed, **settings)
    with pytest.raises(ValueError, match=r"there are 4\.0 KiB, and one image at a time does not fit either: use a "):
        train(small_network, splits, memory_limit=1 << 12, **settings)


def test_published_initial_values_are_looked_at_beside_what_was_foreseen(splits, tmp_path, capsys):
    """In slices of two images, where the report's noise is more."""
    settings = QUICK | {"epochs": 1, "micro_batch": 2, "device": "cpu", "quiet": False}
    train(functools.partial(models.lenet5, initialize="paper"), splits, out=tmp_path / "run", **settings)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("initial values: first loss ") for line in lines)
    (use,) = (line for line in lines if "foreseen" in line)
    used, foreseen = re.match(r"memory: (\S+) MiB in use at once \((\S+) MiB foreseen\)", use).groups()
    assert float(used) <= float(foreseen)


def test_a_network_that_looks_at_values_trains_without_a_plan(splits, tmp_path, capsys):
    class Looking(TwoHeads):
        def forward(self, x):
            x.data[...] = np.minimum(x.data, 3)
            return super().forward(x)

    train(Looking(), splits, out=tmp_path / "run", **(QUICK | {"quiet": False}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "memory: not foreseen, the network looks at values"
    assert re.match(r"memory: \S+ KiB in use at once, \S+ KiB held$", lines[6])


def test_steps_in_backward_that_cannot_be_are_refused_before_images_are_read():
    with pytest.raises(ValueError, match=r"^step_in_backward excludes clip_norm, which is 5\.0: "):
        Settings(step_in_backward=True)


def test_steps_in_backward_make_the_same_run(splits, tmp_path, monkeypatch):
    """With an average of the weights, which needs no gradients; the fully connected weight has none."""
    settings = QUICK | {"epochs": 1, "clip_norm": None, "ema": 0.9, "device": "emulated"}
    weights, moved, end_epoch = {}, {}, trainer.Trainer.end_epoch

    def watched(self, *arguments):
        moved[self.folder.path.name] = self.network[5].weight.slot.stale
        end_epoch(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "end_epoch", watched)
    for name, changes in {"behind": {}, "within": {"step_in_backward": True}}.items():
        train(small_network, splits, out=tmp_path / name, **settings, **changes)
        weights[name] = checkpoint.read(tmp_path / name / "last.safetensors")[0]
    assert moved == {"behind": False, "within": True}
    for name, values in weights["behind"].items():
        np.testing.assert_allclose(weights["within"][name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    assert "step_in_backward = true" in (tmp_path / "within" / "recipe.toml").read_text()


def test_an_unknown_setting_is_named(splits):
    with pytest.raises(ValueError, match=r"^unknown setting 'momentun'; did you mean momentum\?$"):
        train(small_network, splits, momentun=0.1)


def test_resuming_needs_a_run(tmp_path):
    with pytest.raises(minicnn.CheckpointError, match=r"^there is no run in .*none to resume: it has no recipe\.toml$"):
        train(small_network, out=tmp_path / "none", resume=True)


def test_resuming_with_other_classes_is_refused(splits, tmp_path):
    train(small_network, splits, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    other = data.ArrayDataset(np.zeros((40, 28, 28), np.uint8), np.arange(40) % 4)
    with pytest.raises(minicnn.CheckpointError, match=r"knows 10 classes, the data has 4"):
        train(small_network, other, out=tmp_path / "run", resume=True, quiet=True, device="numpy")


def test_the_screen_off_a_terminal_has_plain_lines(splits, tmp_path, capsys):
    started = time.perf_counter()
    train(small_network, splits, out=tmp_path / "run", **(QUICK | {"quiet": False, "epochs": 1}))
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line or "\r" in line for line in lines)
    assert lines[0].startswith("sequential: 3,098 parameters, on numpy")
    assert lines[1] == "some garments: 320 training, 100 validation, 200 test images, 28x28x1, 10 classes"
    of_memory = r"memory: \d+\.\d [KM]iB at most, \d+\.\d [KM]iB in use at once (back|for)ward through \d, batch 32$"
    assert re.match(of_memory, lines[2])
    assert re.match(r"epoch   1/1  loss \d\.\d{4} top-1 0\.\d{4}  validation loss ", lines[4])
    assert re.match(r"memory: (\d+\.\d [KM]iB (in use at once|held) \(\d+\.\d [KM]iB foreseen\)(, |$)){2}", lines[5])
    assert re.match(r"test accuracy 0\.\d{4} \(\d+ of 200\), top-5 0\.\d{4}$", lines[-1])
    assert float(re.search(r"([\d.]+) s$", lines[4])[1]) < time.perf_counter() - started
