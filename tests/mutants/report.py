"""What a run found: a table by class, the survivors, and the same as a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from .equivalent import MOST, argument
from .rules import CLASSES, Mutant
from .run import Result

KILLED = ("killed", "killed by time")
FEWEST = 50  # faults: of fewer a score says little


@dataclasses.dataclass
class Report:
    """The outcomes of the faults that were run, by their numbers: with outputs alone, then with the detector too."""

    mutants: Sequence[Mutant]
    commit: str
    seed: str
    outputs: dict[int, Result]
    detector: dict[int, Result] | None = None

    def of_class(self, kind: str) -> list[int]:
        return [number for number in self.outputs if kind in (self.mutants[number - 1].kind, "all")]

    def equivalent(self, kind: str = "all") -> list[int]:
        return [number for number in self.of_class(kind) if argument(self.mutants[number - 1])]

    def killed_by_outputs(self, kind: str = "all") -> list[int]:
        return [number for number in self.of_class(kind) if self.outputs[number].outcome in KILLED]

    def killed(self, kind: str = "all") -> list[int]:
        """By outputs or by the detector."""
        return [number for number in self.of_class(kind) if self.final(number).outcome in KILLED]

    def survivors(self, kind: str = "all") -> list[int]:
        return sorted(set(self.of_class(kind)) - set(self.killed(kind)) - set(self.equivalent(kind)))

    def final(self, number: int) -> Result:
        result = self.outputs[number]
        if result.outcome == "survived" and self.detector:
            return self.detector.get(number, result)
        return result

    def score(self, kind: str = "all") -> float:
        """The share that was killed of those that are faults."""
        faults = set(self.of_class(kind)) - set(self.equivalent(kind))
        return len(faults & set(self.killed(kind))) / len(faults) if faults else 1.0

    def complaints(self, least: float, drawn: int = 0) -> list[str]:
        """What must not be: too few faults tried of those drawn to tell, too low a score, too many equivalent faults or
        one that was killed."""
        found = []
        if len(self.outputs) < min(FEWEST, drawn):
            found.append(f"{len(self.outputs)} of {drawn} faults were tried, at least {min(FEWEST, drawn)} must be")
        if self.score() < least:
            found.append(f"{self.score():.1%} of the faults were killed, at least {least:.0%} must be")
        if len(self.equivalent()) > MOST * max(len(self.outputs), 100):
            found.append(
                f"{len(self.equivalent())} of {len(self.outputs)} faults are called equivalent, above {MOST:.0%}"
            )
        for number in sorted(set(self.equivalent()) & set(self.killed())):
            found.append(f"{self.describe(number)} is called equivalent, but {self.final(number).by} found it")
        return found

    def describe(self, number: int) -> str:
        mutant = self.mutants[number - 1]
        return f"{mutant.file}:{mutant.line} {mutant.rule}: `{mutant.original}` -> `{mutant.faulty}`"

    def markdown(self) -> str:
        rows = [
            "| class | faults | equivalent | killed by outputs | by time | with the detector | survived | score |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for kind in (*CLASSES, "all"):
            by_time = [n for n in self.of_class(kind) if self.outputs[n].outcome == "killed by time"]
            numbers = (self.of_class(kind), self.equivalent(kind), self.killed_by_outputs(kind), by_time)
            with_detector = len(self.killed(kind)) if self.detector is not None else "-"
            cells = [kind, *map(len, numbers), with_detector, len(self.survivors(kind)), f"{self.score(kind):.1%}"]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
        survivors = [f"- {self.describe(number)}{self.remark(number)}" for number in self.survivors()]
        equivalent = [f"- {self.describe(n)}: {argument(self.mutants[n - 1])}" for n in sorted(self.equivalent())]
        heading = f"Commit {self.commit}, seed {self.seed}: {len(self.outputs)} of {len(self.mutants)} faults."
        parts = [heading, "\n".join(rows), "Survivors:", "\n".join(survivors) or "none"]
        return "\n\n".join([*parts, "Equivalent:", "\n".join(equivalent) or "none", ""])

    def remark(self, number: int) -> str:
        return " (no test reaches it)" if self.outputs[number].outcome == "not reached" else ""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mutants.md").write_text(self.markdown())
        faults = []
        for number in sorted(self.outputs):
            record = dataclasses.asdict(self.mutants[number - 1])
            del record["at"]
            outputs, final = self.outputs[number], self.final(number)
            record |= {"outputs": outputs.outcome, "outcome": final.outcome, "by": final.by, "why": final.why}
            faults.append(record | {"equivalent": argument(self.mutants[number - 1])})
        content = {"commit": self.commit, "seed": self.seed, "detector": self.detector is not None, "faults": faults}
        (folder / "mutants.json").write_text(json.dumps(content, indent=1) + "\n")
