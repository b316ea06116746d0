"""A run that is killed, fails to save or finds its files damaged goes on to the bytes of one that was left alone."""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minicnn import backend, checkpoint, data, evaluation, functional, manual_seed, nn, plots, save, trainer
from minicnn.compare_runs import TIMES, Run
from minicnn.run_folder import RunFolder
from minicnn.training import train

# A network that keeps all there is to keep: dropout, running statistics, momenta, an average, a plateau, a loss scale,
# masks drawn without a layer, augmentation drawn by sample.
PROGRAM = """
import sys
from minicnn import functional, nn, plots
from minicnn.training import train
from test_resume import images

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()
        self.drop, self.flatten, self.fc = nn.Dropout(0.3), nn.Flatten(), nn.Linear(36, classes)

    def forward(self, x):
        hidden = functional.dropout(self.relu(self.norm(self.conv(x))), 0.2, self.training)
        return self.fc(self.flatten(self.drop(hidden)))

def net(num_classes, image_size, in_channels):
    return Net(num_classes)

plots.available = lambda: False  # they take longer than the rest
resume = sys.argv[2] == "resume"
settings = {} if resume else dict(
    epochs=5, batch_size=8, lr=0.05, schedule="plateau", patience=1, ema=0.99, save_every=2, keep=3, precision="float16",
    augment={"mirror": True, "padding": 1, "colour": 0.1}, digest_every=5, warmup_steps=0,
)
print("ready", flush=True)
train(net, images(), device="numpy", out=sys.argv[1], resume=resume, quiet=True, workers=0, **settings)
"""
KILLS = 20


def images():
    """72 images of 8 pixels and their two classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(72) % 2
    pixels = rng.integers(0, 256, (72, 8, 8), np.uint8)
    pixels[labels == 1, 2:6, 2:6] //= 3
    return pixels, labels


def started(run, resume: bool) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MINICNN_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(run), "resume" if resume else "begin"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, cwd=run.parent, **pipes)  # where no sources lie
    process.stdout.readline()  # everything is imported
    return process


def finished(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def assert_same_bytes(one, other):
    """All files of the two run folders but for config.json, which tells of resumptions, pictures, and times."""
    names = [sorted(p.name for p in run.iterdir() if p.suffix != ".png") for run in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        if name not in ("config.json", "metrics.jsonl"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    epochs = [
        [{k: v for k, v in row.items() if k not in TIMES} for row in Run(run).epochs.values()] for run in (one, other)
    ]
    assert epochs[0] == epochs[1]


def test_killed_at_random_moments_and_resumed_equals_straight(tmp_path):
    """A real process, killed by SIGKILL 20 times, wherever it is then: also while it writes."""
    seed = secrets.randbelow(2**32)
    print(f"moments: seed {seed}")
    moments = random.Random(seed)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process, before = started(straight, resume=False), time.perf_counter()
    finished(process)
    whole = time.perf_counter() - before
    reached = []
    while len(reached) < KILLS:
        process = started(killed, resume=(killed / "config.json").exists())
        time.sleep(moments.uniform(0, whole))
        if process.poll() is not None:  # it was done before: once more from the beginning
            finished(process)
            assert_same_bytes(straight, killed)
            shutil.rmtree(killed)
            continue
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reached.append(len(RunFolder(killed).rows(killed / "steps.jsonl")))
    print(f"steps that had been made: {reached}")
    finished(started(killed, resume=(killed / "config.json").exists()))
    assert_same_bytes(straight, killed)


class Stop(BaseException):
    """Not an error: the process is gone."""


QUICK = {
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.1,
    "warmup_steps": 0,
    "device": "numpy",
    "quiet": True,
    "augment": "none",
}


def linear(num_classes, image_size, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size * image_size * in_channels, num_classes))


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)


def stop_at(monkeypatch, step: int):
    """The run in this process ends right behind that step."""
    whole = trainer.Trainer.train_step

    def stopped(self, images, labels):
        whole(self, images, labels)
        if self.step_number == step:
            raise Stop

    monkeypatch.setattr(trainer.Trainer, "train_step", stopped)


def test_saves_inside_the_epoch_and_the_last_k_are_kept(tmp_path, monkeypatch):
    """An epoch is eight steps: after step 19 the newest checkpoints are of 18, 16 (the epoch's end) and 15."""
    stop_at(monkeypatch, 19)
    with pytest.raises(Stop):
        train(linear, images(), out=tmp_path / "run", save_every=3, keep=3, **QUICK)
    names = [path.name for path in RunFolder(tmp_path / "run").checkpoints()]
    assert names == [f"step-{step:09d}.safetensors" for step in (15, 16, 18)]
    places = [checkpoint.read(tmp_path / "run" / name)[1]["place"] for name in (*names, "last.safetensors")]
    assert [place["batch"] for place in places] == [7, 0, 2, 2]


def test_a_run_that_stopped_before_its_first_checkpoint_begins_again(tmp_path, monkeypatch):
    train(linear, images(), out=tmp_path / "straight", **QUICK)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, 5)
        train(linear, images(), out=tmp_path / "run", **QUICK)
    assert len(RunFolder(tmp_path / "run").rows(tmp_path / "run/steps.jsonl")) == 5
    train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)
    assert_same_bytes(tmp_path / "straight", tmp_path / "run")


class Masked(nn.Module):
    """Draws masks that no layer of it keeps count of."""

    def __init__(self):
        super().__init__()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(64, 2)

    def forward(self, x):
        return self.fc(functional.dropout(self.flatten(x), 0.2, self.training))


