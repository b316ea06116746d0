"""`minicnn compare-runs`: say whether two runs are equal, or where they part."""

from __future__ import annotations

from minicnn import compare_runs
from minicnn.checkpoint import CheckpointError
from minicnn.commands import options


def add(parser) -> None:
    parser.description = "Exit status: 0 equal but for the times, 1 not equal, 2 trouble."
    parser.add_argument("one", metavar="A", help="a run folder")
    parser.add_argument("other", metavar="B", help="another")


def run(arguments) -> int:
    try:
        comparison = compare_runs.compare(arguments.one, arguments.other)
    except (CheckpointError, OSError) as error:
        raise ValueError(error) from error  # trouble is not a difference: another exit code than elsewhere
    print(comparison)
    return options.DONE if comparison.equal else options.FAILED
