"""`minicnn predict`: name what is in images."""

from __future__ import annotations

from minicnn import evaluation
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--run", dest="run_folder", required=True, metavar="RUN", help="a run folder, or one checkpoint file"
    )
    parser.add_argument("--device", default="auto", help=options.DEVICES)


def run(arguments) -> int:
    for path, ranking in zip(
        arguments.images,
        evaluation.predict(arguments.run_folder, arguments.images, device=arguments.device),
        strict=True,
    ):
        print(f"{path}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in ranking))
    return options.DONE
