"""`minicnn profile`: where the time of a training step goes, layer by layer."""

from __future__ import annotations

from minicnn import plots
from minicnn.commands import options
from minicnn.ops import precision
from minicnn.profile import profile


def add(parser) -> None:
    options.add_network(parser, batch_size=16)
    parser.add_argument("--precision", default="float32", help=", ".join(precision.NAMES))
    parser.add_argument("--device", default="auto", help=options.DEVICES)
    parser.add_argument("--steps", type=int, default=10, help="of which the medians are taken (10)")
    parser.add_argument("--png", default=None, metavar="FILE", help="draw where the time goes (needs matplotlib)")


def run(arguments) -> int:
    if arguments.png and not plots.available():
        raise ValueError("--png needs matplotlib: pip install 'minicnn[plots]' brings it")
    network, shape = options.network_and_input(arguments)
    chosen = {name: getattr(arguments, name) for name in ("device", "steps", "precision")}
    profiled = profile(network, shape, **chosen)
    if arguments.png:
        profiled.draw(arguments.png)
    return options.show(profiled, arguments)