def test_numbers_that_the_process_draws_go_on_too(tmp_path, monkeypatch):
    train(Masked(), images(), out=tmp_path / "straight", save_every=3, **QUICK)
    manual_seed(0)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, 5)
        train(Masked(), images(), out=tmp_path / "run", save_every=3, **QUICK)
    manual_seed(0)
    train(Masked(), images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)
    assert_same_bytes(tmp_path / "straight", tmp_path / "run")


@pytest.mark.parametrize("settings", [{"optimizer": "adam", "lr": 0.01}, {"schedule": "step", "ema": 0.5}])
def test_stopped_between_two_saves_and_resumed_equals_straight(tmp_path, monkeypatch, settings):
    settings = QUICK | {"save_every": 3} | settings
    train(linear, images(), out=tmp_path / "straight", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, 14)
        train(linear, images(), out=tmp_path / "run", **settings)
    train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)
    assert_same_bytes(tmp_path / "straight", tmp_path / "run")


def test_killed_behind_its_last_checkpoint_and_resumed_keeps_what_straight_keeps(tmp_path, monkeypatch):
    train(linear, images(), out=tmp_path / "straight", keep=2, **QUICK)
    keep = RunFolder.keep

    def stopped(self, step, count):
        if step == 24:  # the last of the run
            raise Stop
        keep(self, step, count)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(RunFolder, "keep", stopped)
        train(linear, images(), out=tmp_path / "run", keep=2, **QUICK)
    train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)
    assert_same_bytes(tmp_path / "straight", tmp_path / "run")


def test_a_damaged_checkpoint_names_the_one_before_it(tmp_path):
    train(linear, images(), out=tmp_path / "run", keep=2, **QUICK)
    last = tmp_path / "run/last.safetensors"
    before = last.read_bytes()
    last.unlink()  # a file of its own, not the numbered one's second name
    last.write_bytes(before[:-7])
    advice = r"copy the one before it, step-000000024\.safetensors, over it and resume again$"
    with pytest.raises(checkpoint.CheckpointError, match=advice):
        train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)
    shutil.copyfile(tmp_path / "run/step-000000024.safetensors", last)
    train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)


def test_weights_alone_are_no_run(tmp_path):
    train(linear, images(), out=tmp_path / "run", **QUICK)
    save(linear(2, 8, 1), tmp_path / "run/last.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match=r"holds weights alone, no run that could be resumed$"):
        train(linear, images(), out=tmp_path / "run", resume=True, device="numpy", quiet=True)


def test_images_from_memory_must_be_passed_again(tmp_path):
    train(linear, images(), out=tmp_path / "run", **QUICK)
    with pytest.raises(ValueError, match=r"was trained on images that were passed from memory: pass them again"):
        train(linear, out=tmp_path / "run", resume=True, device="numpy", quiet=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^cannot make the run folder .*file/run: .*; choose another \(out\)$"):
        train(linear, images(), out=tmp_path / "file/run", **QUICK)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 KiB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_no_checkpoint(small_disk, tmp_path, monkeypatch):
    """There is room for one epoch's files, then none; with room again the run goes on as if nothing had been."""
    train(linear, images(), out=tmp_path / "straight", **QUICK)
    whole_epoch = trainer.Trainer.end_epoch

    def then_full(self, *arguments):
        whole_epoch(self, *arguments)
        if self.epoch == 1:
            ballast = small_disk / "ballast"
            with ballast.open("wb") as file:
                while True:
                    try:
                        file.write(bytes(4096))
                        file.flush()
                    except OSError:
                        break

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "end_epoch", then_full)
        with pytest.raises((OSError, checkpoint.CheckpointError), match="No space left on device"):
            train(linear, images(), out=small_disk / "run", **QUICK)
    assert checkpoint.read(small_disk / "run/last.safetensors")[1]["place"]["epoch"] == 1
    (small_disk / "ballast").unlink()
    train(linear, images(), out=small_disk / "run", resume=True, device="numpy", quiet=True)
    assert_same_bytes(tmp_path / "straight", small_disk / "run")


def test_the_average_is_what_is_judged_and_saved(tmp_path, monkeypatch):
    """model.* is the average of what stood there after each step, and what the epoch's validation saw."""
    weights, whole = [], trainer.Trainer.train_step

    def noted(self, batch, labels):
        whole(self, batch, labels)
        weights.append(self.network.state_dict()["1.weight"])

    monkeypatch.setattr(trainer.Trainer, "train_step", noted)
    network = linear(2, 8, 1)
    average = network.state_dict()["1.weight"].astype(np.float64)
    history = train(network, images(), out=tmp_path / "run", ema=0.7, **QUICK)
    for step, weight in enumerate(weights, 1):
        average += (1 - min(0.7, (1 + step) / (10 + step))) * (weight - average)
    arrays, _ = checkpoint.read(tmp_path / "run/last.safetensors")
    np.testing.assert_allclose(arrays["model.1.weight"], average, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(arrays["trained.1.weight"], weights[-1])
    np.testing.assert_array_equal(network.state_dict()["1.weight"], weights[-1])
    assert not np.allclose(arrays["model.1.weight"], arrays["trained.1.weight"])
    splits = data.open(images())
    for weights, is_judged in (("model.", True), ("trained.", False)):
        network.load_state_dict(checkpoint.without_prefix(weights, arrays))
        statistics = data.ChannelStatistics.of(splits.train)
        score = evaluation.score(network, splits.validation, statistics, backend.device("numpy"))
        assert (score == history.test) == is_judged


def test_half_written_files_are_gone_after_resuming(tmp_path):
    """Ours, and what safetensors leaves beside its target when it is killed."""
    for name in (".last.safetensors.123.partial", ".tmpAb12Cd", "steps.jsonl", "last.safetensors"):
        (tmp_path / name).write_text("")
    RunFolder(tmp_path).forget_after(0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.safetensors", "steps.jsonl"]
