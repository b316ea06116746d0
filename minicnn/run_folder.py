"""The folder of one training run: recipe, settings, a line a step, a line an epoch, checkpoints, pictures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from minicnn import files

LAST, BEST = "last.safetensors", "best.safetensors"
NUMBERED = "step-{:09d}.safetensors"


class RunFolder:
    """config.json, recipe.toml, steps.jsonl, metrics.jsonl, last.safetensors, best.safetensors, curves.png, filters.png;
    where more than one checkpoint is kept also step-<n>.safetensors, of which the newest is last.safetensors too.

    Made by `RunFolder.fresh`, which never writes into an earlier run, or `RunFolder(path)` to go on with one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.last, self.best = self.path / LAST, self.path / BEST
        self.steps, self.metrics = self.path / "steps.jsonl", self.path / "metrics.jsonl"
        self.config, self.recipe = self.path / "config.json", self.path / "recipe.toml"
        self.curves, self.filters = self.path / "curves.png", self.path / "filters.png"

    @classmethod
    def fresh(cls, wanted: str | Path) -> RunFolder:
        """`wanted` if no run lives there, else wanted-2, wanted-3, ... Nothing is made before `write_config`."""
        wanted = Path(wanted)
        candidate, number = wanted, 1
        while (candidate / "config.json").exists():
            number += 1
            candidate = wanted.with_name(f"{wanted.name}-{number}")
        return cls(candidate)

    def write_config(self, config: dict, recipe: str) -> None:
        """Make the folder and record what will happen in it. OSError says what to do where it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _replace(self.recipe, recipe)
            _replace(self.config, json.dumps(config, indent=2) + "\n")  # last: it makes the folder a run
        except OSError as error:
            raise OSError(f"cannot make the run folder {self.path}: {error.strerror}; choose another (out)") from error

    def read_config(self) -> dict:
        return json.loads(self.config.read_text())

    def record_resumption(self, after_step: int, config: dict, recipe: str) -> None:
        """Add to config.json what the steps after `after_step` are made with, and make it the recipe."""
        first = self.read_config()
        resumed = [*first.get("resumed", []), {"after_step": after_step, **config}]
        _replace(self.recipe, recipe)
        _replace(self.config, json.dumps(first | {"resumed": resumed}, indent=2) + "\n")

    @staticmethod
    def append(file: Path, rows: list[dict]) -> None:
        try:
            with file.open("a") as lines:
                lines.writelines(json.dumps(row) + "\n" for row in rows)
        except OSError as error:
            raise OSError(
                f"cannot write {file}: {error.strerror}; make room there, and --resume goes on from the last checkpoint"
            ) from error

    @staticmethod
    def rows(file: Path) -> list[dict]:
        """What stands in whole lines; the end of a line that a killed process never finished is left out."""
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that the checkpoint has not seen: training will write them again. And what a process that
        was killed has left half-written."""
        files.forget_partial(self.path)
        for file in (self.steps, self.metrics):
            kept = [row for row in self.rows(file) if row["step"] <= step]
            if kept or file.exists():
                _replace(file, "".join(json.dumps(row) + "\n" for row in kept))

    def sync_rows(self) -> None:
        """The rows reach the disk before the checkpoint that they belong to."""
        for file in (self.steps, self.metrics):
            if file.exists():
                files.sync(file)

    def checkpoints(self) -> list[Path]:
        """The numbered ones, oldest first."""
        return sorted(self.path.glob(NUMBERED.format(0).replace("0" * 9, "*")))

    def keep(self, step: int, count: int) -> None:
        """Keep last.safetensors, of this step, under its number too, and of the numbered ones the `count` newest."""
        numbered = self.path / NUMBERED.format(step)
        is_there = numbered.exists() and numbered.samefile(
            self.last
        )  # to rename one name of a file to another does nothing
        if count > 1 and not is_there:
            with files.replacing(numbered) as copy:
                _link(self.last, copy)
        of_this_run = [path for path in self.checkpoints() if path.name <= numbered.name]
        for old in [*of_this_run[: -count if count > 1 else None], *self.checkpoints()[len(of_this_run) :]]:
            old.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """The same bytes under a second name; a copy where the file system has no links."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _replace(file: Path, text: str) -> None:
    """Write at once: whoever reads, also after a crash, finds the old text or the new one."""
    with files.replacing(file) as partial:
        partial.write_text(text)
