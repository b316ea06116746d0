"""`minicnn features`: draw the maps that a trained network's layers make of an image."""

from __future__ import annotations

from minicnn import explain, pictures
from minicnn.commands import options


def add(parser) -> None:
    options.add_image_of_run(parser)
    parser.add_argument(
        "--layers", nargs="+", default=None, metavar="LAYER", help="paths such as features.3 (up to six)"
    )
    options.add_picture(parser, "features.png")


def run(arguments) -> int:
    options.check_pictures()
    seen = explain.features(
        arguments.run_folder, arguments.image, arguments.layers, device=arguments.device, data_dir=arguments.data_dir
    )
    pictures.features(seen, arguments.out)
    print(arguments.out)
    return options.DONE
