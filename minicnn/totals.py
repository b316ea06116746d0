"""What the steps of an epoch add up to, and their rows of steps.jsonl."""

from __future__ import annotations

import math

from minicnn.errors import TrainingError


class Totals:
    """Sums over the steps of an epoch; what a GPU has not finished yet is read later, some steps at a time."""

    def __init__(self, images: int = 0, loss: float = 0.0, correct: int = 0):
        self.images, self.loss, self.correct = images, loss, correct
        self.unread: list[tuple] = []

    def add(self, row: dict, parts: list) -> None:
        """A step's row, and what each slice of its batch left: (mean loss, logits, labels)."""
        self.unread.append((row, parts))

    def read(self) -> list[dict]:
        """Fold in what was added since the last call: its rows, with loss and top-1 accuracy. TrainingError where the loss
        is not finite."""
        rows = []
        for row, parts in self.unread:
            images = sum(len(labels) for _, _, labels in parts)
            value = sum(loss.item() * len(labels) for loss, _, labels in parts) / images
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} at step {row['step']} (learning rate {row['lr']:.3g}): "
                    "lower lr, lengthen warmup_steps or set clip_norm"
                )
            self.images += images
            self.loss += value * images
            correct = sum(int((logits.numpy().argmax(axis=1) == labels).sum()) for _, logits, labels in parts)
            self.correct += correct
            rows.append({"step": row["step"], "loss": value, "top1": correct / images} | row)
        self.unread.clear()
        return rows

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.images, 1)

    @property
    def top1(self) -> float:
        return self.correct / max(self.images, 1)
