"""Installing: the first start, the choice of a CUDA compiler, the reasons why there is no CUDA."""

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import minicnn
from minicnn import __main__, _build_info, bootstrap, cuda, doctor, toolchain
from minicnn.toolchain import Gpu

ROOT = Path(__file__).resolve().parents[1]

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


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


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
        ("120", [(12, 0), (12, 1), (13, 0)], [(10, 0)]),
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
        assert re.search(rf"^  {device} +(yes|no: .+)$", text, re.MULTILINE)
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


# The first start


@pytest.fixture
def source(tmp_path):
    """A checkout in small."""
    root = tmp_path / "checkout"
    for name in ("pyproject.toml", "CMakeLists.txt", "minicnn/__init__.py", "csrc/ops/relu.cu"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CHANGES = {
    "edited": lambda root: write(root / "csrc/ops/relu.cu", "csrc/ops/relu.CU"),
    "added": lambda root: write(root / "minicnn/ops.py", ""),
    "removed": lambda root: (root / "csrc/ops/relu.cu").unlink(),
    "renamed": lambda root: (root / "csrc/ops/relu.cu").rename(root / "csrc/ops/tanh.cu"),
}
NO_CHANGES = {
    "touched": lambda root: os.utime(root / "csrc/ops/relu.cu", (0, 0)),
    "compiled": lambda root: write(root / "minicnn/__pycache__/__init__.pyc", "code"),
    "open in an editor": lambda root: write(root / "minicnn/.__init__.py.swp", "text"),
    "used": lambda root: write(root / "runs/alexnet/metrics.jsonl", "{}"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_the_checkout_is_seen(source, change):
    before = bootstrap.source_digest(source)
    change(source)
    assert bootstrap.source_digest(source) != before


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_what_is_no_change_is_not(source, change):
    before = bootstrap.source_digest(source)
    change(source)
    assert bootstrap.source_digest(source) == before


def distribution(folder: Path, *, digest="", origin="") -> importlib.metadata.Distribution:
    """minicnn installed in `folder`."""
    write(folder / "minicnn-0.1.0.dist-info/METADATA", "Name: minicnn\nVersion: 0.1.0\n")
    write(folder / "minicnn-0.1.0.dist-info/RECORD", "minicnn/__init__.py,,\n../../../bin/minicnn,,\n")
    write(folder / "../../../bin/minicnn", "")  # Python 3.13 leaves out of the record what is not there
    if origin:
        write(folder / "minicnn-0.1.0.dist-info/direct_url.json", origin)
    if digest:
        write(folder / "minicnn/_build_info.py", f"source_digest = {digest!r}")
    return importlib.metadata.Distribution.at(folder / "minicnn-0.1.0.dist-info")


def test_state_absent(source):
    assert bootstrap.state(source, None) == "absent"


def test_state_current_until_the_checkout_changes(source, tmp_path):
    found = distribution(tmp_path / "site", digest=bootstrap.source_digest(source))
    assert bootstrap.state(source, found) == "current"
    CHANGES["edited"](source)
    assert bootstrap.state(source, found) == "stale"


def test_state_stale_where_the_build_left_no_record(source, tmp_path):
    assert bootstrap.state(source, distribution(tmp_path / "site")) == "stale"


@pytest.mark.parametrize("of_this_checkout", [True, False])
def test_state_editable(source, tmp_path, of_this_checkout):
    url = (source if of_this_checkout else tmp_path).as_uri()
    found = distribution(tmp_path / "site", origin=f'{{"url": "{url}", "dir_info": {{"editable": true}}}}')
    assert bootstrap.state(source, found) == ("editable" if of_this_checkout else "stale")


def test_the_checkout_itself_is_no_installation(source, tmp_path, monkeypatch):
    distribution(source)
    monkeypatch.setattr(sys, "path", [str(source)])
    assert bootstrap.installed(source) is None
    distribution(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(source), str(tmp_path / "site")])
    found = bootstrap.installed(source)
    monkeypatch.undo()  # what reads the version may still have to be imported
    assert found.version == "0.1.0"


def test_the_installed_command_is_found(tmp_path):
    found = distribution(tmp_path / "lib/python3/site")
    assert bootstrap.script(found, "minicnn") == str(tmp_path / "bin/minicnn")


class Executed(Exception):
    pass


@pytest.fixture
def start(source, tmp_path, monkeypatch):
    """start(argv, has=..., in_venv=..., tests=...): what the first start does, in order."""

    def run(argv, has, in_venv=True, tests=True):
        done = []

        def execute(command):
            done.append(" ".join(command))
            raise Executed

        monkeypatch.setattr(bootstrap, "checkout", lambda: source)
        monkeypatch.setattr(bootstrap, "state", lambda root, found: has)
        monkeypatch.setattr(bootstrap, "installed", lambda root: distribution(tmp_path / "lib/python3/site"))
        monkeypatch.setattr(bootstrap, "install", lambda root, has, extras: done.append(f"install {extras}"))
        monkeypatch.setattr(bootstrap, "go_on_in_venv", lambda folder, argv: execute([folder.name, *argv]))
        monkeypatch.setattr(bootstrap, "execute", execute)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: "a spec" if tests else None)
        monkeypatch.setattr(sys, "prefix", "/venv" if in_venv else sys.base_prefix)
        try:
            bootstrap.ensure_installed(argv)
        except Executed:
            done[-1] = done[-1].replace(f"{tmp_path}/", "")
        else:
            done.append("go on")
        return done

    return run


def test_start_installs_into_an_active_environment_and_runs_the_installed_command(start):
    assert start(["train", "alexnet"], "absent") == ["install []", "bin/minicnn train alexnet"]
    assert start(["train", "alexnet"], "stale") == ["install []", "bin/minicnn train alexnet"]


def test_start_makes_an_environment_where_none_is_active(start):
    assert start(["train", "alexnet"], "absent", in_venv=False) == [".venv train alexnet"]
    assert start(["train", "alexnet"], "stale", in_venv=False) == [".venv train alexnet"]


def test_start_runs_what_is_installed_already(start):
    assert start(["train", "alexnet"], "current") == ["bin/minicnn train alexnet"]
    assert start(["train", "alexnet"], "current", in_venv=False) == ["bin/minicnn train alexnet"]


def test_start_goes_on_in_an_editable_installation_and_never_replaces_it(start):
    for command in ("train", "test", "install"):
        assert start([command], "editable", tests=False) == ["go on"]


def test_start_installs_what_the_tests_need_when_they_are_asked_for(start):
    assert start(["test", "-x"], "absent", tests=False) == ["install ['test']", "bin/minicnn test -x"]
    assert start(["test", "-x"], "current", tests=False) == ["install ['test']", "bin/minicnn test -x"]
    assert start(["test", "-x"], "current", tests=True) == ["bin/minicnn test -x"]
    assert start(["train"], "current", tests=False) == ["bin/minicnn train"]


def test_install_is_made_again_on_demand_and_shown(start):
    assert start(["install"], "current") == ["install []", "bin/minicnn doctor"]


def test_an_installed_copy_goes_on_at_once(monkeypatch):
    monkeypatch.setattr(bootstrap, "checkout", lambda: None)
    bootstrap.ensure_installed(["train"])


@pytest.mark.parametrize(
    "driver, nvcc, extra",
    [
        (None, "13.0", []),
        (13010, "13.0", ["cuda13"]),
        (13010, None, ["cuda13"]),
        (12080, "12.8", ["cuda12"]),
    ],
)
def test_the_extra_fits_the_driver_where_there_will_be_cuda_kernels(tmp_path, monkeypatch, driver, nvcc, extra):
    def load(name):
        if driver is None:
            raise OSError(name)
        return Driver(driver, [H100])

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setenv("CUDACXX", program(tmp_path / "nvcc", f"echo release {nvcc}," if nvcc else "exit 1"))
    monkeypatch.setenv("PATH", "")
    for wish, expected in (("auto", extra), ("on", extra), ("off", [])):
        monkeypatch.setenv("MINICNN_CUDA", wish)
        assert bootstrap.cuda_extra() == expected


def test_pip_is_found_and_sees_nothing_beside_itself():
    """In an environment without pip its maker's pip runs; what the maker has installed must not count as installed."""
    with bootstrap.pip() as command:
        listed = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert listed.stdout.startswith("pip ")
        if "-m" not in command:
            assert [path.name for path in Path(command[-1]).parent.iterdir()] == ["pip"]


def test_before_the_installation_nothing_but_the_standard_library_is_needed():
    code = "import minicnn.bootstrap, minicnn.__main__, minicnn.toolchain, sys; print('numpy' in sys.modules)"
    alone = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=True
    )
    assert alone.stdout == "False\n"


