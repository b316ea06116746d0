"""The same command gives the same bytes, as real processes do; and two devices agree until rounding parts them."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import unavailable
from PIL import Image
from tolerances import assert_close

from minicnn import backend, data, nn, training

TIMES = {"images_per_second", "data_wait", "seconds"}
SHADES = {"dark": 40, "light": 200}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of class folders: 20 PNGs of noise, dark or light, which a network tells apart after a few steps."""
    root, rng = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for name, shade in SHADES.items():
        (root / name).mkdir()
        for i in range(10):
            Image.fromarray(rng.integers(shade, shade + 20, (28, 28), np.uint8)).save(root / name / f"{i}.png")
    return root


def minicnn(*arguments, cwd, **environment):
    """Run `minicnn ...` as its own process."""
    flags = ["-P"] if sys.version_info >= (3, 11) else []
    return subprocess.run(
        [sys.executable, *flags, "-m", "minicnn", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@contextlib.contextmanager
def one_core():
    """Within, this thread and the processes that it starts have one core, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def without_times(metrics):
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in metrics.read_text().splitlines()]


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_the_same_command_gives_the_same_bytes(images, tmp_path, device):
    """Whatever the seed of hashes, the working folder, the cores and the workers; only the number of threads is held."""
    if why := backend.available()[device]:
        unavailable(device, why)
    command = ["train", "vgg_a", "--data", images, "--image-size", 28, "--device", device, "--quiet"]
    command += ["--epochs", 2, "--batch-size", 6, "--warmup-steps", 0, "--digest-every", 1]
    for name, workers, cores in (("a", 0, contextlib.nullcontext()), ("b", 2, one_core())):
        (tmp_path / name).mkdir()
        varied = [*command, "--workers", workers, "--out", "run"]
        with cores:
            done = minicnn(*varied, cwd=tmp_path / name, MINICNN_THREADS="2", PYTHONHASHSEED=str(workers))
        assert done.returncode == 0, done.stderr
    a, b = tmp_path / "a/run", tmp_path / "b/run"
    for file in ("last.safetensors", "best.safetensors", "steps.jsonl", "config.json"):
        assert (a / file).read_bytes() == (b / file).read_bytes(), file
    assert without_times(a / "metrics.jsonl") == without_times(b / "metrics.jsonl")
    compared = minicnn("compare-runs", a, b, cwd=tmp_path)
    assert (compared.returncode, compared.stderr) == (0, "")
    assert compared.stdout == f"{a} and {b} are equal: 6 steps, 2 epochs, last.safetensors to the byte\n"


def small_network(num_classes, image_size, in_channels):
    """Every kind of layer that AlexNet has, small enough to be emulated."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 5, stride=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=1.0),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(((image_size - 4) // 4 - (image_size % 2 == 0)) ** 2 * 8, num_classes),
    )


# How far the losses of 20 steps may stand apart: as the table says, and in reduced precision by what a result on the
# other side of a halfway point brings, a unit of the last of so many bits, carried through the steps.
APART = {"float32": {}, "tf32": {"rtol": 2.0**-11}, "bfloat16": {"rtol": 2.0**-8}, "float16": {"rtol": 2.0**-11}}


@pytest.mark.parametrize("precision", APART)
def test_cpu_and_emulated_agree_in_the_first_20_losses(tmp_path, precision):
    if why := backend.available()["emulated"]:
        unavailable("emulated", why)
    whole = data.open("fashion-mnist-12k")
    splits = data.Splits("some garments", data.Subset(whole.train, np.arange(160)))
    losses = {}
    for device in ("cpu", "emulated"):
        history = training.train(
            small_network,
            splits,
            device=device,
            out=tmp_path / device,
            epochs=1,
            batch_size=8,
            warmup_steps=0,
            precision=precision,
            quiet=True,
        )
        rows = [json.loads(line) for line in (history.folder / "steps.jsonl").read_text().splitlines()]
        losses[device] = np.array([row["loss"] for row in rows], np.float32)
    assert losses["cpu"].shape == (20,)
    assert losses["cpu"].min() < losses["cpu"][0] - 0.1  # the weights have moved
    assert_close(losses["emulated"], losses["cpu"], what="losses of 20 steps", **APART[precision])
