"""`minicnn doctor`: what this installation is, which devices it sees, and what would make it more."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from minicnn import _build_info as build
from minicnn import backend, cuda, toolchain
from minicnn.shapes import AUTOMATIC, Math
from minicnn.threads import thread_count
from minicnn.toolchain import dotted

PACKAGES = ("numpy", "pillow", "rich", "safetensors", "matplotlib", "pytest", "hypothesis", "torch")
LEVELS = {
    1: "CUDA kernels, native ones, emulated ones, NumPy",
    2: "native kernels, emulated CUDA kernels, NumPy",
    3: "NumPy alone: no kernel can be run or tested",
}


def level() -> int:
    """1: with CUDA kernels; 2: with the native and the emulated ones; 3: none."""
    return 1 if build.cuda else 2 if build.emulated else 3


def level_warning() -> str:
    """The line that every command begins with where nothing is compiled; "" elsewhere."""
    return "" if level() < 3 else f"minicnn: NumPy alone, no kernel was compiled: {build.emulated_why}\n"


def doctor() -> int:
    """Print what is here, and return the exit code."""
    print(f"minicnn {importlib.metadata.version('minicnn')}, level {level()} of 3: {LEVELS[level()]}")
    print(f"  installed in {Path(build.__file__).parent}")
    print(f"  Python {platform.python_version()} ({sys.executable}), {platform.platform()}, {os.cpu_count()} CPUs")
    print("devices")
    for name, why in backend.available().items():
        print(f"  {name:<9} {'no: ' + why if why else f'yes{computed_by(name)}'}")
    print("matrix products on a GPU, by precision")
    for name, what in numbers(toolchain.gpus()).items():
        print(f"  {name:<9} {what}")
    print("built with")
    print(f"  C++       {build.cxx_compiler or 'nothing: ' + build.emulated_why}")
    print(f"  CUDA      {built_cuda() or 'nothing: ' + build.cuda_why}")
    print("this machine now")
    for name, what in machine().items():
        print(f"  {name:<9} {what}")
    print("packages")
    print("  " + ", ".join(f"{name} {version}" for name, version in packages().items()))
    for advice in advices():
        print(f"to do: {advice}")
    return 0


def computed_by(device: str) -> str:
    """What is worth knowing of a device that is there."""
    if device != "cpu":
        return ""
    native = backend.native_module()
    kernels = f"{native.instruction_set()} kernels" if native else "NumPy"
    return f", {kernels}, {thread_count()} threads"


LEAST_CAPABILITY = {"tf32": (8, 0), "bfloat16": (8, 0), "float16": (7, 5)}  # whose tensor cores multiply such numbers


def numbers(gpus) -> dict[str, str]:
    """What each precision of train() means on the kernels, here."""
    said = {"float32": "by float32 arithmetic"}
    if AUTOMATIC.math is Math.tf32x3:
        said["float32"] = "on tensor cores, three TF32 products each, to float32's accuracy (MINICNN_MATH=tf32x3)"
    elif AUTOMATIC.math is Math.tf32:
        said["float32"] = "on tensor cores, rounded to TF32's 11 bits: not to float32's accuracy (MINICNN_MATH=tf32)"
    for name, least in LEAST_CAPABILITY.items():
        lacking = [gpu.name for gpu in gpus if gpu.capability < least]
        said[name] = f"on tensor cores, compute capability {dotted(least)} on" + (
            f"; not on {', '.join(lacking)}" if lacking else ""
        )
    return said


def built_cuda() -> str:
    return f"{build.cuda_compiler}, for {build.cuda_architectures}" if build.cuda else ""


def machine() -> dict[str, str]:
    """Driver, GPUs and compilers that are there now."""
    runs, nvcc = toolchain.driver_version(), toolchain.system_nvcc()
    gpus = [f"{gpu.name} ({dotted(gpu.capability)})" for gpu in toolchain.gpus()]
    return {
        "driver": f"runs CUDA {dotted(runs)}" if runs else "no NVIDIA driver",
        "GPUs": ", ".join(gpus) or "none",
        "nvcc": f"{dotted(nvcc[1])} ({nvcc[0]})" if nvcc else "none",
        "C++": cxx() or "none",
    }


def cxx() -> str:
    candidates = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next(filter(None, map(shutil.which, filter(None, candidates))), "")


def packages() -> dict[str, str]:
    """The packages that matter, with their versions; every CuPy by its full name."""
    here = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    names = [*PACKAGES, *sorted(name for name in here if name.startswith("cupy"))]
    return {name: here[name] for name in names if name in here}


def advices() -> list[str]:
    """What to do so that this installation becomes more than it is."""
    if not build.emulated:
        return [f"compile the kernels ({build.emulated_why}), then: {cuda.REINSTALL}"]
    if not build.cuda and toolchain.gpus():
        choice = toolchain.choose_cuda("auto")
        return [f"compile the kernels for this GPU: {choice.why or 'a CUDA compiler is here now'}; {cuda.REINSTALL}"]
    return []
