"""LossScale: keeps small gradients above the smallest float16."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class LossScale:
    """The loss is multiplied by `value` before backward(), the gradients divided by it before they move anything.

    A step whose gradients are not finite is left out and halves the value; it doubles after `patience` steps without.

    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.2; the rule is that of PyTorch's GradScaler.
    """

    value: float = 65536.0
    good_steps: int = 0  # since the value last changed
    patience: int = 2000

    def accept(self, norm: float) -> bool:
        """Whether gradients of this norm may move the weights; looks ahead to the next step's value."""
        if not math.isfinite(norm):
            self.value, self.good_steps = max(self.value / 2, 1.0), 0
            return False
        self.good_steps += 1
        if self.good_steps == self.patience:
            self.value, self.good_steps = self.value * 2, 0
        return True
