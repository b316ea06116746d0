"""The machine code of a CUDA module, as cuobjdump lists it: instructions, loops, registers, of every kernel.

cuobjdump comes from the CUDA toolkit or from nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm (pyproject.toml: dev).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .names import base_name, demangle, short_name

LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", re.M)
USAGE = re.compile(r"Function (\S+):\s*\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str  # with its suffixes: LDG.E.128
    operands: str

    @property
    def name(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def is_wide(self) -> bool:
        """Moves 16 bytes."""
        return ".128" in self.opcode


@dataclass(frozen=True)
class Kernel:
    """One instance of a kernel for one architecture. Bytes of `stack` and `local` are memory that registers lack."""

    name: str
    architecture: str
    registers: int
    stack: int
    local: int
    instructions: tuple[Instruction, ...]

    @property
    def base(self) -> str:
        return base_name(self.name)

    def count(self, *names: str, wide: bool = False) -> int:
        return sum(i.name in names and (i.is_wide or not wide) for i in self.instructions)

    def loops(self) -> Iterator[tuple[Instruction, ...]]:
        """The code between each jump backwards and its target."""
        for jump in self.instructions:
            target = re.search(r"0x([0-9a-f]+)$", jump.operands) if jump.name == "BRA" else None
            if target and int(target[1], 16) < jump.address:
                yield tuple(i for i in self.instructions if int(target[1], 16) <= i.address <= jump.address)

    def share_of(self, name: str) -> float:
        """Of the instructions of the loop that has most of that name, how many are of it: a bound, no speed."""
        loop = max(self.loops(), key=lambda loop: Counter(i.name for i in loop)[name], default=())
        return sum(i.name == name for i in loop) / len(loop) if loop else 0.0


def find_cuobjdump() -> str | None:
    """Of the wheels where they are installed, else of the toolkit on PATH or where that usually is."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder, "cu13/bin") for folder in (spec and spec.submodule_search_locations) or ()]
    for folder in (*folders, None, Path("/usr/local/cuda/bin")):
        found = shutil.which("cuobjdump", path=folder and str(folder))
        if found:
            return found
    return None


def architectures(file: Path) -> tuple[str, ...]:
    """Those that the module or object has machine code for: ("sm_80", "sm_90a")."""
    return tuple(sorted(set(re.findall(r"\.(sm_\w+)\.cubin", _list("-lelf", file)))))


def resources(file: Path, architecture: str) -> list[Kernel]:
    """Every kernel in a module or object for one architecture, without its instructions: what it takes of a processor."""
    found = USAGE.findall(_list("-res-usage", file, architecture))
    return [
        Kernel(short_name(name), architecture, int(registers), int(stack), int(local), ())
        for name, (_, registers, stack, _, local) in zip(demangle(row[0] for row in found), found, strict=True)
    ]


def kernels(file: Path, among: Iterable[str] | None = None) -> list[Kernel]:
    """Every kernel in a module or object, for every architecture that it has machine code for, or for those `among` them."""
    return [kernel for architecture in among or architectures(file) for kernel in _kernels(file, architecture)]


def _kernels(file: Path, architecture: str) -> list[Kernel]:
    parts = re.split(r"\n\s*Function : (\S+)\n", _list("-sass", file, architecture))
    codes = dict(zip(map(short_name, demangle(parts[1::2])), parts[2::2], strict=True))
    return [
        replace(
            kernel,
            instructions=tuple(
                Instruction(int(address, 16), opcode, operands)
                for address, _, opcode, operands in LINE.findall(codes[kernel.name])
            ),
        )
        for kernel in resources(file, architecture)
    ]


def _list(option: str, file: Path, architecture: str = "") -> str:
    command = [find_cuobjdump(), *(("-arch", architecture) if architecture else ()), option, str(file)]
    # Both streams: where the kernels have no debug information, it says so on the second.
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
