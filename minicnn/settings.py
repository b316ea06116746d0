"""Settings: how a run trains."""

from __future__ import annotations

from dataclasses import dataclass

from minicnn import data as datasets
from minicnn.ops.precision import precision

AUGMENTATIONS = {"mirror": datasets.Augment(mirror=True), "none": datasets.Augment()}


@dataclass(frozen=True)
class Settings:
    """How a run trains: what config.json records, and what --resume goes on with."""

    epochs: int = 10
    batch_size: int = 64
    micro_batch: int | None = None  # images at a time, whose gradients add up to the batch's; None: the batch at once
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dialect: str = "torch"
    schedule: str = "linear"
    warmup_steps: int = 50
    clip_norm: float | None = 5.0
    label_smoothing: float = 0.0
    augment: str = "mirror"
    precision: str = "float32"
    digest_every: int = 50  # steps between two digests of the weights in steps.jsonl, beside those at epochs' ends
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "micro_batch", "digest_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}")
        if self.augment not in AUGMENTATIONS:
            raise ValueError(f"unknown augment {self.augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
        precision(self.precision)  # refuses an unknown one
