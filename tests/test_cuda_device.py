"""Device "cuda" where there is no GPU: the tests of what its Python does, with the emulated kernels and a CuPy of host arrays.

It stands in for the calls of CuPy that are made, not for what a GPU makes of them.
"""

import os
import subprocess
import sys
from pathlib import Path

from conftest import unavailable

from minicnn import backend

TESTS = Path(__file__).parent
FILES = ("test_arena.py", "test_graph.py", "test_graphed_step.py", "test_step.py", "test_tensor.py")


def test_its_tests_pass_with_a_stand_in_for_cupy():
    if why := backend.available()["emulated"]:
        unavailable("emulated", why)
    environment = os.environ | {"PYTHONPATH": str(TESTS / "stand_in")}
    pytest = sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "cuda_stand_in", "-m", "cuda"
    run = subprocess.run([*pytest, *FILES], cwd=TESTS, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout and "failed" not in run.stdout
