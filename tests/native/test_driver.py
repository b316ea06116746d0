"""The native kernels from C++ alone, under the sanitizers: every function, against plain loops (tests/native/driver.h).

tests/native/compilers.sh builds the same driver with other compilers, and for other processors.
"""

import fcntl
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import unavailable

ROOT = Path(__file__).resolve().parents[2]
MEMORY, THREADS = "address,undefined", "thread"


def run(*command) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=900)


def tool(name: str) -> str:
    """Of the environment that the tests run in, or of the machine."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    return found or unavailable("sanitizers", f"no {name}")


@functools.cache
def instruction_set(sanitizer: str) -> str:
    """One is enough for what a sanitizer finds, and half as wide as the widest is compiled in half the time. Of a vector's
    part by mask, which AVX2 has, the address sanitizer sees nothing."""
    if sanitizer == MEMORY:
        return "baseline"
    cpu = Path("/proc/cpuinfo")
    return "avx2" if cpu.exists() and re.search(r"\bavx2\b", cpu.read_text()) else "baseline"


@functools.cache
def driver(sanitizer: str) -> Path:
    """The driver under a sanitizer, compiled anew where a source is newer."""
    cmake, ninja = tool("cmake"), tool("ninja")
    folder = ROOT / "build" / "driver" / sanitizer.replace(",", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # of processes of pytest-xdist
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = f"-DSANITIZE={sanitizer}", f"-DDRIVER_SETS={instruction_set(sanitizer)}"
        options += (f"-DCMAKE_MAKE_PROGRAM={ninja}",)
        configured = run(cmake, "-G", "Ninja", "-S", ROOT / "tests/native", "-B", folder, *options)
        if configured.returncode != 0:
            unavailable("sanitizers", configured.stdout + configured.stderr)
        built = run(ninja, "-C", folder)
    assert built.returncode == 0, built.stdout
    return folder / f"driver_{instruction_set(sanitizer)}"


def functions_with_results() -> set[str]:
    """Those that every kernel module has, but for the sizes of workspaces, without which none of the others runs."""
    text = (ROOT / "csrc/bindings.cpp").read_text()
    names = re.findall(r'bind\(m, "(\w+)"', text.partition("void bind_kernels")[2].partition("#ifndef")[0])
    return {name for name in names if not name.endswith("_workspace")}


@pytest.mark.parametrize("sanitizer", [MEMORY, THREADS])
def test_every_function_is_right_and_clean(sanitizer):
    """With 1, 2, 4 and 16 threads, the same bits each time, nothing read or written that is not the kernel's."""
    done = run(driver(sanitizer))
    assert (done.returncode, done.stderr) == (0, "")
    _, *functions = done.stdout.splitlines()
    assert set(functions) == functions_with_results()


@pytest.mark.parametrize(
    "sanitizer, fault, report",
    [
        (MEMORY, "overflow", "heap-buffer-overflow"),
        (MEMORY, "undefined", "signed integer overflow"),
        (THREADS, "race", "data race"),
        (THREADS, "wrong", "relu_forward planted, 2 threads: y[1] is 0.000000, expected -3.000000"),
    ],
)
def test_a_planted_fault_is_reported(sanitizer, fault, report):
    done = run(driver(sanitizer), "--plant", fault)
    assert done.returncode != 0
    assert report in done.stderr
