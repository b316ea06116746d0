"""Learning rates over a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

NAMES = ("linear", "cosine", "step", "plateau")


@dataclass
class Schedule:
    """The learning rate at each step of `total_steps`.

    linear    falls in a straight line to 0
    cosine    falls along half a cosine to 0
    step      is multiplied by `drop` after each of the `milestones`, parts of the run in (0, 1)
    plateau   is multiplied by `drop` when the validation error has not fallen for more than `patience` epochs, three times
              at most (Krizhevsky et al. 2012, section 5)

    Over the first `warmup_steps` it rises from 0 in a straight line. Raises ValueError for another name, a milestone outside
    the run and a drop that is none.
    """

    name: str
    lr: float
    total_steps: int
    warmup_steps: int = 0
    patience: int = 3
    milestones: tuple[float, ...] = (0.5, 0.75)
    drop: float = 0.1
    drops: int = 0
    best_error: float = math.inf
    epochs_without_progress: int = 0

    def __post_init__(self):
        if self.name not in NAMES:
            raise ValueError(f"unknown schedule {self.name!r}: choose one of {', '.join(NAMES)}")
        for milestone in self.milestones:
            if not 0 < milestone < 1:
                raise ValueError(f"milestones are parts of the run, between 0 and 1, got {milestone}")
        if not 0 < self.drop <= 1:
            raise ValueError(f"drop, what the learning rate is multiplied by, must lie in (0, 1], got {self.drop}")

    def at(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        progress = step / max(self.total_steps, 1)
        factor = {
            "linear": 1 - progress,
            "cosine": (1 + math.cos(math.pi * progress)) / 2,
            "step": self.drop ** sum(progress >= milestone for milestone in self.milestones),
            "plateau": self.drop**self.drops,
        }[self.name]
        return self.lr * factor * min(1.0, (step + 1) / max(self.warmup_steps, 1))

    def epoch_ended(self, error: float) -> None:
        """Tell the plateau rule this epoch's validation error."""
        if error < self.best_error:
            self.best_error, self.epochs_without_progress = error, 0
            return
        self.epochs_without_progress += 1
        if self.epochs_without_progress > self.patience and self.drops < 3:
            self.drops, self.epochs_without_progress = self.drops + 1, 0
