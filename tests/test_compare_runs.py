"""compare-runs: equal runs, and each way in which two runs can part, made by changing one thing in a copy."""

import json
import re
import shutil

import numpy as np
import pytest

from minicnn import checkpoint, cli, data, nn, training
from minicnn.compare_runs import compare

QUICK = {"warmup_steps": 0, "quiet": True, "device": "cpu"}


def tiny_network(num_classes, image_size, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2 * in_channels, num_classes))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs a and c, of seeds 0 and 1: two epochs of four steps, digests every third."""
    labels = np.arange(40) % 2
    shades = np.broadcast_to((40 + 160 * labels).astype(np.uint8)[:, None, None], (40, 4, 4))
    noise = np.random.default_rng(0).integers(0, 30, shades.shape, np.uint8)
    images = data.ArrayDataset(shades + noise, labels)
    splits = data.Splits("shades", data.Subset(images, np.arange(32)), data.Subset(images, np.arange(32, 40)))
    root = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 0), ("c", 1)):
        out = root / name
        training.train(tiny_network, splits, out=out, seed=seed, epochs=2, batch_size=8, digest_every=3, **QUICK)
    return root


@pytest.fixture
def runs(made, tmp_path):
    """(a, a copy of it to break)."""
    shutil.copytree(made / "a", tmp_path / "b")
    return made / "a", tmp_path / "b"


def change(file, step, **entries):
    """Overwrite entries of the row of that step."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        if row["step"] == step:
            row |= entries
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def digests_at(run, step):
    rows = map(json.loads, (run / "steps.jsonl").read_text().splitlines())
    return next(row["digest"] for row in rows if row["step"] == step)


def test_a_run_equals_its_copy_whatever_its_times(runs):
    one, other = runs
    change(other / "metrics.jsonl", 4, seconds=1e9, data_wait=0.9, images_per_second=0.1)
    comparison = compare(one, other)
    assert comparison.equal
    assert str(comparison) == f"{one} and {other} are equal: 8 steps, 2 epochs, last.safetensors to the byte"


def test_another_seed_parts_at_the_first_step_and_is_named(made):
    lines = str(compare(made / "a", made / "c")).splitlines()
    assert re.match(r".*/a and .*/c differ first at step 1, loss: [\d.]+ against [\d.]+$", lines[0])
    assert lines[1] == "weights: after step 3, 2 of 2 parameters and buffers differ, 1.weight first"
    assert "--digest-every 1 on both" in lines[2]
    assert re.match(r"losses:  at most \d\.\de.\d\d of the loss apart \(step \d of the 8 that both have\)$", lines[3])
    assert lines[4:] == ["look at: settings.seed, 0 against 1"]


def test_a_digest_names_step_and_parameter(runs):
    one, other = runs
    before = digests_at(one, 6)
    change(other / "steps.jsonl", 6, digest=before | {"1.bias": "0123456789abcdef"})
    lines = str(compare(one, other)).splitlines()
    assert lines[0] == f"{one} and {other} differ first at step 6, 1.bias: {before['1.bias']} against 0123456789abcdef"
    assert lines[1] == "weights: equal after step 4; after step 6, 1 of 2 parameters and buffers differ, 1.bias first"
    assert lines[-1] == "look at: the image files, the code and the machine; config.json says the same of both runs"


def test_a_loss_between_two_digests(runs):
    one, other = runs
    change(other / "steps.jsonl", 7, loss=0.5)
    comparison = compare(one, other)
    assert comparison.differences[0].where == "step 7"
    assert comparison.differences[0].what == "loss"
    assert comparison.differences[0].values[1] == 0.5
    assert "weights: equal after step 8" in str(comparison)
    assert "(step 7 of the 8 that both have)" in str(comparison)


