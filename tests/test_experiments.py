"""Experiments: every variant trains, the record is whole, and the sentence says what the numbers say."""

import itertools
import math

import numpy as np
import pytest

import minicnn
from minicnn import cli, data, experiments, nn, plots
from minicnn.commands import options
from minicnn.experiments import networks, records
from minicnn.experiments.records import MEASURES, Record

QUICK = {"epochs": 2, "batch_size": 16, "warmup_steps": 0}


@pytest.fixture(scope="module")
def few():
    whole = data.open("fashion-mnist-12k")
    subsets = (data.Subset(split, np.arange(0, 960, 2)) for split in (whole.train, whole.validation, whole.test))
    return data.Splits("few garments", *subsets)


@pytest.fixture
def unseen(monkeypatch):
    """No pictures: most of the time of a short run."""
    monkeypatch.setattr(plots, "available", lambda: False)


@pytest.fixture(scope="module")
def fewer(few):
    return data.Splits("fewer garments", data.Subset(few.train, np.arange(64)), data.Subset(few.test, np.arange(64)))


def test_an_experiment_leaves_a_table_a_picture_and_a_sentence(fewer, tmp_path, capsys):
    found = experiments.run("lrn", fewer, seeds=(0, 1), out=tmp_path / "out", **QUICK)
    rows = records.read(tmp_path / "out/results.csv")
    expected = itertools.product(("with", "without"), "01", "12")
    assert [(row["variant"], row["seed"], row["epoch"]) for row in rows] == list(expected)
    ends = {(row["variant"], int(row["seed"])): float(row["accuracy"]) for row in rows if row["epoch"] == "2"}
    assert ends == {(record.variant, record.seed): record.accuracy for record in found}
    for measure in MEASURES.values():
        assert measure.read(rows) == measure.values(found)
    assert all(row["accuracy"] == "" for row in rows if row["epoch"] == "1")
    losses = {(record.variant, record.seed): record.epochs[0]["train_loss"] for record in found}
    assert len(set(losses.values())) == 4
    assert (tmp_path / "out/picture.png").exists() == plots.available()
    assert len(list((tmp_path / "out").glob("*/last.safetensors"))) == 4
    printed = capsys.readouterr().out
    assert printed.startswith("lrn: does local response normalisation lower the error?")
    assert "without, seed 1 (4 of 4): test accuracy 0." in printed
    assert printed.rstrip().endswith(experiments.findings(experiments.EXPERIMENTS["lrn"], found))


def test_without_test_images_the_validation_images_decide(fewer, unseen, tmp_path):
    (record, _) = experiments.run("lrn", fewer, seeds=(0,), out=tmp_path, quiet=True, **QUICK)
    assert record.accuracy == record.epochs[-1]["val_top1"]


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_network_takes_a_step(name, fewer, unseen, tmp_path):
    """All variants are told apart by their first step, but for those that differ in how they are trained."""
    found = experiments.run(name, fewer, seeds=(0,), out=tmp_path, quiet=True, **QUICK | {"epochs": 1})
    experiment = experiments.EXPERIMENTS[name]
    assert [record.variant for record in found] == list(experiment.variants)
    if name not in ("relu-vs-tanh", "precision"):
        assert len({record.epochs[0]["train_loss"] for record in found}) == len(found)


def test_a_run_that_learns_nothing_or_diverges_is_a_result(fewer, unseen, tmp_path):
    stuck = experiments.run("init", fewer, seeds=(0,), out=tmp_path / "stuck", quiet=True, **QUICK | {"lr": 1e-9})
    assert [len(record.epochs) for record in stuck] == [2, 2, 2]
    assert max(record.accuracy for record in stuck) < 0.4  # of which the most frequent class has less
    wild = QUICK | {"lr": 1e6, "clip_norm": None}
    lost = experiments.run("init", fewer, seeds=(0,), out=tmp_path / "lost", quiet=True, **wild)
    assert [record.accuracy for record in lost][:2] == [None, None]
    assert "He, 2 / fan_in: never (never to never)" in experiments.findings(experiments.EXPERIMENTS["init"], lost)


def ended_at(**accuracies):
    return [Record(name, i, [{}], [], top1) for name, each in accuracies.items() for i, top1 in enumerate(each)]


