"""What the runs of an experiment leave: a table of them, and the sentence that it supports."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOW = 20  # batches over which a training error is a mean


@dataclass(frozen=True)
class Record:
    """One run.

    epochs    its rows of metrics.jsonl; fewer than were asked for where it diverged
    steps     the share of each step's batch that was right
    accuracy  on the test images, or the validation images where there are none; None where the run diverged
    """

    variant: str
    seed: int
    epochs: list[dict]
    steps: list[float]
    accuracy: float | None

    @property
    def last_loss(self) -> float | None:
        return None if self.accuracy is None else self.epochs[-1]["train_loss"]

    def training_error(self) -> np.ndarray:
        """The error over the last WINDOW batches, from step WINDOW on."""
        return 1 - np.convolve(self.steps, np.full(WINDOW, 1 / WINDOW), "valid") if len(self.steps) >= WINDOW else []

    def steps_to(self, error: float) -> int | None:
        """The first step at which the training error is at most this; None where none is."""
        return next((i + WINDOW for i, e in enumerate(self.training_error()) if e <= error), None)


@dataclass(frozen=True)
class Measure:
    """A figure of a run. `of` gives None where the run has none: that is worse than any."""

    column: str
    title: str
    of: Callable[[Record], float | None]
    lower_is_better: bool
    digits: str

    def show(self, value: float) -> str:
        return format(value, self.digits) if math.isfinite(value) else "never"

    def values(self, records: list[Record]) -> dict[str, list[float]]:
        """For each variant, in the order of the seeds; infinite where there is none."""
        return self._gather((record.variant, self.of(record)) for record in records)

    def read(self, rows: list[dict]) -> dict[str, list[float]]:
        """The same from the rows of a table that `write` has written."""
        lasts = {(row["variant"], row["seed"]): row[self.column] for row in rows}
        return self._gather((variant, float(v) if v else None) for (variant, _), v in lasts.items())

    def _gather(self, pairs) -> dict[str, list[float]]:
        worst, found = math.inf if self.lower_is_better else -math.inf, {}
        for variant, value in pairs:
            found.setdefault(variant, []).append(worst if value is None else value)
        return found


MEASURES = {
    measure.column: measure
    for measure in (
        Measure("accuracy", "test accuracy", lambda record: record.accuracy, False, ".4f"),
        Measure("last_loss", "training loss of the last epoch", lambda record: record.last_loss, True, ".4f"),
        Measure("steps_to_25", "steps to 25 % training error", lambda record: record.steps_to(0.25), True, ".0f"),
    )
}
EPOCH_COLUMNS = ("epoch", "train_loss", "train_top1", "val_loss", "val_top1", "seconds")


def write(records: list[Record], path: Path) -> None:
    """A line an epoch of each run; what is measured of the whole run stands in the line of its last epoch."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("variant", "seed", *EPOCH_COLUMNS, *MEASURES))
        for record in records:
            for row in record.epochs:
                measured = (
                    [m.of(record) for m in MEASURES.values()] if row is record.epochs[-1] else [""] * len(MEASURES)
                )
                table.writerow((record.variant, record.seed, *(row.get(key, "") for key in EPOCH_COLUMNS), *measured))


def read(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def finding(measure: Measure, values: dict[str, list[float]]) -> str:
    """What came out, in a sentence: median and range of each variant, and which ones the best has beaten with every seed."""
    sign = 1 if measure.lower_is_better else -1
    best, *others = sorted(values, key=lambda variant: sign * statistics.median(values[variant]))
    medians = "; ".join(
        f"{variant}: {measure.show(statistics.median(v))} ({measure.show(min(v))} to {measure.show(max(v))})"
        for variant, v in values.items()
    )
    beaten = [o for o in others if max(sign * v for v in values[best]) < min(sign * v for v in values[o])]
    if not beaten:
        verdict = "the seeds of the best overlap with those of every other: no difference is shown"
    else:
        verdict = f"every seed of {best} is better than every one of {listed(beaten)}"
        level = [other for other in others if other not in beaten]
        verdict += f"; its seeds overlap with those of {listed(level)}" if level else ""
    return f"{measure.title}, median and range: {medians}. {verdict[0].upper()}{verdict[1:]}."


def listed(names: list[str]) -> str:
    """a; b and c: the names have commas of their own."""
    return " and ".join(filter(None, ("; ".join(names[:-1]), names[-1])))
