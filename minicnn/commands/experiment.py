"""`minicnn experiment`: ask a question of the sources, three seeds each."""

from __future__ import annotations

from minicnn import data, experiments
from minicnn.commands import options


def add(parser) -> None:
    questions = "; ".join(f"{name}: {e.question}" for name, e in experiments.EXPERIMENTS.items())
    parser.add_argument("name", metavar="NAME", help=questions)
    options.add_data(parser, data.DEFAULT)
    parser.add_argument("--seeds", type=int, nargs="+", default=experiments.SEEDS, metavar="SEED", help="(0 1 2)")
    parser.add_argument("--epochs", type=int, default=None, help="of each run (3)")
    parser.add_argument("--out", default=None, metavar="DIR", help="the folder of all runs (runs/experiment-NAME)")


def run(arguments) -> int:
    settings = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    splits = data.open(arguments.data, data_dir=arguments.data_dir)
    experiments.run(
        arguments.name, splits, seeds=arguments.seeds, device=arguments.device, out=arguments.out, **settings
    )
    return options.DONE
