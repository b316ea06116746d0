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
    step      is divided by 10 after a half and after three quarters of the steps
    plateau   is divided by 10 when the validation error has not fallen for `patience` epochs, three times at most
              (Krizhevsky et al. 2012, section 5)

    Over the first `warmup_steps` it rises from 0 in a straight line. Raises ValueError for another name.
    """

    name: str
    lr: float
    total_steps: int
    warmup_steps: int = 0
    patience: int = 3
    drops: int = 0
    best_error: float = math.inf
    epochs_without_progress: int = 0

    def __post_init__(self):
        if self.name not in NAMES:
            raise ValueError(f"unknown schedule {self.name!r}: choose one of {', '.join(NAMES)}")

    def at(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        progress = step / max(self.total_steps, 1)
        factor = {
            "linear": 1 - progress,
            "cosine": (1 + math.cos(math.pi * progress)) / 2,
            "step": 0.1 ** ((progress >= 0.5) + (progress >= 0.75)),
            "plateau": 0.1**self.drops,
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
