"""`minicnn train`: train a network on images."""

from __future__ import annotations

import argparse
import sys

from minicnn import models, recipes, training
from minicnn.commands import options
from minicnn.settings import Settings

KINDS = {"int": int, "float": float, "str": str}


def add(parser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="the recipe's, or one of " + ", ".join(models.CONSTRUCTORS)
    )
    parser.add_argument(
        "--recipe", default=None, metavar="RECIPE", help="a TOML file, or one of " + ", ".join(recipes.NAMES)
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="in place of what the recipe says: lr=0.1 model.dropout=0.3 augment.crop=24 clip_norm=false",
    )
    options.add_data(parser, None)
    parser.add_argument("--image-size", type=int, default=None, metavar="PIXELS", help="for a folder of images (224)")
    parser.add_argument("--workers", type=int, default=1, help="that prepare batches; they change no bytes (1)")
    parser.add_argument("--out", default=None, metavar="DIR", help="the run folder (runs/RECIPE or runs/MODEL)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="make each step as one CUDA graph; the same numbers (on cuda)",
    )
    parser.add_argument("--memory-limit", type=float, default=None, metavar="GIB", help="of the device (what is free)")
    for name, setting in _as_options().items():
        kind = KINDS[setting.type.split(" | ")[0]]
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"({setting.default})")


def _as_options() -> dict:
    """The settings that an option can say; the others are tables and lists, for --set."""
    settings = Settings.__dataclass_fields__
    return {name: setting for name, setting in settings.items() if setting.type.split(" | ")[0] in KINDS}


def run(arguments) -> int:
    recipe = recipes.load(arguments.recipe) if arguments.recipe else recipes.Recipe()
    recipe = recipe.changed(recipes.assigned(arguments.set))
    chosen = {name: getattr(arguments, name) for name in _as_options()}
    try:
        training.train(
            None if arguments.model is None else models.find(arguments.model),
            arguments.data,
            recipe=recipe,
            device=arguments.device,
            workers=arguments.workers,
            out=arguments.out,
            resume=arguments.resume,
            graph=arguments.graph,
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
