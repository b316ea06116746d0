"""`minicnn train`: train a network on images."""

from __future__ import annotations

import sys

from minicnn import data, models, training
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="one of " + ", ".join(models.CONSTRUCTORS))
    options.add_data(parser, data.DEFAULT)
    parser.add_argument("--image-size", type=int, default=None, metavar="PIXELS", help="for a folder of images (224)")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare batches; they change no bytes (1)")
    parser.add_argument("--out", default=None, metavar="DIR", help="the run folder (runs/MODEL)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out (runs/MODEL)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--memory-limit", type=float, default=None, metavar="GIB", help="of the device (what is free)")
    for name, setting in training.Settings.__dataclass_fields__.items():
        kind = {"clip_norm": float, "micro_batch": int}.get(name, type(setting.default))
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"({setting.default})")


def run(arguments) -> int:
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
        return options.INTERRUPTED
    return options.DONE
