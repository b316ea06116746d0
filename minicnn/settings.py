"""Settings: how a run trains."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from minicnn.data import Augment
from minicnn.names import check_known
from minicnn.ops.precision import precision
from minicnn.step import check_step_in_backward

AUGMENTATIONS = {"mirror": Augment(mirror=True), "none": Augment()}
OPTIMIZERS = ("sgd", "adam")
LEAST = {"epochs": 1, "batch_size": 1, "micro_batch": 1, "digest_every": 1, "save_every": 1, "keep": 1, "patience": 0}
KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool, "tuple": (tuple, list), "dict": dict}
KINDS["None"] = type(None)


@dataclass(frozen=True)
class Settings:
    """How a run trains: what config.json and recipe.toml record, and what --resume goes on with.

    Where None stands for "without", False means the same: TOML has no None. ValueError for a value that means nothing.
    """

    epochs: int = 10
    batch_size: int = 64
    micro_batch: int | None = None  # images at a time, whose gradients add up to the batch's; None: the batch at once
    lr: float = 0.02
    optimizer: str = "sgd"  # or "adam", with betas and eps
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dialect: str = "torch"
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    multipliers: dict = field(
        default_factory=dict
    )  # {"*.bias": {"lr": 2.0, "decay": 0.0}}: of two that match, the later
    schedule: str = "linear"
    warmup_steps: int = 50
    milestones: tuple = (0.5, 0.75)  # of schedule "step": parts of the run after which the rate drops
    drop: float = 0.1  # what schedules "step" and "plateau" multiply the rate by
    patience: int = 3  # of schedule "plateau": epochs without progress that it bears
    clip_norm: float | None = 5.0
    label_smoothing: float = 0.0
    ema: float | None = None  # decay of the average of the weights that is evaluated and saved; None: the weights are
    augment: str | dict = "mirror"  # or "none", or the fields of data.Augment
    precision: str = "float32"
    step_in_backward: bool = False  # SGD moves a fully connected layer's weight in place of writing its gradient
    digest_every: int = 50  # steps between two digests of the weights in steps.jsonl, beside those at epochs' ends
    save_every: int | None = None  # steps between two checkpoints inside an epoch, beside those at epochs' ends
    keep: int = 1  # checkpoints that are kept: the last one, and as step-<n>.safetensors those before it
    seed: int = 0

    def __post_init__(self):
        for setting in dataclasses.fields(self):
            kinds = setting.type.split(" | ")
            if getattr(self, setting.name) is False and "None" in kinds:
                object.__setattr__(self, setting.name, None)
            value = getattr(self, setting.name)
            if isinstance(value, bool) != (kinds == ["bool"]) or not any(isinstance(value, KINDS[k]) for k in kinds):
                raise ValueError(f"{setting.name} must be {' or '.join(kinds)}, got {value!r}")
            if kinds == ["tuple"]:
                object.__setattr__(self, setting.name, tuple(value))
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {self.ema}")
        check_known([self.optimizer], OPTIMIZERS, "optimizer")
        for pattern, multiplier in self.multipliers.items():
            if not isinstance(multiplier, dict) or not multiplier.keys() <= {"lr", "decay"}:
                raise ValueError(f"multipliers: {pattern!r} must be a table of lr and decay, got {multiplier!r}")
        self.augmentation  # noqa: B018  (refuses what is none)
        precision(self.precision)  # refuses an unknown one
        if self.step_in_backward:
            check_step_in_backward(self.optimizer, self.clip_norm, self.micro_batch, self.precision)

    @property
    def augmentation(self) -> Augment:
        """What `augment` names or spells out."""
        if isinstance(self.augment, str):
            check_known([self.augment], AUGMENTATIONS, "augment")
            return AUGMENTATIONS[self.augment]
        check_known(self.augment, Augment.__dataclass_fields__, "field of augment")
        return Augment(**{name: tuple(v) if isinstance(v, list) else v for name, v in self.augment.items()})
