"""The kernels with every fault in them, each behind its number: one build, in which a variable chooses the fault.

The product knows nothing of it: a copy of csrc is rewritten and built by the product's own CMake files.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

from .rules import Mutant, mutants
from .sites import Source, read

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "mutants"
MUTATED = ("csrc/ops", "csrc/gemm", "csrc/device")

HEADER = """#pragma once
#include "emulation/runtime.h"

extern "C" {
extern int minicnn_mutant;                      // the fault that is on; 0: none
extern unsigned char minicnn_mutants_reached[]; // by number: whether the place of a fault was passed
}

namespace minicnn::mutants {

MINICNN_UNSEEN inline bool is(int number) {
  minicnn_mutants_reached[number] = 1;
  return minicnn_mutant == number;
}

// Memory of the thread's own, in place of the block's.
template <class Storage>
MINICNN_UNSEEN Storage& private_memory() {
  constexpr unsigned THREADS = 1024, BYTES = 32 * 1024;
  alignas(1024) static unsigned char memory[THREADS][BYTES];
  return *reinterpret_cast<Storage*>(memory[emulation::current().linear]);
}

}  // namespace minicnn::mutants
"""
DEFINITIONS = """extern "C" {{
[[gnu::visibility("default")]] int minicnn_mutant = 0;
[[gnu::visibility("default")]] unsigned char minicnn_mutants_reached[{count}] = {{}};
}}
"""
# Small and quick to compile; a fault may well be undefined behaviour, and is what it looks like at -O1.
# What chooses the fault is hidden from the detector, which would take its memory for the kernels'.
FLAGS = {
    "_emulated": "-DMINICNN_UNSEEN=",
    "_emulated_checked": "'-DMINICNN_UNSEEN=__attribute__((noinline,no_sanitize_thread))'",
}


def all_mutants() -> list[Mutant]:
    """Every fault there is, in an order that depends on the sources alone. Number n is at [n - 1]."""
    return [mutant for source in sources() for mutant in mutants(source)]


def sources() -> list[Source]:
    """What the emulated module is compiled from, but for the emulation: no native twin, which is C++."""
    files = (path for folder in MUTATED for path in sorted((ROOT / folder).iterdir()))
    return [read(path, ROOT) for path in files if path.suffix != ".cpp"]


def rewritten(source: Source, numbered: list[tuple[int, Mutant]]) -> str:
    """The source with these faults in it, line by line where it was."""
    places = defaultdict(list)
    for number, mutant in numbered:
        places[mutant.at].append((number, mutant.faulty))
    outer_first = sorted(places, key=lambda at: (at.first, -at.last, not at.is_statement))
    before, after = defaultdict(str), defaultdict(str)
    for at in outer_first:
        wrap = "void" if at.is_statement else ""
        faulty = "".join(f"minicnn::mutants::is({number}) ? {wrap}({text}) : " for number, text in places[at])
        before[source.tokens[at.first].start] += f"({faulty}{wrap}("
        after[source.tokens[at.last - 1].end] += "))"
    cuts = sorted({0, *before, *after, len(source.text)})
    pieces = [after[begin] + before[begin] + source.text[begin:end] for begin, end in itertools.pairwise(cuts)]
    return "".join(pieces)


def write_tree(tree: Path) -> int:
    """The sources of the build; returns how many faults are in them. Files that are as they were keep their time."""
    numbered = list(enumerate(all_mutants(), 1))
    files = {source.name: rewritten(source, [m for m in numbered if m[1].file == source.name]) for source in sources()}
    files["csrc/mutants.h"] = HEADER
    files["csrc/ops/mutants.cu"] = DEFINITIONS.format(count=len(numbered) + 1)
    copied = [
        ROOT / "CMakeLists.txt",
        ROOT / "minicnn" / "toolchain.py",
        *(ROOT / "csrc").rglob("*.*"),
        *(ROOT / "tests" / "exam").glob("*.*"),
    ]
    for path in copied:
        name = str(path.relative_to(ROOT))
        if path.is_file() and name not in files:
            files[name] = path.read_text()
    for path in tree.rglob("*.*"):
        if path.is_file() and str(path.relative_to(tree)) not in files:
            path.unlink()
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return len(numbered)


def build(module: str, jobs: int) -> Path:
    """Builds `_emulated` or `_emulated_checked` with all faults in it; returns the module's file."""
    import pybind11  # of the tools of a developer: the rest of this file needs none

    tree, folder = FOLDER / "tree", FOLDER / module
    write_tree(tree)
    flags = f"-w -std=c++20 -I{tree / 'csrc'} -include {tree / 'csrc' / 'mutants.h'} {FLAGS[module]}"
    options = {
        "CMAKE_CXX_FLAGS": flags,
        "CMAKE_CXX_FLAGS_RELEASE": "-O1 -DNDEBUG",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    cmake = [sys.executable, "-m", "cmake"]
    checked = "1" if module == "_emulated_checked" else "0"
    environment = os.environ | {"MINICNN_CUDA": "off", "MINICNN_CHECKED": checked, "MINICNN_STRICT": "0"}
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    ninja = [f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja') or Path(sys.executable).with_name('ninja')}"]
    run([*cmake, "-S", str(tree), "-B", str(folder), "-G", "Ninja", *ninja, *definitions], environment)
    run([*cmake, "--build", str(folder), "--target", module, "--parallel", str(jobs)], environment)
    return next(folder.rglob(f"{module}.*.so"))


def run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nmutants: the build failed; its command was {' '.join(command)}")


class Switch:
    """The module with the faults, which minicnn takes for its own."""

    def __init__(self, path: Path, count: int):
        self.name = path.name.split(".")[0]
        spec = importlib.util.spec_from_file_location(f"minicnn.{self.name}", path)
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        library = ctypes.CDLL(str(path))
        self.chosen = ctypes.c_int.in_dll(library, "minicnn_mutant")
        self.reached = (ctypes.c_ubyte * (count + 1)).in_dll(library, "minicnn_mutants_reached")

    def install(self) -> None:
        """Before minicnn asks for its module the first time."""
        sys.modules[f"minicnn.{self.name}"] = self.module

    def choose(self, number: int) -> None:
        self.chosen.value = number

    def take_reached(self) -> frozenset[int]:
        """The faults whose places were passed since the last call."""
        numbers = frozenset(number for number, passed in enumerate(bytes(self.reached)) if passed)
        ctypes.memset(self.reached, 0, len(self.reached))
        return numbers
