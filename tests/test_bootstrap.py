"""Installing: the first start from a checkout, and the build backend behind it."""

import ctypes
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from machines import H100, Driver, program

from minicnn import __main__, bootstrap, toolchain

ROOT = Path(__file__).resolve().parents[1]

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
