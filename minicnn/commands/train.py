"""`minicnn train`: train a network on images."""

from __future__ import annotations

from minicnn import models, recipes, training
from minicnn.commands import options


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
    parser.add_argument("--out", default=None, metavar="DIR", help="the run folder (runs/RECIPE or runs/MODEL)")
    options.add_training(parser)


def run(arguments) -> int:
    recipe = recipes.load(arguments.recipe) if arguments.recipe else recipes.Recipe()
    recipe = recipe.changed(recipes.assigned(arguments.set))
    training.train(
        None if arguments.model is None else models.find(arguments.model),
        arguments.data,
        recipe=recipe,
        out=arguments.out,
        data_dir=arguments.data_dir,
        image_size=arguments.image_size,
        **options.training(arguments),
    )
    return options.DONE
