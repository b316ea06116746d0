"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Within it, write the file that is yielded; afterwards it takes the place of `path`, and both it and its folder's entry
    are on the disk: a reader finds the old file or the new one, also after a crash. What the body or the system raises
    leaves `path` as it was, and nothing beside it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """What has been written to the file, or the entries of the folder, reach the disk before this returns."""
    if path.is_dir() and os.name == "nt":
        return  # there a folder cannot be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_partial(folder: Path) -> None:
    """Remove what killed processes have left half-written: files of `replacing`, and those that safetensors makes beside
    its targets."""
    for partial in (*folder.glob(".*.partial"), *folder.glob(".tmp*")):
        partial.unlink(missing_ok=True)
