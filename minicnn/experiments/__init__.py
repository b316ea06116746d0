"""Questions of the sources, asked again: the same small network with and without a thing, three seeds each.

What differs between the variants of one experiment is what the question is about. Each run is an ordinary run folder; beside
them stand results.csv and a picture.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from minicnn import data as datasets
from minicnn import evaluation, plots, random
from minicnn.errors import TrainingError
from minicnn.experiments.questions import EXPERIMENTS, Experiment, Variant, find
from minicnn.experiments.records import WINDOW, Record, finding, write
from minicnn.progress import Progress
from minicnn.run_folder import RunFolder
from minicnn.training import train

SEEDS = (0, 1, 2)

__all__ = ["EXPERIMENTS", "SEEDS", "Experiment", "Record", "Variant", "find", "findings", "run"]


class RunProgress(Progress):
    """The live bar of one run among many: it says which, and none of the lines that the run would print alone."""

    def __init__(self, quiet: bool, which: str):
        super().__init__(quiet)
        self.which = which

    def say(self, line: str) -> None:
        pass

    def update(self, step: int, epoch: str, **figures) -> None:
        super().update(step, f"{self.which}, {epoch}", **figures)


def run(name: str, data=None, *, seeds=SEEDS, device="auto", out=None, quiet=False, **settings) -> list[Record]:
    """Train every variant with every seed; return a Record each, variant by variant.

    name      one of EXPERIMENTS
    data      as for train(); the bundled images where nothing is said
    out       the folder of runs, results.csv and picture.png; default runs/experiment-<name>
    settings  as for train(), for all variants

    A run that learns nothing, or whose loss is no number any more, is a result like any other.

    Raises ValueError for an unknown name and for data without test and validation images, FileExistsError where `out` holds
    an experiment already, and what train() does.
    """
    experiment, folder, progress = find(name), Path(out or Path("runs") / f"experiment-{name}"), Progress(quiet)
    if any(folder.glob("*/config.json")):
        raise FileExistsError(f"{folder} holds the runs of an experiment; choose another folder (out)")
    splits = datasets.open(data or datasets.DEFAULT)
    if not (splits.test or splits.validation):
        raise ValueError(f"{splits.name} has neither test nor validation images to compare variants on")
    progress.say(f"{name}: {experiment.question} ({experiment.source})")
    pairs = [(variant, seed) for variant in experiment.variants for seed in seeds]
    records = []
    for number, (variant, seed) in enumerate(pairs, 1):
        which = f"{variant}, seed {seed} ({number} of {len(pairs)})"
        chosen = experiment.variants[variant]
        how = {"device": device, "out": folder / f"{slug(variant)}-seed-{seed}", "seed": seed}
        how |= experiment.settings | settings | chosen.settings
        records.append(record(variant, chosen.model, splits, RunProgress(quiet, which), how))
        progress.say(f"{which}: " + outcome(experiment, records[-1]))
    write(records, folder / "results.csv")
    if plots.available():
        draw(experiment, records, folder / "picture.png")
    progress.say(f"files in {folder}/: results.csv, picture.png, and a run folder each")
    progress.say(findings(experiment, records))
    return records


def slug(variant: str) -> str:
    """A folder's name: letters and figures, and a hyphen for all between them."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in variant).split()).lower()


def record(variant: str, model, splits, progress: Progress, how: dict) -> Record:
    """Train one network and read what its run has left."""
    random.manual_seed(how["seed"])
    (h, _, c), classes = splits.image_shape, len(splits.class_names)
    network = model(num_classes=classes, image_size=h, in_channels=c)
    with contextlib.suppress(TrainingError):  # its rows say what happened
        train(network, splits, progress=progress, **how)
    folder = RunFolder(how["out"])
    epochs, steps = folder.rows(folder.metrics), folder.rows(folder.steps)
    accuracy = None
    if len(epochs) == how["epochs"]:
        statistics, place = datasets.ChannelStatistics.of(splits.train), network.parameters()[0].device
        accuracy = evaluation.score(network, splits.test or splits.validation, statistics, place).top1
    return Record(variant, how["seed"], epochs, [row["top1"] for row in steps], accuracy)


def outcome(experiment: Experiment, record: Record) -> str:
    values = ((measure, measure.values([record])[record.variant][0]) for measure in experiment.chosen)
    return ", ".join(f"{measure.title} {measure.show(value)}" for measure, value in values)


def findings(experiment: Experiment, records: list[Record]) -> str:
    """A sentence for each of the experiment's measures."""
    return "\n".join(finding(measure, measure.values(records)) for measure in experiment.chosen)


def draw(experiment: Experiment, records: list[Record], path: Path) -> None:
    measure, *_ = experiment.chosen
    errors: dict[str, list] = {}
    for one in records:
        errors.setdefault(one.variant, []).append(one.training_error())
    values, seeds = measure.values(records), {one.seed for one in records}
    plots.variants(errors, WINDOW, values, measure.title, path, f"{experiment.question}  ({len(seeds)} seeds)")
