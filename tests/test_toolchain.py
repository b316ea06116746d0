"""What is built and what runs: the driver, the choice of a CUDA compiler, the reasons why there is no CUDA, the levels."""

import ctypes
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from machines import A100, GTX_1080, H100, Driver, program

import minicnn
from minicnn import _build_info, cuda, doctor, toolchain
from minicnn.shapes import Math, Schedule

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def machine(monkeypatch):
    """machine(driver=None, nvcc=None, wheel=None): what this machine has from now on."""

    def has(driver=None, nvcc=None, wheel=None):
        monkeypatch.setattr(toolchain, "driver", lambda: driver)
        monkeypatch.setattr(toolchain, "system_nvcc", lambda: nvcc and ("/usr/bin/nvcc", nvcc))
        monkeypatch.setattr(toolchain, "wheel_nvcc", lambda: wheel)

    return has


@pytest.fixture
def built(monkeypatch):
    """built(cuda="13.0.88", architectures="80-real,90a-real"): what was compiled into this installation."""

    def info(cuda_version="", architectures="", emulated=True, why="no reason"):
        build = SimpleNamespace(
            cuda=bool(cuda_version),
            cuda_version=cuda_version,
            cuda_why="" if cuda_version else why,
            cuda_architectures=architectures,
            emulated=emulated,
            emulated_why="" if emulated else why,
        )
        monkeypatch.setattr(cuda, "build", build)
        monkeypatch.setattr(doctor, "build", build)

    return info


# The driver


def test_driver_version_and_gpus_are_read_from_libcuda(machine):
    machine(driver=Driver(12080, [H100, A100]))
    assert toolchain.driver_version() == (12, 8)
    assert toolchain.gpus() == [H100, A100]


def test_without_driver_there_is_no_version_and_no_gpu(machine):
    machine()
    assert toolchain.driver_version() is None
    assert toolchain.gpus() == []


def test_driver_without_gpu(machine):
    machine(driver=Driver(13000))
    assert toolchain.driver_version() == (13, 0)
    assert toolchain.gpus() == []


def test_the_subsystem_for_linux_keeps_libcuda_elsewhere(monkeypatch):
    def load(name):
        if name.startswith("/usr/lib/wsl"):
            return "wsl"
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert toolchain.driver() == "wsl"


# The CUDA compiler

SYSTEM, WHEELS = "system", "wheels"
CUDA_CHOICES = {
    "off": ("off", 13000, (13, 0), ("", "minicnn was built with MINICNN_CUDA=off")),
    "no driver": ("auto", None, (13, 0), ("", "no NVIDIA driver was found")),
    "no driver, but asked for": ("on", None, (12, 6), (SYSTEM, "")),
    "no driver, no nvcc, but asked for": ("on", None, None, (WHEELS, "")),
    "nvcc as new as the driver": ("auto", 13000, (13, 0), (SYSTEM, "")),
    "nvcc of a later minor version": ("auto", 12060, (12, 9), (SYSTEM, "")),
    "nvcc 12 under a driver for 13": ("auto", 13000, (12, 6), (SYSTEM, "")),
    "nvcc just too old, driver for 13": ("auto", 13000, (12, 5), (WHEELS, "")),
    "no nvcc, driver for 13": ("auto", 13000, None, (WHEELS, "")),
    "no nvcc, driver for 12": ("auto", 12080, None, ("", "the driver runs CUDA 12.8 and no nvcc was found")),
    "nvcc 13 under a driver for 12": ("auto", 12080, (13, 0), ("", "/usr/bin/nvcc is release 13.0")),
    "wheels asked for": ("13", None, (12, 9), (WHEELS, "")),
}


@pytest.mark.parametrize("wish, driver, nvcc, expected", CUDA_CHOICES.values(), ids=CUDA_CHOICES)
def test_choice_of_the_cuda_compiler(machine, wish, driver, nvcc, expected):
    machine(driver=driver and Driver(driver), nvcc=nvcc, wheel="/wheels/cu13/bin/nvcc")
    choice = toolchain.choose_cuda(wish)
    assert choice.nvcc == {SYSTEM: "/usr/bin/nvcc", WHEELS: "/wheels/cu13/bin/nvcc", "": ""}[expected[0]]
    assert choice.wheels == (expected[0] == WHEELS)
    assert choice.why.startswith(expected[1]) if expected[1].startswith("no ") else expected[1] in choice.why
    assert bool(choice.nvcc) != bool(choice.why)


def test_wheels_that_are_wanted_but_not_there_are_asked_for(machine):
    machine(driver=Driver(13000))
    choice = toolchain.choose_cuda("auto")
    assert (choice.nvcc, choice.wheels) == ("", True)
    assert choice.why == "no nvcc was found, and none was installed to build with"


