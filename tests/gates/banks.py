"""How accesses to shared memory fall on its banks: the model, and what it says of kernels as they ran emulated.

Shared memory has 32 banks, word i of four bytes in bank i % 32. What the lanes of a warp ask for at once is served in
as many turns as the busiest bank has different words to give; lanes that ask for the same word share it. Accesses of
8 bytes a lane are made by half a warp at a time, those of 16 bytes, and the matrices of ldmatrix, by a quarter.

Source: CUDA C++ Programming Guide, "Shared Memory" of compute capability 5.x and later; for wide accesses Jia et al.
2018, "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking".
"""

from __future__ import annotations

import linecache
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

BANKS, WORD, LANES = 32, 4, 32
QUAD = 4 * WORD
ACCESS = np.dtype([(name, np.uint32) for name in ("launch", "thread", "code", "offset", "bytes", "is_write")])


class Place(NamedTuple):
    """A place in the sources."""

    text: str  # "lrn.cu:131 (run.h:20)": the kernel's line and that of the function inlined there
    moves_quads: bool  # the line names a type that one instruction moves
    calls: tuple[str, ...]  # "lrn.cu:131" and so on: by which the kernel comes there, from the inmost function on


@dataclass(frozen=True)
class Site:
    """A place in the sources where threads access shared memory, and the most turns that a warp's request takes there."""

    place: str
    bytes: int  # a lane
    is_write: bool
    turns: int

    def __str__(self) -> str:
        return f"{self.place} {'writes' if self.is_write else 'reads'} {self.bytes} bytes a lane in {self.turns} turns"


def sites(module, accesses: np.ndarray) -> list[Site]:
    """What the accesses that `module` has recorded cost, place by place.

    One line of a helper is as many places as there are ways by which a kernel calls it: lanes that leave out one of two
    calls would otherwise be matched with lanes at the other.
    """
    codes, which = np.unique(accesses["code"], return_inverse=True)
    stand_at = places(module, codes)
    numbers = {place: number for number, place in enumerate(dict.fromkeys(stand_at))}
    placed = accesses.copy()
    placed["code"] = np.array([numbers[place] for place in stand_at], np.uint32)[which]
    placed = join_quads(split_structs(placed), np.array([p.moves_quads for p in numbers], bool))
    request = requests(placed)
    taken = turns(placed, request)[request]
    kind = distinct(placed["code"], placed["bytes"], placed["is_write"])
    found, names = [], [place.text for place in numbers]
    for number, first in enumerate(np.unique(kind, return_index=True)[1]):
        access, most = placed[first], int(taken[kind == number].max())
        found.append(Site(names[access["code"]], int(access["bytes"]), bool(access["is_write"]), most))
    return found


def turns(accesses: np.ndarray, request: np.ndarray) -> np.ndarray:
    """Turns that each request of a warp takes for what it asks for at once, at most; 1 is the best.

    accesses  an array of ACCESS, of up to 16 bytes each; request  the number of the one that each belongs to, from 0 on.
    """
    words = -(-accesses["bytes"].astype(np.int64) // WORD)
    at_once = request * LANES + accesses["thread"] % LANES * words // LANES
    each = np.repeat(np.arange(len(accesses)), words)
    word = accesses["offset"][each] // WORD + np.arange(len(each)) - np.repeat(np.cumsum(words) - words, words)
    at_once = at_once[each]
    first = np.unique(distinct(at_once, word), return_index=True)[1]  # lanes that ask for the same word share it
    at_once, bank = at_once[first], word[first] % BANKS
    busy = distinct(at_once, bank)
    most = np.ones(int(request.max(initial=-1)) + 1, np.int64)
    np.maximum.at(most, at_once // LANES, np.bincount(busy)[busy])
    return most


def requests(accesses: np.ndarray) -> np.ndarray:
    """What the lanes of a warp ask for together: at one place in the sources, the nth access of each with the nth."""
    where = distinct(accesses["launch"], accesses["code"], accesses["bytes"], accesses["is_write"])
    nth = occurrences(distinct(where, accesses["thread"]))
    return distinct(where, accesses["thread"] // LANES, nth)


def join_quads(accesses: np.ndarray, moves_quads: np.ndarray) -> np.ndarray:
    """Four words that a thread moves where the source says that 16 bytes move are one access, in the first's place.

    The compiler for the CPU takes some apart; nvcc does not. moves_quads  of each place, by its number in "code".
    """
    split = np.flatnonzero((accesses["bytes"] == WORD) & moves_quads[accesses["code"]])
    parts = accesses[split]
    same = distinct(parts["launch"], parts["thread"], parts["code"], parts["is_write"], parts["offset"] // WORD)
    quad = distinct(
        parts["launch"], parts["thread"], parts["code"], parts["is_write"], parts["offset"] // QUAD, occurrences(same)
    )
    whole = np.bincount(quad)[quad] == QUAD // WORD
    first = np.unique(quad, return_index=True)[1]
    first = first[whole[first]]
    joined = accesses.copy()
    joined["bytes"][split[first]] = QUAD
    joined["offset"][split[first]] -= joined["offset"][split[first]] % QUAD
    dropped = np.zeros(len(accesses), bool)
    dropped[split[whole]] = True
    dropped[split[first]] = False
    return joined[~dropped]


def split_structs(accesses: np.ndarray) -> np.ndarray:
    """A struct beyond 16 bytes that a thread moves at one place is as many accesses as it takes."""
    quads = np.maximum(-(-accesses["bytes"].astype(np.int64) // QUAD), 1)
    parts = np.repeat(accesses, quads)
    nth = (np.arange(len(parts)) - np.repeat(np.cumsum(quads) - quads, quads)).astype(np.uint32)
    parts["offset"] += QUAD * nth
    parts["bytes"] = np.minimum(parts["bytes"] - QUAD * nth, QUAD)
    return parts


def distinct(*fields: np.ndarray) -> np.ndarray:
    """Rows of equal fields get the same number; the numbers begin at 0."""
    numbers = np.zeros(len(fields[0]), np.int64)
    for field in fields:
        numbers = np.unique(numbers * (int(field.max(initial=0)) + 1) + field, return_inverse=True)[1]
    return numbers


def occurrences(numbers: np.ndarray) -> np.ndarray:
    """How often each number has come before."""
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    nth = np.empty(len(numbers), np.int64)
    nth[order] = np.arange(len(numbers)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return nth


def places(module, codes) -> list[Place]:
    """Where each place in the code of `module` stands in the sources."""
    command = ["addr2line", "-a", "-i", "-e", module.__file__, *map(hex, codes)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [_place(block.splitlines()) for block in re.split(r"(?m)^0x[0-9a-f]+\n", answer)[1:]]


def _place(lines: list[str]) -> Place:
    """Of addr2line's lines "path:number", from the inmost function on: those that are a kernel's author's."""
    stack = [Path(line.partition(" ")[0]) for line in lines if "/csrc/" in line]
    stack = [line for line in stack if "emulation" not in line.parts and line.parent.name != "csrc"]
    if not stack:
        return Place("".join(lines[:1]), False, tuple(lines))
    outmost, inmost = stack[-1].name, stack[0].name
    path, _, number = str(stack[0]).rpartition(":")
    quads = re.search(r"\b(Vec4|Run|FourFloats)\b", linecache.getline(path, int(number)))
    text = outmost if outmost == inmost else f"{outmost} ({inmost})"
    return Place(text, bool(quads), tuple(line.name for line in stack))
