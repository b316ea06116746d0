"""What the tables of the benchmarks are made with: pieces that are taken up again, scores, both orders, rooflines."""

import argparse
import functools
import importlib
import itertools
import os
import re
import subprocess
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import backend, data, evaluation, nn
from minicnn.shapes import Math, Schedule

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """benchmarks("pieces") is that module."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


# Pieces.


def measure(pieces, folder, *words):
    """What was measured, in the order in which it was."""
    done, parser = [], argparse.ArgumentParser()
    pieces.add_arguments(parser)

    def piece(name):
        def write(path):
            done.append(name)
            path.write_text(f"# date: today\nop,ms\n{name},{len(done)}\n")

        return write

    known = {name: piece(name) for name in ("one", "two", "three")}
    pieces.measure(parser, parser.parse_args(list(words)), known, folder)
    return done


def test_pieces_that_are_missing_are_measured(benchmarks, tmp_path):
    pieces = benchmarks("pieces")
    assert measure(pieces, tmp_path, "two") == ["two"]
    assert measure(pieces, tmp_path) == ["one", "three"]
    assert measure(pieces, tmp_path) == []
    assert measure(pieces, tmp_path, "three", "two") == ["three", "two"]
    tables = (tmp_path / "tables.md").read_text()
    assert [line for line in tables.splitlines() if line.startswith("### ")] == ["### one", "### two", "### three"]


def test_a_list_says_what_there_is_and_measures_nothing(benchmarks, tmp_path, capsys):
    pieces = benchmarks("pieces")
    measure(pieces, tmp_path, "two")
    capsys.readouterr()
    assert measure(pieces, tmp_path, "--list") == []
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["one"], ["two", "measured"], ["three"]]


def test_no_piece_is_begun_when_the_minutes_are_over(benchmarks, tmp_path, monkeypatch, capsys):
    pieces = benchmarks("pieces")
    clock = itertools.count(step=90)  # seconds, of which a minute and a half pass at each look
    monkeypatch.setattr(pieces, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert measure(pieces, tmp_path, "--minutes", "2") == ["one"]
    assert capsys.readouterr().out.endswith("2 minutes are over: the same command goes on with two\n")


def test_an_unknown_piece_is_refused(benchmarks, tmp_path, capsys):
    with pytest.raises(SystemExit):
        measure(benchmarks("pieces"), tmp_path, "four")
    assert "no piece 'four': --list names them" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["on_gpu", "rehearsal"])
def test_every_piece_of_the_tables_has_its_script(benchmarks, kind):
    tables = benchmarks("tables")
    found = getattr(tables, kind)("cuda")
    assert len(found) > 10
    for name, write in found.items():
        (script, *options) = write.args[0]
        assert Path(script).is_file() and "cuda" in options, name


@pytest.mark.parametrize("kind", ["on_gpu", "rehearsal"])
def test_three_products_of_tf32_are_asked_for_by_the_environment(benchmarks, kind, tmp_path, monkeypatch):
    tables, calls = benchmarks("tables"), {}
    monkeypatch.delenv("MINICNN_MATH", raising=False)
    monkeypatch.setattr(
        tables.subprocess, "run", lambda command, env, **_: calls.__setitem__(command[-1], (command, env))
    )
    for name, write in getattr(tables, kind)("cuda").items():
        write(tmp_path / name)
    three = {Path(path).name for path, (_, env) in calls.items() if env.get("MINICNN_MATH") == "tf32x3"}
    assert three == {Path(path).name for path in calls if path.endswith("_tf32x3")} and three
    for path, (command, _) in calls.items():
        asked = re.search(r"(tf32|float32|bfloat16|float16)$", path)
        assert not asked or command[command.index("--precision") + 1] == asked[1]


@pytest.mark.parametrize(
    ("words", "asked", "expected"),
    [
        ([], Math.float32, "float32"),
        ([], Math.tf32x3, "tf32x3"),
        (["--precision", "bfloat16"], Math.tf32x3, "bfloat16"),
    ],
)
def test_a_row_names_the_arithmetic_of_its_products(benchmarks, words, asked, expected, monkeypatch):
    harness, ceilings = benchmarks("harness"), benchmarks("ceilings").Ceilings(1.0, 1.0)
    monkeypatch.setattr(harness, "AUTOMATIC", Schedule(math=asked))
    monkeypatch.setattr(harness.Ceilings, "measure", lambda device: ceilings)
    common = ["bench", "--device", "cpu", "--rounds", "1", *words]
    monkeypatch.setattr("sys.argv", common)
    session = harness.Session("conv2d", harness.add_precision)
    session.race("case", "forward", [], lambda: None, {"rival": lambda: None}, 1, 1)
    assert session.rows[0]["precision"] == expected
    monkeypatch.setattr("sys.argv", common[:5])
    assert harness.Session("lrn").arithmetic == "float32", "no product"


# Command lines.

REFUSED = {
    "device": (["--device", "gpu9"], "unknown device 'gpu9': choose one of"),
    "no_images": (["--batch", "0"], "argument --batch: '0' is not a whole number from 1 on"),
    "fewer_than_none": (["--side", "-3"], "argument --side: '-3' is not a whole number from 1 on"),
    "no_rounds": (["--rounds", "0"], "argument --rounds: '0' is not"),
    "another_format": (["--ladder", "ladder.jpg"], "argument --ladder: ladder.jpg is not the name of a .png"),
    "a_folder": (["--ladder", "folder.png"], "folder.png cannot be written: it is a folder"),
    "below_a_file": (["--out", "a_file/table.csv"], "argument --out: a_file/table.csv cannot be written: "),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused_before_anything_is_measured(
    benchmarks, words, message, tmp_path, monkeypatch, capsys
):
    bench, ceilings = benchmarks("bench_gemm"), benchmarks("ceilings")
    monkeypatch.setattr(ceilings.Ceilings, "measure", lambda device: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("a_file").write_text("")
    monkeypatch.setattr("sys.argv", ["bench_gemm", "--device", "emulated", *words])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--device", "emulated"]], ids=["at_hand", "asked_for"])
def test_the_ladder_is_drawn_on_the_device_at_hand(benchmarks, words, tmp_path, monkeypatch, capsys):
    """Every rung of float32 and TF32; without a GPU that is the emulated device, and the picture says so."""
    pytest.importorskip("matplotlib")
    bench, ceilings, drawn = benchmarks("bench_gemm"), benchmarks("ceilings"), []
    monkeypatch.setattr(backend, "available", lambda: {"cuda": "there is no GPU"})
    monkeypatch.setattr(ceilings.Ceilings, "measure", lambda device: ceilings.Ceilings(1e9, 1e9))
    monkeypatch.setattr(bench.plots, "ladder", lambda *arguments: drawn.append(arguments))
    picture, table = tmp_path / "new" / "ladder.png", tmp_path / "ladder.csv"
    common = ["--ladder", str(picture), "--side", "9", "--rounds", "1", "--out", str(table)]
    monkeypatch.setattr("sys.argv", ["bench_gemm", *words, *common])
    bench.main()
    ((rates, rivals, path, title, unit),) = drawn
    assert set(rates) == {*bench.RUNGS["float32"], *bench.RUNGS["tf32"]} and all(rates.values())
    assert [name[0] for name in rates] == list("123456788")
    assert list(rates)[-2:] == ["8 asynchronous, TF32", "8 asynchronous, 3xTF32"]  # the first beside the rung below it
    assert (rivals, path, title) == ({}, str(picture), "c = a b, 9 x 9 x 9, emulated")
    assert unit.endswith("of a GPU this says nothing")
    assert capsys.readouterr().out.endswith(f"the ladder is in {picture}\n")
    _, rows = benchmarks("report").read_rows(table)
    precisions = {row["pass"]: row["precision"] for row in rows}
    assert precisions["5 pipelined"] == "float32" and precisions["8 asynchronous, 3xTF32"] == "tf32x3"
    assert precisions["6 tensor cores, TF32"] == "tf32"


def test_the_ladder_has_every_rung(benchmarks):
    files = (BENCHMARKS.parent / "csrc" / "gemm").glob("gemm_[0-9]*.cu")
    drawn = [rung for precision in ("float32", "tf32") for rung in benchmarks("bench_gemm").RUNGS[precision].values()]
    assert {file.stem for file in files} == {kernel for kernel, *_ in drawn}


def test_a_device_without_the_ladder_is_refused(benchmarks, monkeypatch):
    bench, ceilings = benchmarks("bench_gemm"), benchmarks("ceilings")
    monkeypatch.setattr(ceilings.Ceilings, "measure", lambda device: ceilings.Ceilings(1e9, 1e9))
    monkeypatch.setattr("sys.argv", ["bench_gemm", "--device", "cpu", "--ladder"])
    with pytest.raises(SystemExit, match=r"^bench gemm: 'cpu' has none of the ladder's kernels: choose 'cuda', or "):
        bench.main()


# Times.


def test_the_score_is_one_at_the_floor_and_a_half_at_the_rival(benchmarks):
    score = benchmarks("report").score
    assert score(2.0, 2.0, 5.0) == 1
    assert score(5.0, 2.0, 5.0) == 0.5
    assert score(8.0, 2.0, 5.0) == pytest.approx(1 / 3)
    assert score(8.0, 2.0, 1.9) == ""


def test_contenders_take_turns_in_both_orders(benchmarks):
    timing = benchmarks("timing")
    assert list(timing.turns({"a": 1, "b": 2, "c": 3}, 3)) == list("abccbaabc")


def test_single_calls_stand_each_behind_what_comes_before(benchmarks):
    timing, log, seconds = benchmarks("timing"), [], iter([4.0, 1.0, 3.0, 2.0, 6.0, 5.0])

    def stopwatch(function):
        function()
        reading = next(seconds)
        return lambda: reading

    contenders = {"a": lambda: log.append("a"), "b": lambda: log.append("b")}
    found = timing.single(contenders, lambda contender: log.append("flush"), stopwatch, rounds=3)
    assert log == ["flush", "a", "flush", "b", "flush", "b", "flush", "a", "flush", "a", "flush", "b"]
    assert (found["a"].median, found["b"].median) == (4.0, 3.0)


def test_a_floor_is_that_of_the_precision(benchmarks):
    ceilings = benchmarks("ceilings").Ceilings(bandwidth=10.0, flops=100.0, tensor_cores={"tf32": 400.0})
    assert ceilings.floor(1000, 20) == 10
    assert ceilings.floor(1000, 20, "tf32") == 2.5
    assert ceilings.floor(1000, 20, "tf32x3") == pytest.approx(7.5)
    assert ceilings.floor(1000, 200, "tf32") == 20


# Whole steps.


def test_the_first_batches_of_an_epoch_are_not_timed(benchmarks, monkeypatch):
    loading, log = benchmarks("loading"), []
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(loading, "time", types.SimpleNamespace(perf_counter=lambda: log.append("time") or next(clock)))

    def epoch():
        for count in (5, 5, 3, 1):
            log.append("batch")
            yield count

    assert loading.seconds_an_image(epoch, lambda: log.append("synchronize")) == 6 / (3 + 1)
    assert log == ["batch", "batch", "synchronize", "time", "batch", "batch", "synchronize", "time"]


def test_both_loaders_bring_the_same_numbers(benchmarks, device):
    """Of images as large as what the network sees, before they are mirrored."""
    steps, loading = benchmarks("steps"), benchmarks("loading")
    shape, labels = (8, 8, 3), np.arange(4)
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    batch = data.Prepare(loading.statistics(3))(images, labels, 0, 0)
    ours = evaluation.network_input(batch, device).numpy()
    torch, twin = benchmarks("torch"), benchmarks("torch_twin").twin
    network = twin(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), shape)
    theirs = steps.TorchStep(network, np.zeros((4, *shape), np.float32), np.zeros(4, int), "cpu", torch.channels_last)
    theirs.load(torch.from_numpy(images), torch.from_numpy(labels))
    np.testing.assert_allclose(ours, theirs.x.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-6)
    assert theirs.target.tolist() == [0, 1, 2, 3]


def test_pytorch_s_loader_crops_what_it_is_given(benchmarks):
    loading = benchmarks("loading")
    dataset = loading.pictures((28, 28, 1), 10, 40)
    cropped = loading.Cropped(dataset, 28)
    assert (len(cropped), dataset.image_shape) == (40, (32, 32, 1))
    windows = np.lib.stride_tricks.sliding_window_view(dataset.dataset.images[7, :, :, 0], (28, 28)).reshape(-1, 28, 28)
    seen = set()
    for _ in range(100):
        image, label = cropped[7]
        assert label == 7
        (which,) = np.flatnonzero((np.concatenate([windows, windows[:, :, ::-1]]) == image.numpy()[..., 0]).all((1, 2)))
        seen.add(which)
    assert len(seen) > 25, "more than there are without mirroring"


def test_memory_is_that_of_one_contender_alone(benchmarks):
    bench_step, device = benchmarks("bench_step"), backend.device("emulated")

    def make(nbytes):
        held = [device.empty((nbytes,), np.uint8)]

        def step():
            device.empty((1000,), np.uint8)  # and gives it back
            return minicnn.tensor(np.float32(len(held)))

        return step

    before = device.empty((5000,), np.uint8)
    sizes = 1 << 20, 1 << 18
    found = [bench_step.alone("ours", functools.partial(make, nbytes), device) for nbytes in sizes]
    assert found == [([1.0] * 3, pytest.approx((nbytes + 1000) / 2**20)) for nbytes in sizes]
    assert before.nbytes == 5000


# Rooflines.


def test_ceilings_are_read_as_tables_have_them(benchmarks):
    roofline, ceilings = benchmarks("roofline"), benchmarks("ceilings")
    said = str(ceilings.Ceilings(3e12, 5e13, {"tf32": 4e14, "bfloat16": 8e14}))
    assert roofline.ceilings_of({"ceilings": said}) == (3000, {"float32": 50000, "tf32": 400000, "bfloat16": 800000})
    older = "ceilings: copy 20.2 GB/s, float32 matrix product 249 GFLOP/s"
    assert roofline.ceilings_of({"ceilings": older}) == (20.2, {"float32": 249})


def test_a_table_becomes_a_picture(benchmarks, tmp_path):
    pytest.importorskip("matplotlib")
    roofline = benchmarks("roofline")
    row = {"gflops": "120", "gbytes": "3", "precision": "tf32", "pass": "dgrad"}
    assert roofline.points_of([row]) == [(40, 120, "tf32", "dgrad")]
    ceilings = benchmarks("ceilings").Ceilings(3e12, 5e13, {"tf32": 4e14})
    benchmarks("report").write_rows(tmp_path / "table.csv", [row | {"op": "conv2d", "device": "cpu"}], ceilings)
    roofline.draw([tmp_path / "table.csv"], tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


# Aims.

VGG = {"op": "conv2d", "case": "vgg_d features.5", "pass": "dgrad", "precision": "bfloat16"}
VGG |= {"shapes": "128x112x112x128 128x3x3x128 128", "device": "cuda:0", "ms": "1", "gflops": "500000", "gbytes": "800"}
POOL = {"op": "maxpool2d", "case": "alexnet features.2, 3x3/2", "pass": "forward", "precision": "float32"}
POOL |= {"shapes": "128x55x55x96", "device": "cuda:0", "ms": "0.1", "gflops": "3", "gbytes": "2850", "rival_ms": "0.31"}
THREE = VGG | {"precision": "tf32x3", "rival_ms": "1.6"}
SAID = {
    "all_met": (
        [VGG, POOL, THREE],
        ["0.95 to 0.95, met", "0.62 to 0.62, met", "1.60 to 1.60, met", "3.10 to 3.10, met"],
    ),
    "none_measured": ([], ["not measured"] * 4),
    "the_lowest_counts": (
        [POOL, POOL | {"gbytes": "2600", "pass": "backward"}],
        ["0.87 to 0.95, missed by 1 of 2, most by maxpool2d alexnet features.2, 3x3/2 backward"],
    ),
    "few_bytes_are_no_matter_of_bandwidth": ([POOL | {"ms": "0.01", "gbytes": "900"}], ["not measured"]),
    "a_share_is_of_the_precision": ([VGG | {"gflops": "430000"}], [None, "0.54 to 0.54, missed by 1 of 1, most by "]),
    "of_other_channels_nothing_is_said": (
        [VGG | {"shapes": "128x112x112x64 128x3x3x64 128"}, VGG | {"shapes": "8x9x9x128 64x3x3x128 64"}],
        [None, "not measured"],
    ),
    "nor_of_other_networks": ([VGG | {"case": "alexnet features.3"}], [None, "not measured"]),
    "float32_is_not_three_products": ([THREE | {"precision": "float32"}], [None, None, "not measured"]),
    "windows_that_are_apart": ([POOL | {"case": "vgg_d features.4, 2x2/2"}], [None, None, None, "not measured"]),
    "an_emulation": (
        [THREE | {"device": "emulated"}],
        [None, None, "1.60 to 1.60, met; no GPU: this says nothing of one"],
    ),
}


@pytest.mark.parametrize(("rows", "expected"), SAID.values(), ids=SAID.keys())
def test_what_is_said_of_each_aim(benchmarks, rows, expected, tmp_path, monkeypatch, capsys):
    """Each row in a table of its own; and one whose benchmark was ended; others of whole networks."""
    aims, report = benchmarks("aims"), benchmarks("report")
    ceilings = benchmarks("ceilings").Ceilings(3e12, 5e13, {"tf32": 4e14, "bfloat16": 8e14})
    for i, row in enumerate(rows):
        report.write_rows(tmp_path / "tables" / f"{i}.{('csv', 'unfinished')[i % 2]}", [row], ceilings)
        with (tmp_path / "tables" / f"{i}.{('csv', 'unfinished')[i % 2]}").open("a") as file:
            file.write("conv2d,vgg_d")  # a row that was not written to its end
    report.write_rows(tmp_path / "step.csv", [{"op": "step lenet", "ms": 3}])
    report.write_rows(tmp_path / "forward.csv", [{"op": "forward", "ms": 3}], ceilings)
    monkeypatch.setattr("sys.argv", ["aims", str(tmp_path)])
    aims.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line, aim, said in zip(lines, aims.AIMS, expected + [None] * 4, strict=False):
        assert line.startswith(f"{aim.name}, at least {aim.least:g}: ")
        assert said is None or said in line.removeprefix(aim.name)


def test_the_benchmark_of_pooling_names_the_windows(benchmarks, monkeypatch):
    aims, bench, layers = (benchmarks(name) for name in ("aims", "bench_maxpool2d", "layers"))
    monkeypatch.setattr(layers, "only", "alexnet ")
    monkeypatch.setattr(layers, "image_size", 28)
    assert [aims.overlaps({"case": case.name}) for case in bench.cases(1)] == [True] * 3


# The script for a GPU.


def on_gpu(folder, *stages, script=None, **environment):
    """Run with a stand-in for Python: a benchmark of ceilings never ends, and has a child; all else is done at once."""
    python = folder / "python3"
    python.write_text('#!/bin/sh\ncase "$*" in *ceilings*) sleep 60 & sleep 60;; esac\n')
    python.chmod(0o755)
    environment = os.environ | {"DEVICE": "emulated", "PATH": f"{folder}:{os.environ['PATH']}"} | environment
    command = ["bash", str(script or BENCHMARKS / "on_gpu.sh"), str(folder / "out"), *stages]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_no_stage_begins_when_the_minutes_are_over(tmp_path):
    done = on_gpu(tmp_path, "instructions", "how-fast", MINUTES="0")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "out" / "stages.txt").read_text().splitlines()
    stages = [
        "instructions",
        "ceilings",
        *(f"bench_{op}" for op in ("lrn", "maxpool2d", "relu", "sgd")),
        "aims",
        "profile",
    ]
    assert lines == [f"== {stage}: left out, the minutes are over" for stage in stages]
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert "out/stages.txt" in archive.getnames()


def test_a_stage_is_ended_when_its_time_is_over_and_the_next_begins(tmp_path):
    script = tmp_path / "benchmarks" / "on_gpu.sh"
    script.parent.mkdir()
    text = (BENCHMARKS / "on_gpu.sh").read_text()
    script.write_text(text.replace("stage 60 ceilings", "stage 1 ceilings").replace("SLACK=5", "SLACK=1"))
    done = on_gpu(tmp_path, "ceilings", "profile", "nothing", script=script)
    lines = (tmp_path / "out" / "stages.txt").read_text().splitlines()
    assert [re.sub(r"after \d+ s", "after - s", line) for line in lines] == [
        "ceilings: exit 124 after - s of 1",
        "profile: exit 0 after - s of 60",
    ], done.stdout + done.stderr
    assert done.stderr == "there is no stage nothing\n"
    assert done.returncode == 2