def test_gpus_that_are_all_too_old_get_no_compiler(machine):
    machine(driver=Driver(12080, [GTX_1080]), nvcc=(12, 8))
    choice = toolchain.choose_cuda("auto")
    assert choice == toolchain.CudaChoice(why="NVIDIA GeForce GTX 1080 has compute capability 6.1: 7.5 is the oldest")
    machine(driver=Driver(12080, [GTX_1080, A100]), nvcc=(12, 8))
    assert toolchain.choose_cuda("auto").nvcc == "/usr/bin/nvcc"


def test_unknown_wish_is_refused():
    with pytest.raises(ValueError, match="MINICNN_CUDA is 'yes': expected one of auto, off, on, 13"):
        toolchain.choose_cuda("yes")


def test_nvcc_version_of_a_compiler_a_broken_one_and_none(tmp_path):
    nvcc = program(tmp_path / "nvcc", "echo 'Cuda compilation tools, release 12.6, V12.6.20'")
    assert toolchain.nvcc_version(nvcc) == (12, 6)
    assert toolchain.nvcc_version(program(tmp_path / "broken", "exit 1")) is None
    assert toolchain.nvcc_version(str(tmp_path / "missing")) is None


def test_system_nvcc_is_cudacxx_first_then_the_path(tmp_path, monkeypatch):
    for name, release in (("nvcc", "12.6"), ("nvcc-13", "13.0")):
        program(tmp_path / name, f"echo 'release {release}, V{release}.1'")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDACXX", raising=False)
    assert toolchain.system_nvcc() == (str(tmp_path / "nvcc"), (12, 6))
    monkeypatch.setenv("CUDACXX", str(tmp_path / "nvcc-13"))
    assert toolchain.system_nvcc() == (str(tmp_path / "nvcc-13"), (13, 0))


def test_architectures_asked_for_present_or_all_that_nvcc_knows(tmp_path):
    nvcc = program(tmp_path / "nvcc", "echo compute_75; echo compute_80; echo compute_90")
    assert toolchain.choose_architectures("80, 90a", nvcc, [H100]) == ("80", "90a")
    assert toolchain.choose_architectures("80;90a", nvcc, [H100]) == ("80", "90a")
    assert toolchain.choose_architectures("", nvcc, [H100, A100, H100]) == ("80-real", "90a-real")
    assert toolchain.choose_architectures("", nvcc, [GTX_1080, A100]) == ("80-real",)
    assert toolchain.choose_architectures("", nvcc, []) == ("75-real", "80-real", "90a-real")


# Why not CUDA


def why() -> str:
    return cuda.why_unavailable.__wrapped__()


def test_why_the_first_reason_is_that_no_kernel_was_built(machine, built):
    built(why="no nvcc was found")
    machine(driver=Driver(13000, [H100]))
    assert why() == "minicnn has no CUDA kernels: no nvcc was found"


def test_why_then_the_driver(machine, built):
    built("13.0.88", "90a-real")
    machine()
    assert why() == "no NVIDIA driver: libcuda.so.1 cannot be loaded"


def test_why_then_the_driver_is_older_than_the_runtime(machine, built):
    built("13.0.88", "90a-real")
    machine(driver=Driver(12080, [H100]))
    assert why().startswith("the driver runs CUDA 12.8, minicnn was built with 13.0.88: ")


def test_why_then_there_is_no_gpu(machine, built):
    built("13.0.88", "90a-real")
    machine(driver=Driver(13000))
    assert why() == "the NVIDIA driver finds no GPU (is CUDA_VISIBLE_DEVICES set?)"


def test_why_then_the_gpu_is_none_that_was_compiled_for(machine, built):
    built("13.0.88", "90a-real")
    machine(driver=Driver(13000, [A100]))
    assert why().startswith("NVIDIA A100 is sm_80, the kernels were built for 90a-real: ")


