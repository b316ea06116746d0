"""`minicnn init-report`: whether a network's initial values let it learn, layer by layer."""

from __future__ import annotations

from minicnn import models, plots, random
from minicnn.commands import options
from minicnn.init_report import init_report


def add(parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="one of " + ", ".join(models.CONSTRUCTORS))
    for option in ("image-size", "in-channels", "num-classes"):
        parser.add_argument(f"--{option}", type=int, default=None, help="(as published)")
    parser.add_argument("--initialize", default=None, metavar="RULE", help="he, paper, ... (the network's own)")
    parser.add_argument("--device", default="auto", help=options.DEVICES)
    parser.add_argument("--seed", type=int, default=0, help="of weights and noise (0)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--png", default=None, metavar="FILE", help="draw signal and gradient (needs matplotlib)")


def run(arguments) -> int:
    if arguments.png and not plots.available():
        raise ValueError("--png needs matplotlib: pip install 'minicnn[plots]' brings it")
    random.manual_seed(arguments.seed)
    arguments.batch_size = 1
    chosen = {} if arguments.initialize is None else {"initialize": arguments.initialize}
    network, _ = options.network_and_input(arguments, **chosen)
    report = init_report(network.to(arguments.device), seed=arguments.seed)
    if arguments.png:
        report.draw(arguments.png)
    return options.show(report, arguments)
