"""Two training runs side by side: equal to the byte, or where they part first and what may be the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import checkpoint
from minicnn.digests import digest
from minicnn.run_folder import LAST, RunFolder

TIMES = ("images_per_second", "data_wait", "seconds")  # of metrics.jsonl; nothing else may differ
ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """`what` (a quantity, or the digest of a parameter) is `values[0]` in one run and `values[1]` in the other."""

    where: str
    what: str
    values: tuple

    def __str__(self) -> str:
        return f"{self.where}, {self.what}: {self.values[0]} against {self.values[1]}"


class Run:
    """What a run folder has recorded so far. ValueError where it is none, or damaged."""

    def __init__(self, path: str | Path):
        self.folder = RunFolder(path)
        if not self.folder.config.is_file():
            raise ValueError(f"{path} is no run folder: it has no config.json; name one that minicnn train has made")
        try:
            self.config = self.folder.read_config()
            self.steps = {row["step"]: row for row in self.folder.rows(self.folder.steps)}
            self.epochs = {row["step"]: row for row in self.folder.rows(self.folder.metrics)}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__} in a .json or .jsonl file: {error}") from error
        if not self.steps:
            raise ValueError(f"{path} has nothing to compare: its steps.jsonl has no step")
        self.weights = checkpoint.read(self.folder.last)[0] if self.folder.last.exists() else {}

    def circumstances(self) -> dict[str, str]:
        """Every entry of config.json, as "settings.seed"; where a resumed run went on with others, one after another."""
        sittings = [_flat(sitting) for sitting in (self.config, *self.config.get("resumed", []))]
        return {
            name: ", then ".join(dict.fromkeys(str(sitting[name]) for sitting in sittings if name in sitting))
            for name in sittings[0]
        }


@dataclass(frozen=True)
class Comparison:
    """`differences` in the order of time: the first is where the runs part, the others may follow from it."""

    runs: tuple[Run, Run]
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        one, other = self.runs
        names = f"{one.folder.path} and {other.folder.path}"
        if self.equal:
            weights = f", {LAST} to the byte" if one.weights else ""
            return f"{names} are equal: {len(one.steps)} steps, {len(one.epochs)} epochs{weights}"
        lines = [f"{names} differ first at {self.differences[0]}", *self._about_weights(), self._about_losses()]
        return "\n".join([*lines, *self._about_circumstances()])

    def _about_weights(self) -> Iterator[str]:
        """Which digests frame the difference: steps.jsonl holds some of the steps' only."""
        one, other = self.runs
        equal_at = None
        for step in sorted(_with_digest(one) & _with_digest(other)):
            differ = _differing(one.steps[step]["digest"], other.steps[step]["digest"])
            if differ:
                name, total = differ[0], len(one.steps[step]["digest"] | other.steps[step]["digest"])
                since = f"equal after step {equal_at}; " if equal_at else ""
                yield f"weights: {since}after step {step}, {len(differ)} of {total} parameters and buffers differ, {name} first"
                if step > (equal_at or 0) + 1:
                    yield "         --digest-every 1 on both runs names the step and the parameter where that begins"
                return
            equal_at = step
        yield f"weights: equal after step {equal_at}" if equal_at else "weights: no step has digests in both runs"

    def _about_losses(self) -> str:
        one, other = self.runs
        steps = sorted(one.steps.keys() & other.steps.keys())
        losses = np.array([[run.steps[step]["loss"] for step in steps] for run in self.runs])
        apart = np.abs(losses[0] - losses[1]) / np.maximum(np.abs(losses).max(axis=0), np.finfo(np.float64).tiny)
        worst = int(apart.argmax())
        return f"losses:  at most {apart[worst]:.1e} of the loss apart (step {steps[worst]} of the {len(steps)} that both have)"

    def _about_circumstances(self) -> Iterator[str]:
        one, other = (run.circumstances() for run in self.runs)
        names = _differing(one, other)
        for name in names:
            yield f"look at: {name}, {one.get(name, ABSENT)} against {other.get(name, ABSENT)}"
        if not names:
            yield "look at: the image files, the code and the machine; config.json says the same of both runs"


def compare(one: str | Path, other: str | Path) -> Comparison:
    """Compare two run folders: every step's learning rate, loss and digests, every epoch's figures but the times, and
    the last checkpoint. Raises ValueError where one is no run folder, CheckpointError where its checkpoint is damaged.
    """
    runs = Run(one), Run(other)
    return Comparison(runs, tuple(_differences(*runs)))


def _differences(one: Run, other: Run) -> Iterator[Difference]:
    """In the order of time; the loss of a step is that of the weights before it, the digest that of those after it."""
    for step in sorted(one.steps.keys() & other.steps.keys()):
        yield from _in_rows(f"step {step}", one.steps[step], other.steps[step], ("lr", "loss"))
        if step in _with_digest(one) & _with_digest(other):
            yield from _in_rows(f"step {step}", one.steps[step]["digest"], other.steps[step]["digest"])
        if step in one.epochs and step in other.epochs:
            names = [name for name in one.epochs[step] | other.epochs[step] if name not in TIMES]
            yield from _in_rows(f"step {step}, the end of an epoch", one.epochs[step], other.epochs[step], names)
    for what in ("steps", "epochs"):
        rows = getattr(one, what), getattr(other, what)
        if rows[0].keys() != rows[1].keys():
            yield Difference("the end", f"number of {what}", (len(rows[0]), len(rows[1])))
            return
    yield from _in_rows(LAST, *({name: digest(array) for name, array in run.weights.items()} for run in (one, other)))


def _in_rows(where: str, one: dict, other: dict, names=None) -> Iterator[Difference]:
    for name in _differing(one, other):
        if names is None or name in names:
            yield Difference(where, name, (one.get(name, ABSENT), other.get(name, ABSENT)))


def _differing(one: dict, other: dict) -> list[str]:
    return [name for name in one | other if one.get(name, ABSENT) != other.get(name, ABSENT)]


def _with_digest(run: Run) -> set[int]:
    return {step for step, row in run.steps.items() if "digest" in row}


def _flat(entries: dict, prefix: str = "") -> dict:
    """{"settings": {"seed": 0}} -> {"settings.seed": 0}"""
    flat = {}
    for name, value in entries.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif name != "resumed":
            flat[prefix + name] = value
    return flat
