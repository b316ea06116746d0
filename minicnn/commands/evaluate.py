"""`minicnn evaluate`: score trained networks by one protocol or several, each alone and together."""

from __future__ import annotations

import json
from pathlib import Path

from minicnn import evaluation, plots, protocols
from minicnn.checkpoint import replacing
from minicnn.commands import options
from minicnn.report import Report


def add(parser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders or checkpoint files; of several also the mean of their outputs",
    )
    options.add_data(parser, None)
    parser.add_argument(
        "--protocol",
        nargs="+",
        default=["center"],
        metavar="NAME",
        help=f"{', '.join(protocols.PROTOCOLS)} (center)",
    )
    parser.add_argument(
        "--scales",
        nargs="+",
        type=int,
        default=None,
        metavar="Q",
        help="short sides of the images (the protocol's own)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=evaluation.BATCH, help=f"views at a time ({evaluation.BATCH}); less memory"
    )
    parser.add_argument(
        "--per-class", action="store_true", help="also recall and precision of each class, by the last row"
    )
    parser.add_argument("--confusion", metavar="FILE.png", help="draw which class was taken for which, by the last row")
    parser.add_argument("--report", metavar="FILE.md", help="write what is printed to a file too")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments) -> int:
    if arguments.confusion and not plots.available():
        raise ValueError("--confusion draws with matplotlib, which is not installed: pip install minicnn[plots]")
    found = evaluation.report(
        arguments.runs,
        arguments.data,
        protocol=arguments.protocol,
        scales=arguments.scales,
        device=arguments.device,
        data_dir=arguments.data_dir,
        batch_size=arguments.batch_size,
        quiet=arguments.json,
    )
    text = _text(found, arguments.per_class)
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else text)
    if arguments.report:
        with replacing(arguments.report) as partial:
            Path(partial).write_text(text + "\n")
    if arguments.confusion:
        last = found.rows[-1]
        title = f"{last.label}, {last.protocol}: {found.title}"
        with replacing(arguments.confusion) as partial:
            plots.confusion(last.confusion, found.class_names, partial, title)
    return options.DONE


def _text(found: Report, per_class: bool) -> str:
    last = found.rows[-1]
    return f"{found}\n\n{last.label}, {last.protocol}\n\n{found.by_class(last)}" if per_class else str(found)
