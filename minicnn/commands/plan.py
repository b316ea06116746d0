"""`minicnn plan`: how much memory the training of a network will take, layer by layer."""

from __future__ import annotations

from minicnn.commands import options
from minicnn.memory_plan import memory_plan
from minicnn.ops import precision


def add(parser) -> None:
    options.add_network(parser, batch_size=64)
    parser.add_argument("--micro-batch", type=int, default=None, help="images at a time (the batch at once)")
    parser.add_argument("--precision", default="float32", help=", ".join(precision.NAMES))
    parser.add_argument("--device", default="auto", help=options.DEVICES)


def run(arguments) -> int:
    network, shape = options.network_and_input(arguments, initialize=None)
    chosen = {name: getattr(arguments, name) for name in ("device", "micro_batch", "precision")}
    return options.show(memory_plan(network, shape, **chosen), arguments)
