"""What an evaluation found: scores, a table as in VGG's paper, a table by class, and what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Score:
    """Of `count` images, `correct` had the right class first, `correct5` among the first five; `loss` is the mean."""

    count: int
    correct: int
    correct5: int
    loss: float

    @classmethod
    def of(cls, chances: np.ndarray, labels: np.ndarray) -> Score:
        """The score of class probabilities (N, classes) for images of these classes (N,)."""
        of_label, places = chances[np.arange(len(labels)), labels].astype(np.float64), places_of(labels, chances)
        loss = -np.log(np.maximum(of_label, 1e-300)).mean()
        return cls(len(labels), int((places == 0).sum()), int((places < 5).sum()), float(loss))

    @property
    def top1(self) -> float:
        return self.correct / self.count

    @property
    def top5(self) -> float:
        return self.correct5 / self.count


def places_of(labels: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """How many classes come before an image's own: labels (N,), chances (N, classes) -> (N,). Of equal ones the first comes
    first, as for argmax, and what is no number comes after all."""
    own = chances[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(chances.shape[1]) < labels[:, None]
    before = np.where(earlier, ~(chances < own), ~(chances <= own))
    before[np.arange(len(labels)), labels] = False
    return before.sum(axis=1)


def confusion(chances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images of class i (row) were taken for class j (column): (classes, classes) int64."""
    classes = chances.shape[1]
    return np.bincount(labels * classes + chances.argmax(axis=1), minlength=classes**2).reshape(classes, classes)


class ClassRow(NamedTuple):
    """One class: its images, the share of them that was found, and the share of what was taken for it that was right.

    None where nothing was taken for it, or where it has no images.
    """

    name: str
    count: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Row:
    """One evaluation.

    runs      what was scored; of several the mean of their probabilities
    network   its name
    trained   S, the side of the images that it was trained with; of several runs each
    protocol  its name
    scales    Q, the short sides of the images at the test
    views     of each image, over which probabilities were averaged, for each run
    """

    runs: tuple[str, ...]
    network: str
    trained: tuple[int, ...]
    protocol: str
    scales: tuple[int, ...]
    views: int
    score: Score
    confusion: np.ndarray

    @property
    def label(self) -> str:
        return self.runs[0] if len(self.runs) == 1 else f"these {len(self.runs)} together"

    def by_class(self, class_names: Sequence[str]) -> list[ClassRow]:
        counts, taken, right = self.confusion.sum(axis=1), self.confusion.sum(axis=0), np.diag(self.confusion)
        return [
            ClassRow(name, int(count), *(float(hits / of) if of else None for of in (count, guesses)))
            for name, count, guesses, hits in zip(class_names, counts, taken, right, strict=True)
        ]


@dataclass(frozen=True)
class Report:
    """Evaluations on one set of images: `data` is where it comes from, `split` which part of it; str() is Markdown."""

    data: str
    split: str
    class_names: tuple[str, ...]
    rows: list[Row]

    @property
    def title(self) -> str:
        count = self.rows[0].score.count
        return f"{self.data}: {count:,} {self.split} images, {len(self.class_names)} classes"

    def __str__(self) -> str:
        heading = ("run", "network", "train S", "protocol", "test Q", "views", "top-1 error (%)", "top-5 error (%)")
        rows = [
            (
                row.label,
                row.network,
                _listed(row.trained),
                row.protocol,
                _listed(row.scales),
                str(row.views),
                *_errors(row),
            )
            for row in self.rows
        ]
        return f"{self.title}\n\n{table(heading, rows)}"

    def by_class(self, row: Row) -> str:
        """A line a class of one of the rows, as Markdown."""
        rows = [
            (name, str(count), *("-" if share is None else f"{100 * share:.1f}" for share in shares))
            for name, count, *shares in row.by_class(self.class_names)
        ]
        return table(("class", "images", "recall (%)", "precision (%)"), rows)

    def as_dict(self) -> dict:
        """Everything as numbers, strings, lists and dicts."""
        return {
            "data": self.data,
            "split": self.split,
            "class_names": list(self.class_names),
            "rows": [
                {
                    **{name: list(getattr(row, name)) for name in ("runs", "trained", "scales")},
                    **{name: getattr(row, name) for name in ("network", "protocol", "views")},
                    **{name: getattr(row.score, name) for name in ("count", "correct", "correct5", "loss")},
                    "by_class": [each._asdict() for each in row.by_class(self.class_names)],
                    "confusion": row.confusion.tolist(),
                }
                for row in self.rows
            ],
        }


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, its columns as wide as they must be; those of numbers are set right."""
    columns = list(zip(heading, *rows, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) for column in columns]

    def line(cells) -> str:
        set_right = zip(cells, widths, right, strict=True)
        return "| " + " | ".join(cell.rjust(width) if r else cell.ljust(width) for cell, width, r in set_right) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([line(heading), rule, *map(line, rows)])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _errors(row: Row) -> list[str]:
    """Top-1 and top-5 error in percent, and how many images that is."""
    count, score = row.score.count, row.score
    return [
        f"{100 * (1 - right / count):.2f} ({count - right} of {count})" for right in (score.correct, score.correct5)
    ]
