"""Whether the CUDA kernels can run here, and if not, why and what to do. Standard library only; asked once."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable

from minicnn import _build_info as build
from minicnn import toolchain
from minicnn.toolchain import Version, dotted

REINSTALL = "python3 -m minicnn install, or pip install --force-reinstall --no-deps ., in the checkout"


def is_available() -> bool:
    """Whether tensors can live on device "cuda"."""
    return not why_unavailable()


@functools.cache
def why_unavailable() -> str:
    """Why device "cuda" cannot be used: the first thing that is missing. "" where it can."""
    if not build.cuda:
        return f"minicnn has no CUDA kernels: {build.cuda_why}"
    runs = toolchain.driver_version()
    if runs is None:
        return "no NVIDIA driver: libcuda.so.1 cannot be loaded"
    if runs[0] < int(build.cuda_version.split(".")[0]):
        return f"the driver runs CUDA {dotted(runs)}, minicnn was built with {build.cuda_version}: {REINSTALL}"
    gpus = toolchain.gpus()
    if not gpus:
        return "the NVIDIA driver finds no GPU (is CUDA_VISIBLE_DEVICES set?)"
    name, (major, minor) = gpus[0]
    if not covers(build.cuda_architectures.split(","), (major, minor)):
        return f"{name} is sm_{major}{minor}, the kernels were built for {build.cuda_architectures}: {REINSTALL}"
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed: pip install 'cupy-cuda{build.cuda_version.split('.')[0]}x'"
    return ""


def covers(architectures: Iterable[str], capability: Version) -> bool:
    """Whether code for these architectures (CMake's spelling: 90a-real, 100-real, 120) runs on such a GPU.

    Machine code runs on its own generation, from its own minor version on; PTX on everything newer, and from 8.0 on it is
    that of 8.0 (toolchain.code_options); neither of a feature-specific target (90a) anywhere but on that very GPU.
    """
    for architecture in architectures:
        major, minor, specific, kind = re.fullmatch(r"(\d+)(\d)([af]?)(?:-(real|virtual))?", architecture).groups()
        target = (int(major), int(minor))
        if specific:
            fits = capability == target
        else:
            machine_code = kind != "virtual" and capability[0] == target[0] and capability >= target
            fits = machine_code or (kind != "real" and capability >= min(target, (8, 0)))
        if fits:
            return True
    return False
