"""The folder of one training run: settings, a line a step, a line an epoch, checkpoints, pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path

LAST, BEST = "last.safetensors", "best.safetensors"


class RunFolder:
    """config.json, steps.jsonl, metrics.jsonl, last.safetensors, best.safetensors, curves.png, filters.png.

    Made by `RunFolder.fresh`, which never writes into an earlier run, or `RunFolder(path)` to go on with one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.last, self.best = self.path / LAST, self.path / BEST
        self.steps, self.metrics = self.path / "steps.jsonl", self.path / "metrics.jsonl"
        self.config = self.path / "config.json"
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

    def write_config(self, config: dict) -> None:
        """Make the folder and record what will happen in it. OSError says what to do where it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _replace(self.config, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise OSError(f"cannot make the run folder {self.path}: {error.strerror}; choose another (out)") from error

    def read_config(self) -> dict:
        return json.loads(self.config.read_text())

    def record_resumption(self, after_step: int, config: dict) -> None:
        """Add to config.json what the steps after `after_step` are made with."""
        first = self.read_config()
        resumed = [*first.get("resumed", []), {"after_step": after_step, **config}]
        _replace(self.config, json.dumps(first | {"resumed": resumed}, indent=2) + "\n")

    @staticmethod
    def append(file: Path, rows: list[dict]) -> None:
        with file.open("a") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)

    @staticmethod
    def rows(file: Path) -> list[dict]:
        """What stands in whole lines; the end of a line that a killed process never finished is left out."""
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that the checkpoint has not seen: training will write them again."""
        for file in (self.steps, self.metrics):
            kept = [row for row in self.rows(file) if row["step"] <= step]
            _replace(file, "".join(json.dumps(row) + "\n" for row in kept))


def _replace(file: Path, text: str) -> None:
    """Write at once: whoever reads, also after a crash, finds the old text or the new one."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text)
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
