"""`minicnn bench`: check and time an op or a whole step against PyTorch, in a checkout."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def add(parser) -> None:
    parser.add_argument("op", metavar="OP", help="conv2d, lrn, sgd, step, ...: a benchmarks/bench_OP.py")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own options; --help lists them")


def run(arguments) -> int:
    scripts = {path.stem.removeprefix("bench_"): path for path in Path("benchmarks").glob("bench_*.py")}
    if not scripts:
        raise ValueError("there is no benchmarks/ here: bench runs in a checkout of minicnn")
    if arguments.op not in scripts:
        raise ValueError(f"there is no benchmark {arguments.op!r}: choose one of {', '.join(sorted(scripts))}")
    return subprocess.run([sys.executable, str(scripts[arguments.op]), *arguments.options]).returncode
