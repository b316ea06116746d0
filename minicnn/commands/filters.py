"""`minicnn filters`: draw the filters of a trained network's first convolution."""

from __future__ import annotations

from minicnn import explain, plots
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or one checkpoint file")
    options.add_picture(parser, "filters.png")


def run(arguments) -> int:
    options.check_pictures()
    path, weight = explain.filters(arguments.run_folder)
    k, r, s, _ = weight.shape
    plots.filters(weight, arguments.out, f"{path}: {k} filters of {r}x{s}")
    print(arguments.out)
    return options.DONE
