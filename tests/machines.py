"""Stand-ins for what an installation finds on a machine: a driver with its GPUs, and programs."""

import stat
from pathlib import Path

from minicnn.toolchain import Gpu

H100 = Gpu("NVIDIA H100", (9, 0))
A100 = Gpu("NVIDIA A100", (8, 0))
GTX_1080 = Gpu("NVIDIA GeForce GTX 1080", (6, 1))


class Driver:
    """The functions of libcuda that are asked, answered for a machine with these GPUs."""

    def __init__(self, version: int, gpus=()):
        self.version, self.gpus = version, gpus

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuInit(self, flags):
        return 0 if self.gpus else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGetName(self, name, size, index):
        name.value = self.gpus[index].name.encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, index):
        value._obj.value = self.gpus[index].capability[attribute - 75]
        return 0


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
