"""Devices: who owns memory and who computes. The only importer of CuPy and of the compiled kernel modules.

"numpy"     the reference: every op's forward_numpy / backward_numpy
"cpu"       the native kernels, for the best instruction set that this processor has, in float32; the reference for the
            other dtypes, and where nothing was compiled
"emulated"  the CUDA kernels, run on the CPU; with MINICNN_EMULATED=checked, under a detector of races
"cuda"      the CUDA kernels, run on a GPU; "cuda:1" is the second one
"""

from __future__ import annotations

import functools
import importlib
import os

from minicnn import _build_info, cuda
from minicnn.backend.device import Device
from minicnn.backend.emulated import EmulatedDevice
from minicnn.backend.gpu import CudaDevice
from minicnn.backend.host import HostDevice, NativeDevice
from minicnn.errors import DeviceError
from minicnn.host_memory import host_pool


def available() -> dict[str, str]:
    """Every device's name -> "" where it can be used, else the reason why not."""
    return {
        "numpy": "",
        "cpu": "",
        "emulated": "" if _module(emulated_module()) else _why_no_module(emulated_module()),
        "cuda": cuda.why_unavailable(),
    }


def _module(name: str):
    try:
        return importlib.import_module(f"minicnn.{name}")
    except ImportError:
        return None


@functools.cache
def native_module():
    """The module of native kernels for the best instruction set of this processor; None where nothing was compiled.

    The environment variable MINICNN_INSTRUCTIONS may ask for a lesser set: "avx2", "baseline". Raises DeviceError where
    it asks for one that this processor or this installation does not have.
    """
    baseline = _module("_native_baseline")
    if baseline is None:
        return None
    sets = [name for name in baseline.instruction_sets() if _module(f"_native_{name}")]
    wanted = os.environ.get("MINICNN_INSTRUCTIONS") or sets[0]
    if wanted not in sets:
        raise DeviceError(f"MINICNN_INSTRUCTIONS={wanted}: this processor runs {', '.join(sets)}")
    return _module(f"_native_{wanted}")


def emulated_module() -> str:
    """The compiled module of device "emulated": the environment variable MINICNN_EMULATED may ask for the checked one."""
    return "_emulated_checked" if os.environ.get("MINICNN_EMULATED") == "checked" else "_emulated"


def _why_no_module(name: str) -> str:
    why = _build_info.emulated_why or "it is compiled where MINICNN_CHECKED=1 is set for the installation"
    return f"this installation has no compiled module minicnn.{name}: {why}"


def device(name: str | Device = "cpu") -> Device:
    """The device of that name, one object each. "auto": "cuda" where a GPU answers, else "cpu".

    Raises DeviceError with the reason where the device is not there, ValueError for a name that is none.
    """
    if isinstance(name, Device):
        return name
    if name == "auto":
        name = "cuda" if cuda.is_available() else "cpu"
    return _device("cuda:0" if name == "cuda" else name)


@functools.cache
def _device(name: str) -> Device:
    if name == "cpu" and native_module():
        return NativeDevice(native_module())
    if name in ("numpy", "cpu"):
        return HostDevice(name, host_pool())
    if name == "emulated":
        module = _module(emulated_module())
        if module is None:
            raise DeviceError(f"device 'emulated' cannot be used: {_why_no_module(emulated_module())}")
        return EmulatedDevice(module)
    kind, _, index = name.partition(":")
    if kind == "cuda" and index.isdigit():
        why = cuda.why_unavailable()
        if why:
            raise DeviceError(f"device 'cuda' cannot be used: {why}; device='cpu' trains here")
        return CudaDevice(int(index), _module("_cuda"))
    raise ValueError(
        f"unknown device {name!r}: choose one of 'numpy', 'cpu', 'emulated', 'cuda', 'cuda:<index>', 'auto'"
    )