@pytest.mark.parametrize("cupy", [None, "a spec"])
def test_why_last_cupy(machine, built, monkeypatch, cupy):
    built("13.0.88", "90a-real")
    machine(driver=Driver(13010, [H100]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: cupy)
    assert why() == ("" if cupy else "CuPy is not installed: pip install 'cupy-cuda13x'")


@pytest.mark.parametrize(
    "architecture, runs_on, not_on",
    [
        ("80-real", [(8, 0), (8, 6)], [(7, 5), (9, 0)]),
        ("86-real", [(8, 6), (8, 9)], [(8, 0)]),
        ("90a-real", [(9, 0)], [(8, 0), (10, 0)]),
        ("90a", [(9, 0)], [(10, 0)]),
        ("120", [(12, 0), (12, 1), (13, 0), (8, 7)], [(7, 5)]),
        ("75-virtual", [(7, 5), (9, 0)], [(7, 0)]),
    ],
)
def test_which_gpus_an_architecture_covers(architecture, runs_on, not_on):
    assert all(cuda.covers([architecture], gpu) for gpu in runs_on)
    assert not any(cuda.covers([architecture], gpu) for gpu in not_on)


def test_every_listed_architecture_covers_the_gpu_it_is_named_after():
    for architecture in toolchain.ARCHITECTURES:
        major, minor = re.match(r"(\d+)(\d)", architecture).groups()
        assert cuda.covers([architecture], (int(major), int(minor)))


# Levels


@pytest.mark.parametrize(
    "cuda_version, emulated, level",
    [("13.0.88", True, 1), ("", True, 2), ("", False, 3)],
    ids=["cuda", "cxx", "neither"],
)
def test_level(built, cuda_version, emulated, level):
    built(cuda_version, "90a-real", emulated, why="no C++ compiler was found")
    assert doctor.level() == level
    warning = "minicnn: NumPy alone, no kernel was compiled: no C++ compiler was found\n"
    assert doctor.level_warning() == (warning if level == 3 else "")


def test_advice_where_nothing_was_compiled(built):
    built(emulated=False, why="no C++ compiler was found")
    assert doctor.advices() == [f"compile the kernels (no C++ compiler was found), then: {cuda.REINSTALL}"]


def test_advice_for_a_gpu_that_lies_idle(built, machine):
    built()
    machine(driver=Driver(13000, [H100]), nvcc=(13, 0))
    assert doctor.advices() == [f"compile the kernels for this GPU: a CUDA compiler is here now; {cuda.REINSTALL}"]


def test_doctor_says_level_devices_and_why_not_cuda(capsys):
    assert doctor.doctor() == 0
    text = capsys.readouterr().out
    assert re.match(rf"minicnn {re.escape(minicnn.__version__)}, level {doctor.level()} of 3: ", text)
    for device in ("numpy", "cpu", "emulated", "cuda"):
        assert re.search(rf"^  {device} +(yes|yes, .+|no: .+)$", text, re.MULTILINE)
    assert cuda.why_unavailable() in text


def test_what_was_built_can_be_imported():
    """The CUDA module too: it needs neither a driver nor a CUDA library to be looked at."""
    for name in ("emulated", "cuda"):
        if getattr(_build_info, name):
            module = importlib.import_module(f"minicnn._{name}")
            assert module.signatures
    if _build_info.cuda:
        from minicnn import _cuda, _emulated

        assert _cuda.signatures == _emulated.signatures


def test_this_run_has_the_kernels_that_it_must_have():
    for name in filter(lambda name: name in ("emulated", "cuda"), os.environ.get("MINICNN_REQUIRE", "").split(",")):
        assert getattr(_build_info, name), getattr(_build_info, f"{name}_why")


def test_one_version():
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert minicnn.__version__ == importlib.metadata.version("minicnn") == declared


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)])
def test_the_list_has_machine_code_for_every_generation(capability):
    machine_code = [name.removesuffix("-real") + "-real" for name in toolchain.ARCHITECTURES]
    assert cuda.covers(machine_code, capability)


def test_one_ptx_for_all_from_8_0_on():
    """But for names with a letter, whose instructions are their own; PTX is kept where it was asked for."""
    assert toolchain.code_options(toolchain.ARCHITECTURES) == (
        "--generate-code=arch=compute_75,code=[sm_75]",
        "--generate-code=arch=compute_80,code=[sm_80,sm_100,sm_120,compute_80]",
        "--generate-code=arch=compute_90a,code=[sm_90a]",
    )
    assert toolchain.code_options(["80", "90a", "120"]) == (
        "--generate-code=arch=compute_80,code=[sm_80,compute_80,sm_120]",
        "--generate-code=arch=compute_90a,code=[sm_90a,compute_90a]",
    )
    assert toolchain.code_options(["86-virtual"]) == ("--generate-code=arch=compute_80,code=[compute_80]",)


def test_a_name_that_is_no_architecture():
    with pytest.raises(
        ValueError, match=r"^MINICNN_CUDA_ARCHITECTURES has 'sm_80': expected names such as 80, 90a or 86"
    ):
        toolchain.code_options(["sm_80"])


TURING, HOPPER = toolchain.Gpu("RTX 2080", (7, 5)), toolchain.Gpu("H100", (9, 0))


@pytest.mark.parametrize(
    "math, beginning",
    [
        ("float32", "by float32 arithmetic"),
        ("tf32x3", "on tensor cores, three TF32 products each, to float32's accuracy"),
        ("tf32", "on tensor cores, rounded to TF32's 11 bits: not to float32's accuracy"),
    ],
)
def test_doctor_says_what_float32_means(monkeypatch, math, beginning):
    monkeypatch.setattr(doctor, "AUTOMATIC", Schedule(math=Math[math]))
    assert doctor.numbers([])["float32"].startswith(beginning)


def test_doctor_says_which_gpu_lacks_a_precision():
    said = doctor.numbers([TURING, HOPPER])
    assert said["bfloat16"] == said["tf32"] == "on tensor cores, compute capability 8.0 on; not on RTX 2080"
    assert said["float16"] == "on tensor cores, compute capability 7.5 on"
