"""`minicnn explain`: draw which pixels of an image a trained network's answer hangs on."""

from __future__ import annotations

from minicnn import explain, pictures
from minicnn.commands import options


def add(parser) -> None:
    options.add_image_of_run(parser)
    parser.add_argument(
        "--class", dest="class_name", default=None, metavar="NAME", help="(the one that the network names)"
    )
    parser.add_argument("--window", type=int, default=None, metavar="PIXELS", help="side of what hides (a quarter)")
    options.add_picture(parser, "explain.png")


def run(arguments) -> int:
    options.check_pictures()
    chosen = {name: getattr(arguments, name) for name in ("class_name", "window", "device", "data_dir")}
    found = explain.explain(arguments.run_folder, arguments.image, **chosen)
    pictures.explanation(found, arguments.out)
    print(f"{arguments.out}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in found.ranking[:3]))
    return options.DONE
