"""Starting from another run: layers of its network are copied into a new one, the others stay as they were drawn."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minicnn import checkpoint, nn
from minicnn.checkpoint import CheckpointError
from minicnn.run_folder import LAST


class Copied(NamedTuple):
    """`layer` of the new network, and the layer of the old one whose parameters and buffers it has."""

    layer: str
    source: str
    tensors: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer} <- {self.source} ({', '.join(self.tensors)})"


def start_from(network: nn.Module, run: str | Path, layers: str | list | dict = "all") -> list[Copied]:
    """Copy layers of the network in `run`, a run folder or a checkpoint, into `network`, byte for byte.

    layers  "all": every layer, which must have its like of the same path and shapes; a list of patterns of paths, such as
            "features.*"; or a table {path here: path there}

    Raises CheckpointError where there is no such run, ValueError where a layer is missing or has other shapes; then
    nothing has been copied.
    """
    saved = checkpoint.without_prefix("model.", _read(Path(run)))
    own, theirs = _learned(network), _by_layer(saved)
    pairs = _pairs(own, layers)
    copies = {}
    for here, there in pairs.items():
        _check(here, own.get(here), there, theirs.get(there), run)
        copies |= {f"{here}.{name}": array for name, array in theirs[there].items()}
    network.load_state_dict(network.state_dict() | copies)
    return [Copied(here, there, tuple(own[here])) for here, there in pairs.items()]


def report(network: nn.Module, copied: list[Copied], run: str | Path) -> list[str]:
    """Which layer came from where, and which were drawn."""
    drawn = [layer for layer in _learned(network) if layer not in {copy.layer for copy in copied}]
    return [f"started from {run}:", *(f"  {copy}" for copy in copied), f"  drawn anew: {', '.join(drawn) or 'nothing'}"]


def _read(run: Path) -> dict[str, np.ndarray]:
    path = run / LAST if not run.suffix else run
    try:
        return checkpoint.read(path)[0]
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}: train what this run starts from first, or name another (start.from)"
        ) from error


def _by_layer(state: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{"features.0.weight": w} -> {"features.0": {"weight": w}}"""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path, array in state.items():
        layer, _, name = path.rpartition(".")
        layers.setdefault(layer, {})[name] = array
    return layers


def _learned(network: nn.Module) -> dict[str, dict[str, np.ndarray]]:
    """The layers that have parameters, with their buffers."""
    learned = {path.rpartition(".")[0] for path, _ in network.named_parameters()}
    return {layer: tensors for layer, tensors in _by_layer(network.state_dict()).items() if layer in learned}


def _pairs(own: dict, layers) -> dict[str, str]:
    if isinstance(layers, dict):
        return layers
    patterns = ["*"] if layers == "all" else [layers] if isinstance(layers, str) else layers
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in own):
            raise ValueError(f"start.layers: no layer matches {pattern!r}; there are {', '.join(own)}")
    return {layer: layer for layer in own if any(fnmatchcase(layer, pattern) for pattern in patterns)}


def _check(here: str, ours: dict | None, there: str, theirs: dict | None, run) -> None:
    if ours is None:
        raise ValueError(f"start.layers: this network has no layer {here!r} with parameters")
    if theirs is None:
        raise ValueError(
            f"start.layers: the network of {run} has no layer {there!r}, which {here} is to be copied from"
        )
    shapes = [{name: array.shape for name, array in layer.items()} for layer in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"start.layers: {here} has {shapes[0]}, {there} of {run} {shapes[1]}: leave it out")
