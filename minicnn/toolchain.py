"""What this machine could build and run: NVIDIA's driver, the GPUs, the CUDA compilers.

Standard library only, and no import of the rest of minicnn: the build runs this file before anything is installed.
CMake asks it which CUDA compiler to use (`python toolchain.py WISH ARCHITECTURES`), the build backend which packages to
fetch, the first start which extra to install, `minicnn doctor` what to say.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

OLDEST_NVCC = (12, 6)
OLDEST_GPU = (7, 5)

# Machine code for each generation; the last one also as PTX, which the driver compiles for GPUs that are newer still.
# That of 8.0 runs on 8.6 and 8.9, and the kernels ask for nothing that those have besides: registers, warps a scheduler
# and 48 KiB of shared memory a block are the same. 90a: the instructions that only Hopper has.
ARCHITECTURES = ("75-real", "80-real", "90a-real", "100-real", "120")

# nvcc as wheels, all of one minor version: parts of different ones refuse each other's PTX. CUDA 12 has no such wheel.
NVCC_WHEELS = tuple(f"nvidia-{part}==13.0.*" for part in ("cuda-nvcc", "nvvm", "cuda-crt", "cuda-runtime", "cuda-cccl"))

WISHES = ("auto", "off", "on", "13")

Version = tuple[int, int]


class Gpu(NamedTuple):
    name: str
    capability: Version


class CudaChoice(NamedTuple):
    """The CUDA compiler to build with; or why there is none."""

    nvcc: str = ""
    why: str = ""
    wheels: bool = False  # the compiler is, or has to come, from NVCC_WHEELS


def dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def driver() -> ctypes.CDLL | None:
    """NVIDIA's driver library. Windows keeps it for its Linux subsystem in a folder of its own."""
    for name in ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def driver_version() -> Version | None:
    """The newest CUDA that the installed driver can run, or None without a driver. Asks for no GPU."""
    library, version = driver(), ctypes.c_int(0)
    if library is None or library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10


def gpus() -> list[Gpu]:
    """The GPUs that answer; CUDA_VISIBLE_DEVICES hides some."""
    library, count = driver(), ctypes.c_int(0)
    if library is None or library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_gpu(library, index) for index in range(count.value)]


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    name = ctypes.create_string_buffer(100)
    library.cuDeviceGetName(name, len(name), index)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]))


def nvcc_version(nvcc: str) -> Version | None:
    try:
        text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"release (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def system_nvcc() -> tuple[str, Version] | None:
    """The machine's own compiler: CUDACXX, then PATH, CUDA_HOME, CUDA_PATH and the usual folders."""
    folders = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    candidates += [f"{folder}/bin/nvcc" for folder in (*folders, "/usr/local/cuda", "/opt/cuda")]
    for nvcc in filter(None, candidates):
        version = nvcc_version(nvcc)
        if version:
            return nvcc, version
    return None


def wheel_nvcc() -> str | None:
    """The compiler out of NVCC_WHEELS, where they are installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or []) if spec else []
    compilers = [path for folder in folders for path in Path(folder).glob("cu13/bin/nvcc")]
    return str(compilers[0]) if compilers else None


def choose_cuda(wish: str) -> CudaChoice:
    """Which CUDA compiler the build should use. `wish`: "auto", "off", "on" or "13" (the compiler from wheels)."""
    if wish not in WISHES:
        raise ValueError(f"MINICNN_CUDA is {wish!r}: expected one of {', '.join(WISHES)}")
    if wish == "off":
        return CudaChoice(why="minicnn was built with MINICNN_CUDA=off")
    runs = driver_version()
    if wish == "auto" and (why := _nothing_to_run_on(runs, gpus())):
        return CudaChoice(why=why)
    found = system_nvcc()
    if wish != "13" and found and found[1] >= OLDEST_NVCC and (runs is None or found[1][0] <= runs[0]):
        return CudaChoice(found[0])
    unsuitable = f"{found[0]} is release {dotted(found[1])}" if found else "no nvcc was found"
    if wish == "13" or runs is None or runs[0] >= 13:
        nvcc = wheel_nvcc()
        return CudaChoice(
            nvcc or "", "" if nvcc else f"{unsuitable}, and none was installed to build with", wheels=True
        )
    return CudaChoice(
        why=f"the driver runs CUDA {dotted(runs)} and {unsuitable}: install the CUDA toolkit, "
        f"{dotted(OLDEST_NVCC)} or a later 12.x, or a driver that runs CUDA 13"
    )


def _nothing_to_run_on(runs: Version | None, present: list[Gpu]) -> str:
    """Why nobody could run here what nvcc compiles; "" where somebody may."""
    if runs is None:
        return "no NVIDIA driver was found when minicnn was built (MINICNN_CUDA=on builds without one)"
    if present and all(gpu.capability < OLDEST_GPU for gpu in present):
        name, capability = present[0]
        return f"{name} has compute capability {dotted(capability)}: {dotted(OLDEST_GPU)} is the oldest"
    return ""


def choose_architectures(wish: str, nvcc: str, present: Iterable[Gpu]) -> tuple[str, ...]:
    """What to compile for: what was asked for; else the GPUs that are here; else all that this nvcc knows."""
    if wish:
        return tuple(re.split(r"[;, ]+", wish.strip()))
    capabilities = sorted({gpu.capability for gpu in present if gpu.capability >= OLDEST_GPU})
    if capabilities:
        return tuple(f"{major}{minor}{'a' if (major, minor) == (9, 0) else ''}-real" for major, minor in capabilities)
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(name for name in ARCHITECTURES if f"compute_{re.match(r'[0-9]+', name)[0]}" in known)


def code_options(architectures: Iterable[str]) -> tuple[str, ...]:
    """nvcc's options for names as CMake has them ("80-real": machine code; "80": PTX too), one for each PTX.

    From C++ to PTX is most of the compiler's way, and from 8.0 on all kernels have one PTX: it is made once. A name with
    a letter has instructions of its own, and so a PTX of its own.
    """
    targets: dict[str, list[str]] = {}
    for name in architectures:
        found = re.fullmatch(r"(\d+)([a-z]?)(-real|-virtual)?", name)
        if not found:
            raise ValueError(f"MINICNN_CUDA_ARCHITECTURES has {name!r}: expected names such as 80, 90a or 86-real")
        number, letter, kind = found.groups()
        base = number + letter if letter or int(number) < 80 else "80"
        kinds = {"-real": ["sm_" + number + letter], "-virtual": ["compute_" + base]}
        wanted = kinds[kind] if kind else kinds["-real"] + kinds["-virtual"]
        targets[base] = list(dict.fromkeys(targets.get(base, []) + wanted))
    return tuple(f"--generate-code=arch=compute_{base},code=[{','.join(codes)}]" for base, codes in targets.items())


def main(wish: str, architectures: str) -> None:
    """Five lines for CMake: compiler, folder of its libraries where CMake does not know it, architectures, what they are
    called for the compiler, why not."""
    choice = choose_cuda(wish)
    libraries = Path(choice.nvcc).parents[1] / "lib" if choice.nvcc and choice.wheels else ""
    targets = choose_architectures(architectures, choice.nvcc, gpus()) if choice.nvcc else ()
    print(choice.nvcc, libraries, ";".join(targets), " ".join(code_options(targets)), choice.why, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
