"""The README's figures: each stands in a file of results that a committed script has made."""

import csv
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"


def section(heading: str) -> str:
    return README.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def rows_of(*paths: Path) -> list[dict]:
    return [
        row
        for path in paths
        for row in csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#"))
    ]


def is_one_of(figure: str, values) -> bool:
    """Whether it is one of the values, rounded to the digits that it shows."""
    digits = len(figure.partition(".")[2])
    return any(abs(float(value) - float(figure)) <= 0.5000001 * 10**-digits for value in values)


TABLE = re.findall(r"^\| `(\w+)`[^|]*batch (\d+)[^|]*\|(.*)\|$", section("How fast"), re.M)


def test_there_is_a_table():
    assert len(TABLE) >= 4


@pytest.mark.parametrize("name, batch, cells", TABLE, ids=[name for name, *_ in TABLE])
def test_whole_steps(name, batch, cells):
    files = sorted((RESULTS / "cpu_native").glob(f"step_{name}_2*.csv"))
    rows = rows_of(*files)
    assert {row["case"] for row in rows} == {f"{name}, batch {batch}"}
    ours, best, best_ratios, plain, plain_ratios = (cell.strip().removesuffix(" ms") for cell in cells.split("|"))
    for rival, figure in (("minicnn", ours), ("PyTorch at its best", best), ("PyTorch as it comes", plain)):
        assert is_one_of(figure, [row["ms"] for row in rows if row["rival"] == rival]), (rival, figure)
    for rival, figures in (("PyTorch at its best", best_ratios), ("PyTorch as it comes", plain_ratios)):
        for figure in figures.split(", "):
            assert is_one_of(figure, [row["ratio"] for row in rows if row["rival"] == rival]), (rival, figure)


def test_memory_of_a_step():
    sentence = section("How fast").replace("\n", " ").partition("A step of ")[2].partition(". ")[0]
    pairs = re.findall(r"`(\w+)` (?:takes )?(\d+) (?:MiB )?(?:beyond .*?)?where (?:PyTorch's|it) takes (\d+)", sentence)
    assert len(pairs) >= 2
    for name, ours, theirs in pairs:
        rows = rows_of(RESULTS / "cpu_native" / f"memory_{name}.csv")
        for rival, figure in (("minicnn", ours), ("PyTorch as it comes", theirs)):
            assert is_one_of(figure, [row["mib"] for row in rows if row["rival"] == rival]), (name, rival, figure)


def test_accuracies_of_the_first_command():
    lines = re.findall(
        r"Seeds 0, 1 and 2 reach ([\d.]+), ([\d.]+) and ([\d.]+)\s+\(`(benchmarks/results/\w+\.csv)`\)", README
    )
    assert lines
    for *accuracies, path in lines:
        assert [float(row["test_top1"]) for row in rows_of(ROOT / path)] == [float(a) for a in accuracies]


def test_the_score_of_the_tests():
    found = json.loads((ROOT / "tests" / "mutants" / "results" / "mutants.json").read_text())["faults"]
    counts = re.search(
        r"of (\d+) faults put into the kernels by rule, (\d+) change no result.*?"
        r"outputs alone found (\d+), with\s+the\s+detector (\d+)",
        README,
        re.S,
    )
    killed = ("killed", "killed by time")
    assert [int(count) for count in counts.groups()] == [
        len(found),
        sum(bool(fault["equivalent"]) for fault in found),
        sum(fault["outputs"] in killed for fault in found),
        sum(fault["outcome"] in killed for fault in found),
    ]
