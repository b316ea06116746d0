"""`minicnn predict`: name what is in images."""

from __future__ import annotations

from minicnn import evaluation, protocols
from minicnn.commands import options


def add(parser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--run", dest="run_folder", required=True, metavar="RUN", help="a run folder, or one checkpoint file"
    )
    parser.add_argument("--protocol", default="center", help=f"{', '.join(protocols.PROTOCOLS)} (center)")
    parser.add_argument("--device", default="auto", help=options.DEVICES)


def run(arguments) -> int:
    rankings = evaluation.predict(
        arguments.run_folder, arguments.images, protocol=arguments.protocol, device=arguments.device
    )
    for path, ranking in zip(arguments.images, rankings, strict=True):
        print(f"{path}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in ranking))
    return options.DONE
