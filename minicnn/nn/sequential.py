"""Sequential, which computes layers that stand next to each other as one op."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from minicnn.nn.layers import Add, BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ReLU
from minicnn.nn.module import Module

# Behind each layer what it takes along, longest first.
FUSED = {
    Add: [(ReLU,)],
    BatchNorm1d: [(ReLU,)],
    BatchNorm2d: [(ReLU,)],
    Conv2d: [(ReLU, MaxPool2d), (ReLU,)],
    Linear: [(ReLU, Dropout), (ReLU,)],
}

_state = threading.local()


class fusion:
    """Within `with nn.fusion(False):` every layer is an op of its own: the same numbers, but for rounding, in more passes
    over memory. The environment variable MINICNN_FUSE=0 says so for a whole run."""

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self.before: list[bool | None] = []  # a stack: the same object may be entered again inside itself

    def __enter__(self):
        self.before.append(_asked())
        _state.enabled = self.enabled

    def __exit__(self, *_):
        _state.enabled = self.before.pop()


def _asked() -> bool | None:
    """What the innermost block says; None outside of all."""
    return getattr(_state, "enabled", None)


def fuses() -> bool:
    return os.environ.get("MINICNN_FUSE", "1") != "0" if _asked() is None else _asked()


def taken_along(module: Module, followers: list[Module], device) -> list[Module]:
    """The modules behind `module` that its op computes too: none where a hook wants to see what lies between. The host has no
    kernel for convolution and pooling in one."""
    for kinds in FUSED.get(type(module), ()) if fuses() else ():
        if MaxPool2d in kinds and device.computes_on_host:
            continue
        layers = followers[: len(kinds)]
        if tuple(map(type, layers)) == kinds and not any(layer.has_hooks for layer in (module, *layers)):
            return layers
    return []


def in_turn(modules: Sequence[Module], *inputs):
    """What the modules, the first of which reads the inputs, make one after another; neighbours as one op where FUSED says
    so."""
    while modules:
        module, *followers = modules
        along = taken_along(module, followers, inputs[0].device)
        inputs = (module(*inputs, *along),)
        modules = followers[len(along) :]
    return inputs[0]


class Sequential(Module):
    """Modules one after another; named "0", "1", ... and reached by index.

    A convolution, a fully connected layer or batch normalisation takes the ReLU behind it along into its own pass over
    memory, a fully connected layer also the dropout behind that, a convolution the max pooling where the device has a
    kernel for it; `nn.fusion(False)` keeps them apart.
    """

    def __init__(self, *modules: Module):
        super().__init__()
        self.modules = list(modules)

    def children(self):
        return ((str(i), module) for i, module in enumerate(self.modules))

    def forward(self, x):
        return in_turn(self.modules, x)

    def __getitem__(self, index: int | slice):
        return Sequential(*self.modules[index]) if isinstance(index, slice) else self.modules[index]

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self):
        return iter(self.modules)
