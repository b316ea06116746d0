"""Options of the benchmarks' command lines, refused before anything is measured."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from minicnn import backend
from minicnn.errors import DeviceError


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def writable(text: str) -> str:
    """A file that can be written; the folder for it is made."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {error.strerror}") from error
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: it is a folder")
    return text


def picture(text: str) -> str:
    if Path(text).suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text} is not the name of a .png")
    return writable(text)


def device_of(parser: argparse.ArgumentParser, name: str):
    """The device of that name; ends the program where there is none."""
    try:
        return backend.device(name)
    except (ValueError, DeviceError) as error:
        parser.error(str(error))
