"""The command line: one verb a function of the library."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from minicnn import (
    __version__,
    compare_runs,
    data,
    evaluation,
    experiments,
    models,
    onnx_export,
    plots,
    saving,
    training,
)
from minicnn.checkpoint import CheckpointError
from minicnn.doctor import doctor
from minicnn.errors import DeviceError, OpError, TrainingError
from minicnn.memory_plan import memory_plan
from minicnn.ops import precision
from minicnn.profile import profile
from minicnn.progress import Progress
from minicnn.summary import summary

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DEVICES = "auto, cuda, cuda:<index>, cpu, numpy or emulated"


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors that a person can mend are one line on stderr, without a traceback."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (TrainingError, CheckpointError, OSError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return FAILED
    except (data.DataError, DeviceError, OpError, ValueError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minicnn", description="Convolutional networks on hand-written CUDA kernels.")
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands.add_parser("train", help="train a network on images"))
    _add_evaluate(commands.add_parser("evaluate", help="score a trained network"))
    _add_predict(commands.add_parser("predict", help="name what is in images"))
    _add_export(commands.add_parser("export", help="write a trained network as an ONNX file"))
    _add_summary(commands.add_parser("summary", help="layers, parameters and operations of a network"))
    _add_plan(commands.add_parser("plan", help="how much memory the training of a network will take, layer by layer"))
    _add_profile(commands.add_parser("profile", help="where the time of a training step goes, layer by layer"))
    _add_compare_runs(commands.add_parser("compare-runs", help="say whether two runs are equal, or where they part"))
    _add_experiment(commands.add_parser("experiment", help="ask a question of the sources, three seeds each"))
    _add_bench(commands.add_parser("bench", help="check and time an op or a whole step against PyTorch, in a checkout"))
    commands.add_parser("test", help="run the tests, in a checkout")
    commands.add_parser("install", help="install the checkout again")
    commands.add_parser("doctor", help="what is installed, which devices work, and why not CUDA").set_defaults(
        run=_doctor
    )
    return parser


def _add_data(parser, default: str | None) -> None:
    parser.add_argument(
        "--data",
        default=default,
        metavar="SOURCE",
        help="a folder of class folders, or a data set's name: " + ", ".join(data.NAMED),
    )
    parser.add_argument("--data-dir", default=None, metavar="DIR", help="where the files of a named data set lie")
    parser.add_argument("--device", default="auto", help=DEVICES)


def _add_train(parser) -> None:
    parser.set_defaults(run=_train)
    parser.add_argument("model", metavar="MODEL", help="one of " + ", ".join(models.CONSTRUCTORS))
    _add_data(parser, data.DEFAULT)
    parser.add_argument("--image-size", type=int, default=None, metavar="PIXELS", help="for a folder of images (224)")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare batches; they change no bytes (1)")
    parser.add_argument("--out", default=None, metavar="DIR", help="the run folder (runs/MODEL)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out (runs/MODEL)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--memory-limit", type=float, default=None, metavar="GIB", help="of the device (what is free)")
    for name, setting in training.Settings.__dataclass_fields__.items():
        kind = {"clip_norm": float, "micro_batch": int}.get(name, type(setting.default))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"({setting.default})")


def _train(arguments) -> int:
    constructor = models.find(arguments.model)
    chosen = {name: getattr(arguments, name) for name in training.Settings.__dataclass_fields__}
    try:
        training.train(
            constructor,
            arguments.data,
            device=arguments.device,
            workers=arguments.workers,
            out=arguments.out,
            resume=arguments.resume,
            quiet=arguments.quiet,
            data_dir=arguments.data_dir,
            image_size=arguments.image_size,
            memory_limit=None if arguments.memory_limit is None else int(arguments.memory_limit * 2**30),
            **{name: value for name, value in chosen.items() if value is not None},
        )
    except KeyboardInterrupt as interruption:
        print(f"minicnn: {interruption}", file=sys.stderr)
        return INTERRUPTED
    return DONE


def _add_experiment(parser) -> None:
    parser.set_defaults(run=_experiment)
    questions = "; ".join(f"{name}: {e.question}" for name, e in experiments.EXPERIMENTS.items())
    parser.add_argument("name", metavar="NAME", help=questions)
    _add_data(parser, data.DEFAULT)
    parser.add_argument("--seeds", type=int, nargs="+", default=experiments.SEEDS, metavar="SEED", help="(0 1 2)")
    parser.add_argument("--epochs", type=int, default=None, help="of each run (3)")
    parser.add_argument("--out", default=None, metavar="DIR", help="the folder of all runs (runs/experiment-NAME)")


def _experiment(arguments) -> int:
    settings = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    splits = data.open(arguments.data, data_dir=arguments.data_dir)
    experiments.run(
        arguments.name, splits, seeds=arguments.seeds, device=arguments.device, out=arguments.out, **settings
    )
    return DONE


def _add_evaluate(parser) -> None:
    parser.set_defaults(run=_evaluate)
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or one checkpoint file")
    _add_data(parser, None)
    parser.add_argument("--protocol", default="center", help=" or ".join(evaluation.PROTOCOLS))


def _evaluate(arguments) -> int:
    score = evaluation.evaluate(
        arguments.run_folder,
        arguments.data,
        protocol=arguments.protocol,
        device=arguments.device,
        data_dir=arguments.data_dir,
    )
    print(f"top-1 {score.top1:.4f} ({score.correct} of {score.count})  top-5 {score.top5:.4f}  loss {score.loss:.4f}")
    return DONE


def _add_predict(parser) -> None:
    parser.set_defaults(run=_predict)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--run", dest="run_folder", required=True, metavar="RUN", help="a run folder, or one checkpoint file"
    )
    parser.add_argument("--device", default="auto", help=DEVICES)


def _predict(arguments) -> int:
    for path, ranking in zip(
        arguments.images,
        evaluation.predict(arguments.run_folder, arguments.images, device=arguments.device),
        strict=True,
    ):
        print(f"{path}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in ranking))
    return DONE


def _add_export(parser) -> None:
    parser.set_defaults(run=_export)
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or one checkpoint file")
    parser.add_argument("file", metavar="FILE", help="the .onnx file to write")


def _export(arguments) -> int:
    try:
        onnx_export.export_onnx(saving.load(arguments.run_folder, "cpu"), arguments.file)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: pip install 'minicnn[onnx]' brings it") from error
    print(f"{arguments.file}: input x (N, C, H, W), output y, opset {onnx_export.OPSET}")
    return DONE


def _add_summary(parser) -> None:
    parser.set_defaults(run=_summary)
    _add_network(parser, batch_size=1)


def _add_network(parser, batch_size: int) -> None:
    parser.add_argument("model", metavar="MODEL", help="one of " + ", ".join(models.CONSTRUCTORS))
    for option in ("image-size", "in-channels", "num-classes"):
        parser.add_argument(f"--{option}", type=int, default=None, help="(as published)")
    parser.add_argument("--batch-size", type=int, default=batch_size, help=f"({batch_size})")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def _summary(arguments) -> int:
    return _show(summary(*_network_and_input(arguments, initialize=None)), arguments)


def _network_and_input(arguments, **options):
    """The network that the command's options, and these, describe and the shape of a batch of its images."""
    chosen = {name: getattr(arguments, name) for name in ("image_size", "in_channels", "num_classes")}
    given = {name: value for name, value in chosen.items() if value is not None}
    network = models.find(arguments.model)(**given, **options)
    if arguments.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {arguments.batch_size}")
    size, channels = network.options["image_size"], network.options["in_channels"]
    return network, (arguments.batch_size, size, size, channels)


