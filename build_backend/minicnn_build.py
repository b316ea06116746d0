"""The build backend: scikit-build-core, and around it what it cannot know.

Before the build it asks for NVIDIA's compiler as wheels, but only on a machine whose driver can run what that compiles
and that has no compiler of its own. And where a build of everything fails, it builds less rather than nothing and
records why; MINICNN_STRICT=1, or an editable install, makes the failure final.
"""

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from scikit_build_core import build as _skbuild
from scikit_build_core.build import *  # noqa: F403  (the hooks that stay as they are)

ROOT = Path(__file__).resolve().parents[1]


def _load(name):
    """A file of minicnn that needs nothing but the standard library, without the package around it."""
    spec = importlib.util.spec_from_file_location(f"minicnn_{name}", ROOT / "minicnn" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cuda_wish():
    return os.environ.get("MINICNN_CUDA", "auto")


def _compiler_wheels():
    toolchain = _load("toolchain")
    return list(toolchain.NVCC_WHEELS) if toolchain.choose_cuda(_cuda_wish()).wheels else []


def get_requires_for_build_wheel(config_settings=None):
    return _skbuild.get_requires_for_build_wheel(config_settings) + _compiler_wheels()


def get_requires_for_build_editable(config_settings=None):
    return _skbuild.get_requires_for_build_editable(config_settings) + _compiler_wheels()


def _attempts():
    """The environment of each attempt to build: everything, then without CUDA, then nothing compiled."""
    yield {"MINICNN_SOURCE_DIGEST": _load("bootstrap").source_digest(ROOT)}
    if os.environ.get("MINICNN_STRICT", "0") != "0" or _cuda_wish() in ("on", "13"):
        return
    if _load("toolchain").choose_cuda(_cuda_wish()).nvcc:
        yield {"MINICNN_CUDA": "off", "MINICNN_FALLBACK": "1"}
    yield {"MINICNN_CXX": "off", "MINICNN_FALLBACK": "1"}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for environment in _attempts():
        os.environ.update(environment)
        try:
            return _skbuild.build_wheel(wheel_directory, config_settings, metadata_directory)
        except SystemExit as failure:  # of CMake or of the compiler: its output stands above
            last = failure
            print(f"minicnn: this build failed: {environment}", file=sys.stderr)
    raise last


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """Compiled again at import when a source has changed, unless what built it was isolated and is gone by then."""
    stays = Path(_skbuild.__file__).is_relative_to(sysconfig.get_path("purelib"))
    settings = {"build-dir": "build/editable", "editable.rebuild": str(stays).lower(), **(config_settings or {})}
    return _skbuild.build_editable(wheel_directory, settings, metadata_directory)
