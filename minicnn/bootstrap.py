"""From a bare checkout to a running `minicnn`: `python3 -m minicnn ...` comes through here first.

Standard library only, for it runs before anything is installed. What it does: an interpreter that has this checkout
installed, as it is now, goes on at once. An active virtual environment is installed into. For any other interpreter
`.venv` is made in the checkout, without ensurepip, which Debian keeps in a package of its own; the pip that the machine
has then installs into it, which the rule against system-wide installs (PEP 668) permits. At the end the installed
`minicnn` command takes this process over, so that what runs is the installed package and never the checkout.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

SOURCES = ("CMakeLists.txt", "pyproject.toml", "build_backend", "csrc", "minicnn")
REASONS = {
    "absent": "this checkout is not installed yet",
    "stale": "this checkout has changed since it was installed",
    "current": "this installation is to be made again, or lacks the packages of the tests",
}
TEST_PACKAGES = ("pytest", "xdist", "pytest_randomly", "hypothesis")


def checkout() -> Path | None:
    """The checkout that this file lies in, or None where it is an installed copy."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "csrc").is_dir() else None


def source_digest(root: Path) -> str:
    """A digest of every file that an installation is made from: names and contents, so that times do not matter."""
    digest = hashlib.sha256()
    for path in sorted(path for source in SOURCES for path in (root / source, *(root / source).rglob("*"))):
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
            contents = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(contents)}\0".encode())
            digest.update(contents)
    return digest.hexdigest()


def installed(root: Path) -> importlib.metadata.Distribution | None:
    """The minicnn that this interpreter has installed, whatever lies in the working folder."""
    importlib.invalidate_caches()
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != root]
    return next(iter(importlib.metadata.distributions(name="minicnn", path=elsewhere)), None)


def state(root: Path, found: importlib.metadata.Distribution | None) -> str:
    """ "absent"; "editable" or "current" of this checkout; else "stale"."""
    if found is None:
        return "absent"
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable") and Path(unquote(urlsplit(origin["url"]).path)).resolve() == root:
        return "editable"
    build_info = Path(str(found.locate_file("minicnn/_build_info.py")))
    if not build_info.is_file():
        return "stale"
    return "current" if runpy.run_path(str(build_info))["source_digest"] == source_digest(root) else "stale"


def ensure_installed(argv: list[str]) -> None:
    """Return where the code of an installation runs; else make sure of one, and go on there without returning."""
    root = checkout()
    if root is None:
        return
    command, found = (argv[0] if argv else ""), installed(root)
    has = state(root, found)
    if has == "editable":
        return
    complete = command != "test" or all(importlib.util.find_spec(name) for name in TEST_PACKAGES)
    if command == "install" or has != "current" or not complete:
        if sys.prefix == sys.base_prefix:
            go_on_in_venv(root / ".venv", argv)
        install(root, has, ["test"] if command == "test" else [])
        found = installed(root)
    execute([script(found, "minicnn"), *(["doctor"] if command == "install" else argv)])


def go_on_in_venv(folder: Path, argv: list[str]) -> None:
    """Start over with the interpreter of the environment in `folder`, which is made here unless it is there already."""
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"making a virtual environment in {folder}")
        try:
            venv.create(folder, clear=True, symlinks=True)
        except OSError as error:
            raise SystemExit(f"minicnn: cannot make {folder}: {error}") from None
    # Isolated (-I): this folder must not come first on the path, where its modules would hide the library's.
    execute([str(python), "-I", __file__, *argv])


def install(root: Path, has: str, extras: list[str]) -> None:
    """pip install the checkout into the environment of this interpreter."""
    target = f"{root}[{','.join(['plots', *cuda_extra(), *extras])}]"
    with pip() as command:
        say(REASONS[has])
        say(f"installing {target} into {sys.prefix}; where there is a C++ compiler, a first time takes a minute or two")
        arguments = ["install", "--disable-pip-version-check", target]
        failed = subprocess.run([*command, *arguments], env={**os.environ, "PIP_USER": "0"}).returncode
    if failed:
        raise SystemExit("minicnn: pip could not install it; its reason stands above")


def cuda_extra() -> list[str]:
    """The extra that fits this machine's driver, where the CUDA kernels are going to be built."""
    toolchain = runpy.run_path(str(Path(__file__).with_name("toolchain.py")))
    runs, choice = toolchain["driver_version"](), toolchain["choose_cuda"](os.environ.get("MINICNN_CUDA", "auto"))
    if runs is None or not (choice.nvcc or choice.wheels):
        return []
    return ["cuda13" if runs[0] >= 13 else "cuda12"]


@contextlib.contextmanager
def pip() -> Iterator[list[str]]:
    """A command that runs pip for this interpreter: its own pip, else that of the interpreter it was made from.

    Older versions (22.0) have no option `--python`. A folder with pip in it can be run by any interpreter, but then
    everything beside it counts as installed: so it is run through a link that has nothing beside it.
    """
    for python in (sys.executable, sys._base_executable):
        asked = subprocess.run([python, "-I", "-c", "import pip; print(*pip.__path__)"], capture_output=True, text=True)
        if asked.returncode == 0:
            with tempfile.TemporaryDirectory(prefix="minicnn-pip-") as folder:
                link = Path(folder) / "pip"
                link.symlink_to(asked.stdout.strip())
                yield [sys.executable, str(link)]
            return
    if subprocess.run([sys.executable, "-I", "-m", "ensurepip"], capture_output=True).returncode != 0:
        raise SystemExit(f"minicnn: {sys._base_executable} has no pip; Debian and Ubuntu: apt install python3-pip")
    yield [sys.executable, "-I", "-m", "pip"]


def script(distribution: importlib.metadata.Distribution, name: str) -> str:
    """The command `name` that came with an installed distribution."""
    files = distribution.files or []
    return os.path.normpath(next(distribution.locate_file(file) for file in files if file.parts[-2:] == ("bin", name)))


def run_tests(arguments: list[str]) -> int:
    """pytest over the checkout: by its own command, so that the tests import the installed package."""
    if not Path("tests").is_dir() or not Path("pyproject.toml").is_file():
        raise SystemExit("minicnn: the tests are part of a checkout: change to its folder first")
    missing = [name for name in TEST_PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise SystemExit(f"minicnn: the tests need {', '.join(missing)}: pip install '.[test]'")
    if not any(argument.startswith("-n") for argument in arguments):
        arguments = ["-n", str(min(os.cpu_count() or 1, 8)), *arguments]
    return subprocess.run([script(importlib.metadata.distribution("pytest"), "pytest"), *arguments]).returncode


def execute(command: list[str]) -> None:
    """Become another program."""
    sys.stdout.flush()
    os.execv(command[0], command)


def say(line: str) -> None:
    print(f"minicnn: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    ensure_installed(sys.argv[1:])
    execute([script(importlib.metadata.distribution("minicnn"), "minicnn"), *sys.argv[1:]])  # of an editable install