def test_the_sentence_says_whether_seeds_overlap():
    def sentence(**accuracies):
        return records.finding(MEASURES["accuracy"], MEASURES["accuracy"].values(ended_at(**accuracies)))

    assert sentence(new=(0.86, 0.85, 0.87), old=(0.84, 0.83, 0.82)) == (
        "test accuracy, median and range: new: 0.8600 (0.8500 to 0.8700); old: 0.8300 (0.8200 to 0.8400). "
        "Every seed of new is better than every one of old."
    )
    assert sentence(new=(0.86, 0.83, 0.87), old=(0.84, 0.83, 0.82)).endswith("no difference is shown.")
    assert sentence(new=(0.86, 0.85), old=(0.8, 0.7), lost=(None, 0.1), near=(0.88, 0.8)).endswith(
        "Every seed of new is better than every one of old and lost; its seeds overlap with those of near."
    )


def test_fewer_steps_and_lower_losses_are_better():
    slow, fast, never = ([0.5] * wait + [1.0] * 60 for wait in (30, 0, 200))
    runs = [
        Record(name, 0, [{}], steps, 0.9) for name, steps in (("slow", slow), ("fast", fast), ("never", never[:90]))
    ]
    values = MEASURES["steps_to_25"].values(runs)
    assert values == {"slow": [40], "fast": [20], "never": [math.inf]}
    assert "Every seed of fast is better than every one of slow and never." in records.finding(
        MEASURES["steps_to_25"], values
    )


def test_the_training_error_is_a_mean_over_batches():
    record = Record("any", 0, [], [0.0] * 20 + [1.0] * 20, None)
    assert np.allclose(record.training_error(), np.linspace(1, 0, 21))
    assert (record.steps_to(0.25), record.steps_to(-0.5)) == (35, None)
    assert len(Record("short", 0, [], [1.0] * 19, None).training_error()) == 0


def test_an_unknown_name_and_a_folder_in_use_are_refused(few, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"^unknown experiment 'size': choose one of relu-vs-tanh, "):
        experiments.run("size", few, out=tmp_path)
    (tmp_path / "with-seed-0").mkdir()
    (tmp_path / "with-seed-0/config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="holds the runs of an experiment; choose another folder"):
        experiments.run("lrn", few, out=tmp_path)
    with pytest.raises(ValueError, match="few garments has neither test nor validation images"):
        experiments.run("lrn", data.Splits("few garments", few.train), out=tmp_path / "new")
    assert cli.main(["experiment", "size"]) == options.USAGE
    assert "unknown experiment 'size'" in capsys.readouterr().err


def test_the_bar_says_which_run_it_is_and_prints_nothing_else(capsys):
    shown = []
    progress = experiments.RunProgress(False, "with, seed 1 (2 of 6)")
    progress.bar = type("Bar", (), {"update": lambda _, task, **fields: shown.append(fields["description"])})()
    progress.task = 0
    progress.update(3, "epoch 1/2", loss=1.0, top1=0.5, lr=0.1, images_per_second=10.0, data_wait=0.0)
    progress.say("a line")
    assert shown == ["with, seed 1 (2 of 6), epoch 1/2"]
    assert capsys.readouterr().out == ""


def build(constructor):
    return constructor(num_classes=10, image_size=28, in_channels=1)


def test_the_small_networks_are_what_their_docstrings_count():
    macs = minicnn.summary(build(networks.after_alexnet()), (1, 28, 28, 1)).macs
    assert 3.5e6 < macs < 4.5e6
    for blocks in (1, 3):
        deep = build(networks.after_resnet(blocks, "A"))
        weights = [p for name, p in deep.named_parameters() if p.ndim > 1]
        assert len(weights) == 6 * blocks + 2


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_initial_weights_have_the_gain_of_the_activation_that_follows(activation):
    minicnn.manual_seed(0)
    network = build(networks.after_alexnet(activation))
    *hidden, logits = [layer.weight for layer in network if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for weight in hidden:
        gain = weight.numpy().std() * math.sqrt(nn.init.fan_in(weight))
        assert gain == pytest.approx({nn.ReLU: math.sqrt(2), nn.Tanh: 1}[activation], rel=0.1)
    assert logits.numpy().std() * math.sqrt(nn.init.fan_in(logits)) == pytest.approx(0.1, rel=0.1)


def test_a_fixed_deviation_holds_for_every_layer():
    minicnn.manual_seed(0)
    network = build(networks.after_vgg(3, 3, std=0.01))
    for weight in (p for p in network.parameters() if p.ndim > 1):
        assert weight.numpy().std() == pytest.approx(0.01, rel=0.2)
