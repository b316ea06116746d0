"""What the gates look at."""

import importlib
import subprocess

import pytest
from conftest import unavailable

from gates import launches, machine_code, names
from minicnn import _build_info, backend, toolchain


@pytest.fixture(scope="session")
def emulated_device():
    why = backend.available()["emulated"]
    return unavailable("emulated", why) if why else backend.device("emulated")


@pytest.fixture(scope="session")
def checked_device():
    """The emulated device with the checked module, whatever that of this run is."""
    try:
        return backend.EmulatedDevice(importlib.import_module("minicnn._emulated_checked"))
    except ImportError:
        unavailable("checked", "minicnn._emulated_checked was not built (MINICNN_CHECKED=1)")


@pytest.fixture(scope="session")
def cuda_module():
    """The CUDA module: it can be read, and even imported, where no GPU is."""
    try:
        module = importlib.import_module("minicnn._cuda")
    except ImportError:
        unavailable("machine_code", f"minicnn has no CUDA kernels: {_build_info.cuda_why}")
    if not machine_code.find_cuobjdump():
        unavailable("machine_code", "there is no cuobjdump (nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm)")
    return module


@pytest.fixture(scope="session")
def compiled(cuda_module):
    """Every kernel of the CUDA module, for every architecture that it was built for, without its instructions."""
    file = cuda_module.__file__
    return [kernel for name in machine_code.architectures(file) for kernel in machine_code.resources(file, name)]


@pytest.fixture(scope="session")
def code(cuda_module, compiled):
    """The same with instructions, where the architecture has a PTX of its own: to read them takes the time."""
    present = {kernel.architecture for kernel in compiled}
    return machine_code.kernels(cuda_module.__file__, sorted(present & {"sm_75", "sm_80", "sm_90a"} or present))


@pytest.fixture(scope="session")
def recorded(emulated_device):
    """Every launch of launches.RUNS."""
    return [launch for run in launches.RUNS for launch in launches.record(emulated_device, run).launches]


@pytest.fixture(scope="session")
def nvcc():
    found = toolchain.system_nvcc()
    return (found[0] if found else toolchain.wheel_nvcc()) or unavailable("nvcc", "there is no nvcc to compile with")


@pytest.fixture(scope="session")
def compile_file(nvcc, tmp_path_factory):
    """A function: the kernels of a file of csrc, compiled for sm_75."""

    def compile_file(path):
        file = tmp_path_factory.mktemp("compiled") / "kernels.o"
        command = [nvcc, "-std=c++20", "-O3", "-I", names.CSRC, "-arch=sm_75", "-c", names.CSRC / path, "-o", file]
        subprocess.run(command, check=True)
        return machine_code.kernels(file)

    return compile_file


@pytest.fixture
def compile_text(nvcc, tmp_path):
    """A function: compiles this text for sm_80 or another, -> (the object file, how the compiler ended)."""

    def compile_text(text, architecture="80", launcher=()):
        (tmp_path / "fault.cu").write_text(text)
        target = f"arch=compute_{architecture},code=sm_{architecture}"
        command = [*launcher, nvcc, "-std=c++20", "-O3", "-I", names.CSRC, "-gencode", target, "-c", "fault.cu"]
        return tmp_path / "fault.o", subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return compile_text
