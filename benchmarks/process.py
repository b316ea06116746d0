"""A contender of a race between processes, as contender.py is, from the side of those who ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


class Process:
    """A process of contender.py: `kind` as it takes them."""

    def __init__(self, kind: str, network: str, batch: int, environment: dict[str, str]):
        command = [sys.executable, str(Path(__file__).with_name("contender.py")), kind, network, str(batch)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=os.environ | environment, **pipes)

    def ask(self, question: str):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self.process.args)} ended without an answer to {question!r}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def threads_of(count: int) -> dict[str, str]:
    return {"MINICNN_THREADS": str(count), "OMP_NUM_THREADS": str(count)}