def test_the_bare_checkout_says_how_to_install_it():
    bare = subprocess.run(
        [sys.executable, "-S", "-c", "import minicnn; minicnn.Tensor"], cwd=ROOT, env={}, capture_output=True, text=True
    )
    assert "no minicnn.Tensor: this is the source folder; `python3 -m minicnn install` installs it" in bare.stderr


def test_an_older_python_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"minicnn needs Python 3.10 or later; this is 3\.9"):
        __main__.main(["train"])


def test_tests_outside_a_checkout_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="the tests are part of a checkout"):
        bootstrap.run_tests([])


# The build backend


@pytest.fixture
def backend(monkeypatch):
    """The build backend; building(failures=n): the environments of the attempts, of which the first n fail."""
    skbuild = pytest.importorskip("scikit_build_core.build")
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    for name in ("MINICNN_STRICT", "MINICNN_CUDA", "MINICNN_CXX", "MINICNN_FALLBACK", "MINICNN_SOURCE_DIGEST"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    module = importlib.import_module("minicnn_build")

    def building(failures, nvcc="", **environment):
        seen = []
        monkeypatch.setattr(module, "_load", lambda name: toolchain if name == "toolchain" else bootstrap)
        monkeypatch.setattr(toolchain, "choose_cuda", lambda wish: toolchain.CudaChoice(nvcc))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        def build_wheel(folder, settings, metadata):
            seen.append((os.environ.get("MINICNN_CUDA", "auto"), os.environ.get("MINICNN_CXX", "auto")))
            if len(seen) <= failures:
                raise SystemExit(1)
            return "wheel"

        monkeypatch.setattr(skbuild, "build_wheel", build_wheel)
        try:
            assert module.build_wheel("folder") == "wheel"
        except SystemExit:
            seen.append("failed")
        return seen

    return SimpleNamespace(building=building, module=module)


def test_the_build_records_the_state_of_the_checkout(backend):
    backend.building(failures=0)
    assert os.environ["MINICNN_SOURCE_DIGEST"] == bootstrap.source_digest(ROOT)


def test_a_build_that_fails_goes_on_with_less(backend):
    assert backend.building(failures=1) == [("auto", "auto"), ("auto", "off")]


def test_a_build_with_cuda_that_fails_goes_on_without_cuda_first(backend):
    assert backend.building(failures=1, nvcc="nvcc") == [("auto", "auto"), ("off", "auto")]


def test_a_build_without_cuda_that_fails_too_compiles_nothing(backend):
    assert backend.building(failures=2, nvcc="nvcc") == [("auto", "auto"), ("off", "auto"), ("off", "off")]


@pytest.mark.parametrize("setting", [{"MINICNN_STRICT": "1"}, {"MINICNN_CUDA": "on"}, {"MINICNN_CUDA": "13"}])
def test_a_strict_build_that_fails_has_failed(backend, setting):
    assert backend.building(failures=1, nvcc="nvcc", **setting) == [
        (setting.get("MINICNN_CUDA", "auto"), "auto"),
        "failed",
    ]


def test_the_compiler_wheels_are_asked_for_where_they_are_the_choice(backend, monkeypatch):
    skbuild = importlib.import_module("scikit_build_core.build")
    monkeypatch.setattr(skbuild, "get_requires_for_build_wheel", lambda settings: ["ninja"])
    monkeypatch.setattr(backend.module, "_load", lambda name: toolchain)
    for wheels, expected in ((True, ["ninja", *toolchain.NVCC_WHEELS]), (False, ["ninja"])):
        monkeypatch.setattr(toolchain, "choose_cuda", lambda wish, wheels=wheels: toolchain.CudaChoice(wheels=wheels))
        assert backend.module.get_requires_for_build_wheel() == expected


def test_the_compiler_wheels_are_of_one_minor_version():
    assert len({wheel.split("==")[1] for wheel in toolchain.NVCC_WHEELS}) == 1
