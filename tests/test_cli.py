"""The command line as a person uses it: real processes, exit codes, one clear line for each mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn import data, models, save


def minicnn(*arguments, cwd):
    """Run `minicnn ...` as its own process."""
    command = (
        [sys.executable, "-P", "-m", "minicnn"] if sys.version_info >= (3, 11) else [sys.executable, "-m", "minicnn"]
    )
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of class folders: 60 PNGs of two garments."""
    root = tmp_path_factory.mktemp("garments")
    train = data.open("fashion-mnist-12k").train
    for label, name in ((1, "trouser"), (9, "boot")):
        (root / name).mkdir()
        chosen = np.flatnonzero(train.labels == label)[:30]
        for i, image in enumerate(train.read(chosen)):
            Image.fromarray(image[..., 0]).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    """A network trained on them by the command."""
    cwd = tmp_path_factory.mktemp("work")
    done = minicnn(
        *(
            "train",
            "alexnet",
            "--data",
            images,
            "--image-size",
            28,
            "--epochs",
            4,
            "--batch-size",
            9,
            "--warmup-steps",
            3,
        ),
        *("--device", "cpu", "--seed", 1),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


def test_training_a_folder_of_images_ends_with_its_accuracy(run):
    cwd, out = run
    assert out.splitlines()[0].startswith("alexnet (small form): ")
    assert out.splitlines()[-1].startswith("validation accuracy ")
    assert (cwd / "runs/alexnet/last.safetensors").exists()


def test_evaluate_prints_a_row_a_protocol_and_writes_what_is_asked_for(run, images):
    cwd, out = run
    files = ("--report", "found.md", "--confusion", "taken.png", "--per-class")
    protocols = ("--protocol", "center", "dense", "ten-crop")
    done = minicnn("evaluate", "runs/alexnet", *protocols, *files, "--device", "cpu", cwd=cwd)
    assert done.returncode == 0, done.stderr
    title, _, _, _, *rows = done.stdout.split("\n\nruns/alexnet, ten-crop")[0].splitlines()
    assert title == f"{images}: 6 validation images, 2 classes"
    assert [row.split("|")[4].strip() for row in rows] == ["center", "dense", "ten-crop"]
    accuracy = float(out.splitlines()[-1].split()[2])
    assert float(rows[0].split("|")[7].split()[0]) == pytest.approx(100 * (1 - accuracy), abs=0.01)
    assert (cwd / "found.md").read_text() == done.stdout
    assert done.stdout.count("| boot ") == done.stdout.count("| trouser ") == 1
    with Image.open(cwd / "taken.png") as picture:
        assert picture.format == "PNG"


def test_evaluate_as_json_of_two_checkpoints_together(run, images):
    cwd, _ = run
    both = ("runs/alexnet/last.safetensors", "runs/alexnet/best.safetensors")
    done = minicnn("evaluate", *both, "--data", images, "--scales", 30, "--json", "--device", "cpu", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["runs"] for row in found["rows"]] == [[both[0]], [both[1]], list(both)]
    assert found["rows"][2]["scales"] == [30] and found["class_names"] == ["boot", "trouser"]
    assert sum(map(sum, found["rows"][2]["confusion"])) == found["rows"][2]["count"] == 6


def test_finetune_trains_a_run_on_with_frozen_layers(run, images):
    cwd, _ = run
    frozen = ("--freeze", "features.*", "--cache-features")
    short = ("--epochs", 2, "--batch-size", 9, "--out", "runs/on", "--device", "cpu")
    done = minicnn("finetune", "runs/alexnet", "--data", images, *frozen, *short, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "features: 60 of 512, " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("validation accuracy ")
    done = minicnn("evaluate", "runs/alexnet", "runs/on", "--data", images, "--device", "cpu", cwd=cwd)
    assert "these 2 together" in done.stdout, done.stderr


def test_predict_names_what_it_sees(run, images):
    cwd, _ = run
    done = minicnn("predict", images / "boot/3.png", images / "trouser/3.png", "--run", "runs/alexnet", cwd=cwd)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{images}/boot/3.png: boot ")
    assert second.split(": ")[1].startswith("trouser")


def test_resume_of_a_finished_run_reports_again(run, images):
    cwd, out = run
    done = minicnn("train", "alexnet", "--data", images, "--image-size", 28, "--resume", "--device", "cpu", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "alexnt"], 2, "minicnn: unknown model 'alexnt'; did you mean alexnet"),
        (
            ["train", "alexnet", "--data", "fashon-mnist"],
            2,
            "minicnn: unknown data 'fashon-mnist': did you mean fashion-mnist",
        ),
        (["train", "alexnet", "--data", "./nothing"], 2, "minicnn: "),
        (["train", "alexnet", "--device", "gpu"], 2, "minicnn: unknown device 'gpu': choose one of "),
        (["train", "alexnet", "--epochs", "0"], 2, "minicnn: epochs must be at least 1, got 0"),
        (["train"], 2, "minicnn: which network? Name one, or a recipe: alexnet-owt, "),
        (
            ["train", "--recipe", "alexnet-papr"],
            2,
            "minicnn: unknown recipe 'alexnet-papr'; did you mean alexnet-paper",
        ),
        (["train", "--recipe", "alexnet-paper"], 2, "minicnn: alexnet-paper is for a folder of images of your own"),
        (["train", "lenet", "--set", "epoch=3"], 2, "minicnn: unknown key 'epoch'; did you mean epochs?"),
        (["train", "lenet", "--set", "epochs"], 2, "minicnn: --set takes key=value, got 'epochs'"),
        (
            ["train", "--out", "nowhere", "--resume"],
            1,
            "minicnn: there is no run in nowhere to resume: it has no recipe.toml",
        ),
        (["init-report", "alexnt"], 2, "minicnn: unknown model 'alexnt'; did you mean alexnet"),
        (["evaluate", "nowhere"], 1, "minicnn: there is no checkpoint nowhere"),
        (["evaluate", "nowhere", "--batch-size", "0"], 2, "minicnn: batch_size must be at least 1, got 0"),
        (["finetune", "nowhere", "--data", "x"], 1, "minicnn: there is no checkpoint nowhere"),
        (["finetune", "nowhere"], 2, "minicnn: finetune: say which images to learn, a folder or a name (--data)"),
        (["predict", "x.png", "--run", "nowhere"], 1, "minicnn: there is no checkpoint nowhere"),
        (["export", "nowhere", "x.onnx"], 1, "minicnn: there is no checkpoint nowhere"),
        (
            ["summary", "alexnet", "--image-size", "9"],
            2,
            "minicnn: alexnet: image_size must be an integer of at least 28, got 9",
        ),
        (["summary", "alexnet", "--batch-size", "0"], 2, "minicnn: batch_size must be at least 1, got 0"),
        (["plan", "alexnet", "--batch-size", "0"], 2, "minicnn: batch_size must be at least 1, got 0"),
        (["train", "lenet", "--step-in-backward"], 2, "minicnn: step_in_backward excludes clip_norm, which is 5.0: "),
        (["plan", "alexnet", "--micro-batch", "0"], 2, "minicnn: micro_batch must be at least 1, got 0"),
        (["profile", "lenet", "--steps", "0"], 2, "minicnn: profile: steps must be at least 1, got 0"),
        (
            ["train", "lenet", "--device", "numpy", "--memory-limit", "0.001"],
            2,
            "minicnn: this run needs ",
        ),
        (["bench", "conv2d"], 2, "minicnn: there is no benchmarks/ here: bench runs in a checkout of minicnn"),
        (["fly"], 2, "minicnn: error: argument COMMAND: invalid choice: 'fly'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_no_traceback(tmp_path, arguments, code, message):
    done = minicnn(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
    assert list(Path(tmp_path).iterdir()) == []


def test_a_saved_network_becomes_an_onnx_file(tmp_path, onnx):
    save(models.lenet(10, 28, 1), tmp_path / "lenet.safetensors")
    done = minicnn("export", "lenet.safetensors", "lenet.onnx", cwd=tmp_path)
    assert done.stdout == "lenet.onnx: input x (N, C, H, W), output y, opset 17\n", done.stderr
    assert len(onnx.load(tmp_path / "lenet.onnx").graph.initializer) == 10


def test_summary_as_json_of_the_published_network(tmp_path):
    done = minicnn("summary", "lenet5", "--json", "--batch-size", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["input_shape"] == [2, 32, 32, 1] and counted["total"]["parameters"] == 60_000
    assert counted["layers"][-1]["out_shape"] == [2, 10]


def test_summary_prints_the_published_count(tmp_path):
    done = minicnn("summary", "alexnet_owt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "61,100,840" in done.stdout


def test_a_recipe_trains_and_options_go_before_it(images, tmp_path):
    """--lr before --set before the recipe; a run goes on with nothing but its folder's name."""
    (tmp_path / "mine.toml").write_text(
        'lr = 0.3\nbatch_size = 9\nepochs = 2\nwarmup_steps = 3\n[model]\nname = "lenet"\npooling = "max"\n'
    )
    said = ("--set", "lr=0.2", "clip_norm=false", "--lr", 0.05, "--step-in-backward")
    options = ("--data", images, "--image-size", 28, *said)
    done = minicnn("train", "--recipe", "mine.toml", *options, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    resolved = (tmp_path / "runs/mine/recipe.toml").read_text()
    for line in ("lr = 0.05", "clip_norm = false", "step_in_backward = true", 'pooling = "max"', "epochs = 2"):
        assert line in resolved.splitlines()
    again = minicnn("train", "--out", "runs/mine", "--resume", "--device", "cpu", cwd=tmp_path)
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1], again.stderr


def test_init_report_warns_and_is_json(tmp_path):
    small = ("--image-size", 28, "--in-channels", 1, "--num-classes", 10)
    done = minicnn(
        "init-report", "vgg_d", "--initialize", "paper-0.01", *small, "--json", "--png", "x.png", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["warning"].startswith("the signal vanishes")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_plan_foresees_what_a_network_takes(tmp_path):
    plans = [
        minicnn("plan", "alexnet", "--device", "cpu", "--batch-size", 32, *slices, "--json", cwd=tmp_path)
        for slices in ((), ("--micro-batch", 8))
    ]
    whole, sliced = (json.loads(done.stdout) for done in plans)
    assert (whole["batch_size"], sliced["micro_batch"]) == (32, 8)
    assert whole["peak_bytes"] > sliced["peak_bytes"] > sliced["arena_bytes"] > 3 * 4 * 60_965_224
    done = minicnn("plan", "lenet", cwd=tmp_path)
    assert done.stdout.splitlines()[-1].startswith("memory: ")


def test_profile_tells_the_layers_apart_and_draws(tmp_path):
    options = ("--device", "numpy", "--steps", 1, "--batch-size", 2)
    done = minicnn("profile", "lenet", *options, "--png", "time.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "features.0" in done.stdout and (tmp_path / "time.png").exists()
