"""`minicnn tune`: measure how the kernels of a network are best cut into blocks on this device, and keep it."""

from __future__ import annotations

from minicnn.commands import options
from minicnn.ops import precision
from minicnn.progress import Progress
from minicnn.tune import tune


def add(parser) -> None:
    options.add_network(parser, batch_size=128)
    parser.add_argument("--precision", default="float32", help=", ".join(precision.NAMES))
    parser.add_argument("--device", default="auto", help=options.DEVICES)


def run(arguments) -> int:
    network, shape = options.network_and_input(arguments)
    progress = Progress(quiet=arguments.json)
    chosen = {name: getattr(arguments, name) for name in ("device", "precision")}
    tuned = tune(
        network, shape, on_row=lambda row: progress.say(f"{row.layer} {row.product}: {row.gain:.2f}"), **chosen
    )
    return options.show(tuned, arguments)
