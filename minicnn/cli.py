"""The command line: one command a function of the library."""

from __future__ import annotations

import argparse
import sys

from minicnn import __version__
from minicnn.checkpoint import CheckpointError
from minicnn.commands import (
    bench,
    compare_runs,
    evaluate,
    experiment,
    explain,
    export,
    features,
    filters,
    finetune,
    init_report,
    options,
    pack,
    plan,
    predict,
    profile,
    summary,
    train,
    tune,
)
from minicnn.data import DataError
from minicnn.doctor import doctor
from minicnn.errors import DeviceError, OpError, TrainingError

COMMANDS = {
    "train": train,
    "finetune": finetune,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "pack": pack,
    "summary": summary,
    "init-report": init_report,
    "plan": plan,
    "profile": profile,
    "tune": tune,
    "compare-runs": compare_runs,
    "filters": filters,
    "features": features,
    "explain": explain,
    "experiment": experiment,
    "bench": bench,
}
ELSEWHERE = {  # done by __main__, also where nothing is installed yet
    "test": "run the tests, in a checkout",
    "install": "install the checkout again",
    "doctor": "what is installed, which devices work, and why not CUDA",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors that a person can mend are one line on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt as interruption:  # of a training run, which says where it has saved
        print(f"minicnn: {interruption}" if str(interruption) else "minicnn: interrupted", file=sys.stderr)
        return options.INTERRUPTED
    except (TrainingError, CheckpointError, OSError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return options.FAILED
    except (DataError, DeviceError, OpError, ValueError) as error:
        print(f"minicnn: {error}", file=sys.stderr)
        return options.USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minicnn", description="Convolutional networks on hand-written CUDA kernels.")
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        described = commands.add_parser(name, help=command.__doc__.partition(": ")[2].rstrip("."))
        command.add(described)
        described.set_defaults(run=command.run)
    for name, what in ELSEWHERE.items():
        commands.add_parser(name, help=what).set_defaults(run=lambda _: doctor())
    return parser
