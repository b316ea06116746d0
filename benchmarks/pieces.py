"""Tables that are measured piece by piece: each has a file, and what has one is not measured again unless it is named."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

from report import markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("piece", nargs="*", help="empty: every one that has no results yet")
    parser.add_argument("--list", action="store_true", help="name the pieces and what is measured already")
    parser.add_argument("--minutes", type=float, default=None, help="after these, begin no other piece")


def measure(parser: argparse.ArgumentParser, arguments, known: dict[str, Callable[[Path], None]], folder: Path) -> bool:
    """Measure the pieces that `arguments` ask for, each into folder/PIECE.csv, and write folder/tables.md of all that
    there are. `known`: what writes a piece's file, by its name. False where they were only listed."""
    for piece in arguments.piece:
        if piece not in known:
            parser.error(f"no piece {piece!r}: --list names them")
    files = {piece: folder / f"{piece}.csv" for piece in known}
    if arguments.list:
        print("\n".join(f"{piece:<28} {'measured' if path.exists() else ''}" for piece, path in files.items()))
        return False
    end = time.monotonic() + 60 * (arguments.minutes or math.inf)
    for piece in arguments.piece or [piece for piece, path in files.items() if not path.exists()]:
        if time.monotonic() > end:
            print(f"{arguments.minutes:g} minutes are over: the same command goes on with {piece}")
            break
        print(f"== {piece}", flush=True)
        known[piece](files[piece])
        print(markdown(files[piece]), flush=True)
    tables = [markdown(path) for path in files.values() if path.exists()]
    (folder / "tables.md").write_text("\n".join(tables))
    return True