def _show(result, arguments) -> int:
    """As a table or, for programs, as JSON."""
    print(json.dumps(result.as_dict(), indent=2)) if arguments.json else Progress().say(str(result))
    return DONE


def _add_plan(parser) -> None:
    parser.set_defaults(run=_plan)
    _add_network(parser, batch_size=64)
    parser.add_argument("--micro-batch", type=int, default=None, help="images at a time (the batch at once)")
    parser.add_argument("--precision", default="float32", help=", ".join(precision.NAMES))
    parser.add_argument("--device", default="auto", help=DEVICES)


def _plan(arguments) -> int:
    network, shape = _network_and_input(arguments, initialize=None)
    options = {name: getattr(arguments, name) for name in ("device", "micro_batch", "precision")}
    return _show(memory_plan(network, shape, **options), arguments)


def _add_profile(parser) -> None:
    parser.set_defaults(run=_profile)
    _add_network(parser, batch_size=16)
    parser.add_argument("--device", default="auto", help=DEVICES)
    parser.add_argument("--steps", type=int, default=10, help="of which the medians are taken (10)")
    parser.add_argument("--png", default=None, metavar="FILE", help="draw where the time goes (needs matplotlib)")


def _profile(arguments) -> int:
    if arguments.png and not plots.available():
        raise ValueError("--png needs matplotlib: pip install 'minicnn[plots]' brings it")
    network, shape = _network_and_input(arguments)
    profiled = profile(network, shape, device=arguments.device, steps=arguments.steps)
    if arguments.png:
        profiled.draw(arguments.png)
    return _show(profiled, arguments)


def _add_compare_runs(parser) -> None:
    parser.set_defaults(run=_compare_runs)
    parser.description = "Exit status: 0 equal but for the times, 1 not equal, 2 trouble."
    parser.add_argument("one", metavar="A", help="a run folder")
    parser.add_argument("other", metavar="B", help="another")


def _compare_runs(arguments) -> int:
    try:
        comparison = compare_runs.compare(arguments.one, arguments.other)
    except (CheckpointError, OSError) as error:
        raise ValueError(error) from error  # trouble is not a difference: another exit code than elsewhere
    print(comparison)
    return DONE if comparison.equal else FAILED


def _add_bench(parser) -> None:
    parser.set_defaults(run=_bench)
    parser.add_argument("op", metavar="OP", help="conv2d, lrn, sgd, step, ...: a benchmarks/bench_OP.py")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own options; --help lists them")


def _bench(arguments) -> int:
    scripts = {path.stem.removeprefix("bench_"): path for path in Path("benchmarks").glob("bench_*.py")}
    if not scripts:
        raise ValueError("there is no benchmarks/ here: bench runs in a checkout of minicnn")
    if arguments.op not in scripts:
        raise ValueError(f"there is no benchmark {arguments.op!r}: choose one of {', '.join(sorted(scripts))}")
    return subprocess.run([sys.executable, str(scripts[arguments.op]), *arguments.options]).returncode


def _doctor(_arguments) -> int:
    return doctor()
