"""The layers of the networks with the shapes that they see: benchmarks compute their cases, nobody types them in."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import minicnn
from minicnn import models
from minicnn.nn import Module

NETWORKS = ("alexnet", "alexnet_owt", "vgg_a", "vgg_d")
# What a benchmark's options say (harness.Session).
only = ""  # what the names of the wanted cases contain: where they begin with a network, no other one is built
image_size = 224


@dataclass(frozen=True)
class Layer:
    """One layer of one network: `features.3` of `alexnet`, and the input (N, ...) that it sees."""

    network: str
    path: str
    module: Module
    input_shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.network} {self.path}"


@functools.cache
def _walk(network: str, size: int) -> list[tuple[str, Module, tuple[int, ...]]]:
    model = models.CONSTRUCTORS[network](image_size=size).to("cpu").eval()
    seen: list[tuple[str, Module, tuple[int, ...]]] = []
    for path, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, inputs, _, path=path: seen.append((path, m, inputs[0].shape)))
    with minicnn.no_grad():
        model(minicnn.tensor(np.zeros((1, size, size, 3), np.float32)))
    return seen


def layers(kind: type, batch: int, networks=NETWORKS) -> Iterator[Layer]:
    """Every layer of that class, each distinct configuration once, at this batch size."""
    found = set()
    for network in [name for name in networks if only.startswith(f"{name} ")] or networks:
        for path, module, shape in _walk(network, image_size):
            if type(module) is kind and (repr(module), shape) not in found:
                found.add((repr(module), shape))
                yield Layer(network, path, module, (batch, *shape[1:]))
