"""The names of kernels: in the sources, in machine code, in tables."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"


def short_name(demangled: str) -> str:
    """Without namespaces, result and parameters: "gemm_5_pipelined_kernel<128, Access 0, Operand<Along 0>>"."""
    name = demangled.removeprefix("void ").replace("(anonymous namespace)::", "").replace("minicnn::", "")
    return re.sub(r"\((\w+)\)(\d+)", r"\1 \2", name).partition("(")[0].replace("> >", ">>")


def base_name(name: str) -> str:
    """Without template arguments: as the kernel is called in its source."""
    return name.partition("<")[0]


def demangle(names: Iterable[str]) -> list[str]:
    names = list(names)
    run = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def kernels_in_sources() -> dict[str, Path]:
    """Every __global__ function of csrc/ops, csrc/gemm and csrc/device -> its file."""
    found = {}
    for folder in ("ops", "gemm", "device"):
        for path in sorted((CSRC / folder).iterdir()):
            code = re.sub(r"//.*", "", path.read_text())
            for kernel in re.findall(r"__global__[^{;]*?\b(\w+_kernel)\(", code):
                found[kernel] = path
    return found
