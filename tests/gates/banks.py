"""How accesses to shared memory fall on its banks: the model, and what it says of the kernels as they ran emulated.

Shared memory has 32 banks, word i of four bytes in bank i % 32. What the lanes of a warp ask for at once is served in
as many turns as the busiest bank has different words to give; lanes that ask for the same word share it. Accesses of
8 bytes a lane are made for half a warp at a time, those of 16 bytes, and the matrices of ldmatrix, for a quarter.

Source: CUDA C++ Best Practices Guide, "Shared Memory and Memory Banks"; the phases of wide accesses are measured facts
(for instance Jia et al. 2018, "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking").
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BANKS, WORD, LANES = 32, 4, 32
ACCESS = np.dtype([(name, np.uint32) for name in ("launch", "thread", "code", "offset", "bytes", "is_write")])


def turns(accesses: np.ndarray, request: np.ndarray) -> np.ndarray:
    """Turns that each request of a warp takes, at most, for what it asks for at once; 1 is the best.

    accesses  an array of ACCESS; request  the number of the warp's request that each belongs to, from 0 on.
    """
    lane = accesses["thread"].astype(np.int64) % LANES
    at_once = LANES * WORD // np.maximum(accesses["bytes"], WORD)
    phase = request.astype(np.int64) * LANES + lane // at_once
    count = -(-accesses["bytes"].astype(np.int64) // WORD)
    which = np.repeat(np.arange(len(accesses)), count)
    place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    word = (accesses["offset"] // WORD)[which] + place
    words = np.unique(np.stack([phase[which], word]), axis=1)  # the same word once
    banks, busy = np.unique(np.stack([words[0], words[1] % BANKS]), axis=1, return_counts=True)
    worst = np.ones(int(request.max(initial=-1)) + 1, np.int64)
    np.maximum.at(worst, banks[0] // LANES, busy)
    return worst


def requests(accesses: np.ndarray) -> np.ndarray:
    """Which accesses a warp makes at once: those of its lanes at one place in the code, the nth of each with the nth."""
    order = np.lexsort((accesses["thread"], accesses["code"], accesses["launch"]))
    key = np.stack([accesses[name][order] for name in ("launch", "code", "thread")])
    begins = np.flatnonzero(np.concatenate([[True], (key[:, 1:] != key[:, :-1]).any(0)]))
    nth = np.empty(len(accesses), np.int64)
    nth[order] = np.arange(len(accesses)) - np.repeat(begins, np.diff(np.append(begins, len(accesses))))
    warp = accesses["thread"] // LANES
    key = np.stack([accesses["launch"], accesses["code"], warp, nth])
    return np.unique(key, axis=1, return_inverse=True)[1].reshape(-1)
