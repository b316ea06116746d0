"""`minicnn evaluate`: score a trained network."""

from __future__ import annotations

from minicnn import evaluation
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or one checkpoint file")
    options.add_data(parser, None)
    parser.add_argument("--protocol", default="center", help=" or ".join(evaluation.PROTOCOLS))


def run(arguments) -> int:
    score = evaluation.evaluate(
        arguments.run_folder,
        arguments.data,
        protocol=arguments.protocol,
        device=arguments.device,
        data_dir=arguments.data_dir,
    )
    print(f"top-1 {score.top1:.4f} ({score.correct} of {score.count})  top-5 {score.top5:.4f}  loss {score.loss:.4f}")
    return options.DONE
