"""Questions of the sources, asked again: the same small network with and without a thing, three seeds each.

A variant is a network and the settings it is trained with; what differs between the variants of one experiment is what the
question is about. Each run is an ordinary run folder; beside them stand results.csv and a picture.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minicnn import data as datasets
from minicnn import nn, plots
from minicnn.progress import Progress
from minicnn.trainer import History
from minicnn.training import train

SEEDS = (0, 1, 2)


def small_network(activation=nn.ReLU, norm: bool = True, overlap: bool = True) -> Callable[..., nn.Module]:
    """A constructor of three convolutions and two fully connected layers after AlexNet: 14 M multiplications an image of
    28 pixels, so that a CPU sees the bundled images in seconds."""

    def small(num_classes: int, image_size: int, in_channels: int) -> nn.Module:
        layers, channels, extent = [], in_channels, image_size
        for filters, size in ((32, 5), (64, 5), (96, 3)):
            layers += [nn.Conv2d(channels, filters, size, padding=size // 2), activation()]
            layers += [nn.LocalResponseNorm(5, k=2.0)] if norm and size == 5 else []
            layers += [nn.MaxPool2d(3, stride=2, padding=1) if overlap else nn.MaxPool2d(2, ceil_mode=True)]
            channels, extent = filters, -(-extent // 2)
        layers += [nn.Flatten(), nn.Linear(extent * extent * channels, 256), activation(), nn.Dropout(0.5)]
        model = nn.Sequential(*layers, nn.Linear(256, num_classes))
        for layer in model:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                gain = 0.1 if layer is model[-1] else 1.0
                nn.init.he_normal_(layer.weight, gain=gain)
        return model

    return small


@dataclass(frozen=True)
class Variant:
    model: Callable[..., nn.Module]
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What is asked, where it comes from, and between what."""

    question: str
    source: str
    variants: dict[str, Variant]
    settings: dict = field(default_factory=lambda: {"epochs": 3})


EXPERIMENTS = {
    "relu-vs-tanh": Experiment(
        "does a network with ReLU learn faster than one with tanh?",
        "Krizhevsky et al. 2012, section 3.1",
        {"relu": Variant(small_network()), "tanh": Variant(small_network(nn.Tanh))},
    ),
    "lrn": Experiment(
        "does local response normalisation lower the error?",
        "Krizhevsky et al. 2012, section 3.3; Simonyan and Zisserman 2014, section 4.1",
        {"with": Variant(small_network()), "without": Variant(small_network(norm=False))},
    ),
    "overlap-pooling": Experiment(
        "does pooling by windows of 3 at stride 2 lower the error against windows of 2?",
        "Krizhevsky et al. 2012, section 3.4",
        {"overlapping": Variant(small_network()), "side by side": Variant(small_network(overlap=False))},
    ),
    "precision": Experiment(
        "does training in reduced precision reach what float32 reaches?",
        "Micikevicius et al. 2018",
        {name: Variant(small_network(), {"precision": name}) for name in ("float32", "tf32", "bfloat16", "float16")},
    ),
}


def find(name: str) -> Experiment:
    """The experiment of that name; ValueError with the names there are."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def run(
    name: str, data=None, *, seeds=SEEDS, device="auto", out=None, quiet=False, **settings
) -> dict[str, list[History]]:
    """Train every variant with every seed; return their histories, in the order of the seeds.

    name      one of EXPERIMENTS
    data      as for train(); the bundled images where nothing is said
    out       the folder of runs, results.csv and picture; default runs/experiment-<name>
    settings  as for train(), for all variants

    Raises ValueError for an unknown name, FileExistsError where `out` holds an experiment already, and what train() does.
    """
    experiment, folder, progress = find(name), Path(out or Path("runs") / f"experiment-{name}"), Progress(quiet)
    if (folder / "results.csv").exists():
        raise FileExistsError(f"{folder} holds the results of an experiment; choose another folder (out)")
    progress.say(f"{name}: {experiment.question} ({experiment.source})")
    splits = datasets.open(data or datasets.DEFAULT)
    histories: dict[str, list[History]] = {}
    for variant, chosen in experiment.variants.items():
        for seed in seeds:
            how = experiment.settings | settings | chosen.settings | {"seed": seed}
            run_folder = folder / f"{variant.replace(' ', '-')}-seed-{seed}"
            history = train(chosen.model, splits, device=device, out=run_folder, quiet=True, **how)
            histories.setdefault(variant, []).append(history)
            losses = " ".join(f"{row['train_loss']:.4f}" for row in history.epochs)
            progress.say(f"{variant}, seed {seed}: losses {losses}, test accuracy {history.test.top1:.4f}")
    write(histories, seeds, folder / "results.csv")
    if plots.available():
        plots.variants(histories, folder / "picture.png", f"{experiment.question}  ({len(seeds)} seeds)")
    progress.say(f"files in {folder}/: results.csv, picture.png, and a run folder each")
    progress.say(finding(histories))
    return histories


def write(histories: dict[str, list[History]], seeds, path: Path) -> None:
    """A line an epoch of each run; the test accuracy stands in that of the last."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("variant", "seed", "epoch", "train_loss", "val_loss", "val_top1", "test_top1", "seconds"))
        for variant, runs in histories.items():
            for seed, history in zip(seeds, runs, strict=True):
                for row in history.epochs:
                    test = history.test.top1 if row is history.epochs[-1] else ""
                    figures = (row[key] for key in ("epoch", "train_loss", "val_loss", "val_top1"))
                    table.writerow((variant, seed, *figures, test, row["seconds"]))


def finding(histories: dict[str, list[History]]) -> str:
    """What came out, in a sentence: medians of the test accuracy, and whether the seeds of any two variants overlap."""
    accuracies = {variant: [history.test.top1 for history in runs] for variant, runs in histories.items()}
    best, *others = sorted(accuracies, key=lambda variant: statistics.median(accuracies[variant]), reverse=True)
    medians = ", ".join(f"{v} {statistics.median(a):.4f} ({min(a):.4f} to {max(a):.4f})" for v, a in accuracies.items())
    beaten = [other for other in others if min(accuracies[best]) > max(accuracies[other])]
    if not beaten:
        verdict = "the seeds overlap, no difference is shown"
    else:
        verdict = f"every seed of {best} ends above every one of {' and '.join(beaten)}"
    return f"test accuracy, median and range: {medians}: {verdict}"
