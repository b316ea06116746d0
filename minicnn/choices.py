"""Which schedule the kernel of a product gets: its own static choice, or what `minicnn tune` has measured on this device."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minicnn.errors import DeviceError
from minicnn.files import replacing
from minicnn.shapes import Math, Schedule


class Product(NamedTuple):
    """What a schedule is chosen by: the kernel's name, its extents, and how it multiplies."""

    kernel: str
    extents: tuple[int, ...]
    math: Math

    def __str__(self) -> str:
        return f"{self.kernel} {' '.join(map(str, self.extents))} {self.math.name}"


class Choices:
    """The schedules of a device: of the products in `measured` what stands there, of others what the kernels choose."""

    def __init__(self, measured: dict[str, list[int]] | None = None):
        self.measured = measured or {}

    def run(
        self,
        kernel: str,
        extents: tuple[int, ...],
        asked: Schedule,
        launch: Callable[[Schedule], None],
        fits: Callable[[Schedule], bool],
    ) -> None:
        """launch(schedule), with one for a product that its caller would compute by `asked`; it takes those of which
        fits(schedule) holds."""
        launch(self.of(Product(kernel, extents, asked.math), asked) if self.measured else asked)

    def of(self, product: Product, asked: Schedule) -> Schedule:
        found = self.measured.get(str(product))
        return asked if found is None else Schedule(*found, asked.math)


def folder() -> Path:
    """Where measurements are kept: minicnn/ in the user's cache, or what MINICNN_CACHE names."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MINICNN_CACHE") or Path(cache) / "minicnn")


def file_of(key: str) -> Path:
    return folder() / f"tuned-{''.join(c if c.isalnum() else '-' for c in key)}.json"


def load(key: str) -> Choices:
    """What was measured for `key`: a device, its driver, this version. Nothing where there is no file.

    Raises DeviceError for a file that is none of ours.
    """
    path = file_of(key)
    if not path.exists():
        return Choices()
    try:
        content = json.loads(path.read_text())
        measured = {name: [int(tile), int(splits)] for name, (tile, splits) in content["measured"].items()}
        found = content["key"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(
            f"{path} holds no schedules ({error}): remove it, or make it anew by `minicnn tune`"
        ) from error
    return Choices(measured) if found == key else Choices()


def save(key: str, choices: Choices) -> Path:
    """Add the schedules to those that are kept for `key`; the file."""
    path = file_of(key)
    content = {"key": key, "measured": load(key).measured | choices.measured}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
    return path
