"""A pytest plugin: device "cuda" of the emulated kernels and the CuPy beside this file."""

import sys
import types

import cupy

import minicnn
from minicnn import _emulated, cuda, toolchain


def on_stream(kernel):
    def launch(*arguments, stream):
        cupy.Stream.by_address[stream].queue(lambda: kernel(*arguments, 0))

    return lambda *arguments: launch(*arguments[:-1], stream=arguments[-1])


module = types.ModuleType("minicnn._cuda")
vars(module).update({name: value for name, value in vars(_emulated).items() if not name.startswith("__")})
for name, signature in _emulated.signatures.items():
    if signature[-1:] == ("stream",):
        setattr(module, name, on_stream(getattr(_emulated, name)))
sys.modules["minicnn._cuda"] = minicnn._cuda = module
cuda.why_unavailable = lambda: ""
toolchain.driver_version = lambda: (13, 0)
