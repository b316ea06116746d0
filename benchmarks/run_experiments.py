"""All experiments (minicnn.experiments) on the bundled images, their tables and pictures into docs/experiments/, and a page.

An experiment whose table stands there is not run again; `--page` only writes docs/experiments.md from the tables.
`python benchmarks/run_experiments.py [NAME ...] [--page]`
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from minicnn import experiments
from minicnn.experiments import records
from minicnn.experiments.questions import EXPERIMENTS, Experiment

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "experiments"
HEAD = """\
# Experiments

Questions of the sources, asked again of small networks on the bundled images (9,000 garments of 28 pixels to learn from, 2,000
to test on). What a small network shows on small images need not hold on ImageNet; each answer below is what was found, whatever
it is. "Better" is said only where every seed of one variant beats every seed of the other.

`minicnn experiment NAME` asks one again; `python benchmarks/run_experiments.py` asks all and writes this page.
The times are the sums of the runs' own, on two shared cores.
"""


def ask(name: str) -> None:
    """Run one experiment in a folder of its own, and keep its table and its picture."""
    with tempfile.TemporaryDirectory() as folder:
        experiments.run(name, device="cpu", out=folder)
        FOLDER.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "picture.png", FOLDER / f"{name}.png")
        shutil.copy(Path(folder) / "results.csv", FOLDER / f"{name}.csv")


def section(name: str, experiment: Experiment) -> str:
    rows = records.read(FOLDER / f"{name}.csv")
    seconds = sum(float(row["seconds"]) for row in rows)
    runs = len({(row["variant"], row["seed"]) for row in rows})
    sentences = (records.finding(measure, measure.read(rows)) for measure in experiment.chosen)
    found, question = "\n\n".join(map(capitalized, sentences)), capitalized(experiment.question)
    return (
        f"## {name}\n\n**{question}** ({experiment.source})\n\n{found}\n\n"
        f"![{name}](experiments/{name}.png)\n\n{runs} runs, {seconds / 60:.1f} minutes; "
        f"[every epoch](experiments/{name}.csv).\n"
    )


def capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def page() -> str:
    asked = [name for name in EXPERIMENTS if (FOLDER / f"{name}.csv").exists()]
    return "\n".join([HEAD, *(section(name, EXPERIMENTS[name]) for name in asked)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them")
    parser.add_argument("--page", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    for name in () if arguments.page else arguments.names or EXPERIMENTS:
        if not (FOLDER / f"{name}.csv").exists():
            ask(name)
            (DOCS / "experiments.md").write_text(page())
    (DOCS / "experiments.md").write_text(page())


if __name__ == "__main__":
    main()
