"""What several commands have in common: exit codes, options, and how a result is shown."""

from __future__ import annotations

import argparse
import json

from minicnn import data, models, plots
from minicnn.progress import Progress
from minicnn.settings import Settings

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DEVICES = "auto, cuda, cuda:<index>, cpu, numpy or emulated"
KINDS = {"int": int, "float": float, "str": str, "bool": bool}
SETTINGS = {  # that an option can say; the others are tables and lists
    name: setting for name, setting in Settings.__dataclass_fields__.items() if setting.type.split(" | ")[0] in KINDS
}


def add_data(parser, default: str | None) -> None:
    parser.add_argument(
        "--data",
        default=default,
        metavar="SOURCE",
        help="a folder of class folders, or a data set's name: " + ", ".join(data.NAMED),
    )
    parser.add_argument("--data-dir", default=None, metavar="DIR", help="where the files of a named data set lie")
    parser.add_argument("--device", default="auto", help=DEVICES)


def add_training(parser, **defaults) -> None:
    """How a run trains. defaults: of settings, where they differ from Settings'."""
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="threads, or where files are decoded processes, that prepare batches; they change no bytes (1)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="make each step as one CUDA graph; the same numbers (on cuda)",
    )
    parser.add_argument(
        "--resident",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the training images on the device; the same bytes (where they fit into half of what is left)",
    )
    parser.add_argument("--memory-limit", type=float, default=None, metavar="GIB", help="of the device (what is free)")
    for name, setting in SETTINGS.items():
        kind, default = KINDS[setting.type.split(" | ")[0]], defaults.get(name, setting.default)
        how = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        parser.add_argument(f"--{name.replace('_', '-')}", **how, default=None, help=f"({default})")


def training(arguments) -> dict:
    """What add_training's options and --device say, as keywords of train()."""
    chosen = {name: getattr(arguments, name) for name in SETTINGS}
    return {
        **{name: getattr(arguments, name) for name in ("device", "workers", "resume", "graph", "resident", "quiet")},
        "memory_limit": None if arguments.memory_limit is None else int(arguments.memory_limit * 2**30),
        **{name: value for name, value in chosen.items() if value is not None},
    }


def add_network(parser, batch_size: int) -> None:
    parser.add_argument("model", metavar="MODEL", help="one of " + ", ".join(models.CONSTRUCTORS))
    for option in ("image-size", "in-channels", "num-classes"):
        parser.add_argument(f"--{option}", type=int, default=None, help="(as published)")
    parser.add_argument("--batch-size", type=int, default=batch_size, help=f"({batch_size})")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def add_image_of_run(parser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="an image file, or a number among the run's own test images")
    parser.add_argument(
        "--run", required=True, dest="run_folder", metavar="RUN", help="a run folder, or a checkpoint file"
    )
    parser.add_argument("--data-dir", default=None, metavar="DIR", help="where the files of a named data set lie")
    parser.add_argument("--device", default="auto", help=DEVICES)


def add_picture(parser, name: str) -> None:
    parser.add_argument("--out", default=name, metavar="FILE", help=f"the picture ({name})")


def check_pictures() -> None:
    """ValueError where nothing can be drawn."""
    if not plots.available():
        raise ValueError("pictures need matplotlib: pip install minicnn[plots]")


def network_and_input(arguments, **options):
    """The network that the command's options, and these, describe and the shape of a batch of its images."""
    chosen = {name: getattr(arguments, name) for name in ("image_size", "in_channels", "num_classes")}
    given = {name: value for name, value in chosen.items() if value is not None}
    network = models.find(arguments.model)(**given, **options)
    if arguments.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {arguments.batch_size}")
    size, channels = network.options["image_size"], network.options["in_channels"]
    return network, (arguments.batch_size, size, size, channels)


def show(result, arguments) -> int:
    """As a table or, for programs, as JSON."""
    print(json.dumps(result.as_dict(), indent=2)) if arguments.json else Progress().say(str(result))
    return DONE
