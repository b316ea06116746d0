"""Experiments: every variant trains, the record is whole, and the sentence says what the numbers say."""

import csv

import numpy as np
import pytest

import minicnn
from minicnn import cli, data, experiments, plots
from minicnn.commands import options
from minicnn.evaluation import Score
from minicnn.trainer import History


@pytest.fixture(scope="module")
def few():
    whole = data.open("fashion-mnist-12k")
    subsets = (data.Subset(split, np.arange(0, 960, 2)) for split in (whole.train, whole.validation, whole.test))
    return data.Splits("few garments", *subsets)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_variant_trains(name, few, tmp_path, capsys):
    quick = {"epochs": 2, "batch_size": 16, "warmup_steps": 0}
    histories = experiments.run(name, few, seeds=(0,), out=tmp_path / "out", **quick)
    variants = experiments.EXPERIMENTS[name].variants
    assert list(histories) == list(variants)
    with (tmp_path / "out/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"], row["epoch"]) for row in rows] == [
        (variant, seed, epoch) for variant in variants for seed in "0" for epoch in "12"
    ]
    ends = {(row["variant"], row["seed"]): row["test_top1"] for row in rows if row["epoch"] == "2"}
    for variant, runs in histories.items():
        assert [ends[variant, "0"]] == [str(history.test.top1) for history in runs]
    first, second, *_ = histories.values()
    assert first[0].epochs[0]["train_loss"] != second[0].epochs[0]["train_loss"]
    assert (tmp_path / "out/picture.png").exists() == plots.available()
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}: {experiments.EXPERIMENTS[name].question}")
    assert printed.rstrip().endswith(experiments.finding(histories))


def ended_at(*accuracies):
    return [
        History(None, test=Score(count=100, correct=round(100 * top1), correct5=100, loss=0.5)) for top1 in accuracies
    ]


def test_the_sentence_says_whether_seeds_overlap():
    apart = {"with": ended_at(0.86, 0.85, 0.87), "without": ended_at(0.84, 0.83, 0.82)}
    assert experiments.finding(apart) == (
        "test accuracy, median and range: with 0.8600 (0.8500 to 0.8700), without 0.8300 (0.8200 to 0.8400): "
        "every seed of with ends above every one of without"
    )
    overlapping = {"with": ended_at(0.86, 0.83, 0.87), "without": ended_at(0.84, 0.83, 0.82)}
    assert experiments.finding(overlapping).endswith(": the seeds overlap, no difference is shown")


def test_an_unknown_name_and_a_folder_in_use_are_refused(few, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"^unknown experiment 'size': choose one of relu-vs-tanh, "):
        experiments.run("size", few, out=tmp_path)
    (tmp_path / "results.csv").write_text("")
    with pytest.raises(FileExistsError, match="holds the results of an experiment; choose another folder"):
        experiments.run("lrn", few, out=tmp_path)
    assert cli.main(["experiment", "size"]) == options.USAGE
    assert "unknown experiment 'size'" in capsys.readouterr().err


def test_the_small_network_is_what_its_docstring_counts():
    network = experiments.small_network()(num_classes=10, image_size=28, in_channels=1)
    macs = minicnn.summary(network, (1, 28, 28, 1)).macs
    assert 13.5e6 < macs < 14.5e6