@pytest.mark.parametrize(
    ("file", "step", "name", "where"),
    [
        ("steps.jsonl", 2, "lr", "step 2"),
        ("metrics.jsonl", 4, "val_top1", "step 4, the end of an epoch"),
        ("metrics.jsonl", 8, "train_loss", "step 8, the end of an epoch"),
    ],
)
def test_every_quantity_counts(runs, file, step, name, where):
    change(runs[1] / file, step, **{name: 0.123})
    (difference,) = compare(*runs).differences
    assert (difference.where, difference.what, difference.values[1]) == (where, name, 0.123)


def test_differences_come_in_the_order_of_time(runs):
    change(runs[1] / "metrics.jsonl", 4, val_loss=9.0)
    change(runs[1] / "steps.jsonl", 5, loss=9.0)
    change(runs[1] / "steps.jsonl", 4, digest={})
    assert [(d.where, d.what) for d in compare(*runs).differences] == [
        ("step 4", "1.weight"),
        ("step 4", "1.bias"),
        ("step 4, the end of an epoch", "val_loss"),
        ("step 5", "loss"),
    ]


@pytest.mark.parametrize("name", ["model.1.bias", "optimizer.velocity"])
def test_one_bit_of_the_last_checkpoint_counts(runs, name):
    one, other = runs
    arrays, description = checkpoint.read(other / "last.safetensors")
    arrays[name] = arrays[name].copy()
    arrays[name].view(np.uint32)[0] ^= 1
    checkpoint.write(other / "last.safetensors", arrays, description)
    (difference,) = compare(one, other).differences
    assert (difference.where, difference.what) == ("last.safetensors", name)


def test_a_shorter_run_is_not_equal(runs):
    one, other = runs
    lines = (other / "steps.jsonl").read_text().splitlines(keepends=True)
    (other / "steps.jsonl").write_text("".join(lines[:6]) + lines[6][:10])  # killed while it wrote the seventh
    comparison = compare(one, other)
    assert str(comparison.differences[0]) == "the end, number of steps: 8 against 6"
    assert compare(other, one).differences[0].values == (6, 8)


def test_what_a_resumed_run_went_on_with_is_named(runs):
    one, other = runs
    change(other / "steps.jsonl", 7, loss=0.5)
    config = json.loads((other / "config.json").read_text())
    config["resumed"] = [
        {**config, "after_step": 4},
        {**config, "after_step": 6, "settings": config["settings"] | {"lr": 0.5}},
    ]
    (other / "config.json").write_text(json.dumps(config))
    assert str(compare(one, other)).splitlines()[-1] == "look at: settings.lr, 0.02 against 0.02, then 0.5"


def test_the_command_exits_like_cmp(runs, capsys):
    one, other = runs
    assert cli.main(["compare-runs", str(one), str(other)]) == 0
    assert capsys.readouterr().out.endswith("to the byte\n")
    change(other / "steps.jsonl", 7, loss=0.5)
    assert cli.main(["compare-runs", str(one), str(other)]) == 1
    assert "differ first at step 7, loss: " in capsys.readouterr().out


def no_folder(run):
    shutil.rmtree(run)


def no_steps(run):
    (run / "steps.jsonl").unlink()


def torn_line(run):
    lines = (run / "steps.jsonl").read_text().splitlines()
    (run / "steps.jsonl").write_text("\n".join([lines[0][:20], *lines[1:]]) + "\n")


def half_a_checkpoint(run):
    (run / "last.safetensors").write_bytes((run / "last.safetensors").read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_folder, "is no run folder: it has no config.json; name one that minicnn train has made"),
        (no_steps, "has nothing to compare: its steps.jsonl has no step"),
        (torn_line, "is damaged: JSONDecodeError in a .json or .jsonl file: "),
        (half_a_checkpoint, "is damaged or no checkpoint of minicnn: "),
    ],
)
def test_what_is_no_run_is_trouble(runs, damage, message, capsys):
    damage(runs[1])
    for arguments in (runs, runs[::-1]):
        assert cli.main(["compare-runs", *map(str, arguments)]) == 2
        assert re.match(rf"minicnn: {runs[1]}\S* {re.escape(message)}", capsys.readouterr().err)
