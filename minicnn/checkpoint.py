"""Checkpoints: one safetensors file of arrays and one JSON description. No pickle, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from minicnn import files

FORMAT, VERSION = "minicnn-checkpoint", 1


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or a file is none, is damaged, or does not fit."""


def write(path: str | Path, arrays: dict[str, np.ndarray], description: dict) -> None:
    """Write a checkpoint, atomically. Raises CheckpointError where the file system refuses."""
    # One entry: safetensors writes several in an order that changes from process to process.
    write_safetensors(path, arrays, {FORMAT: json.dumps({"version": VERSION, "description": description})})


def write_safetensors(path: str | Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """The same for any safetensors file."""
    with replacing(path) as partial:
        safetensors.numpy.save_file(arrays, partial, metadata)


@contextlib.contextmanager
def replacing(path: str | Path):
    """Within it, write the file that is yielded; afterwards it takes the place of `path`: a reader finds the old file or the
    new one, also after a crash. Raises CheckpointError where that fails; what stood there before is then untouched.
    """
    try:
        with files.replacing(path) as partial:
            yield partial
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}; the one before it is untouched") from error


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, description) of a checkpoint. Raises CheckpointError for a missing, damaged or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of minicnn")
            header = json.loads(metadata[FORMAT])
            if header["version"] > VERSION:
                raise CheckpointError(
                    f"{path} has checkpoint version {header['version']}, this minicnn reads up to {VERSION}: update it"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is no dict)
            return arrays, header["description"]
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint of minicnn: {error}") from error


def with_prefix(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
