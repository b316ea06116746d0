"""What is aimed at on an H100, and what measured tables say of it: `python benchmarks/aims.py OUT ...`.

A line for each aim: the lowest and the highest ratio that the tables in these folders have, and whether the aim is met: by
every row that it speaks of, or not. Rates and bandwidths are shares of the ceilings that were measured with their table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from report import read_rows
from roofline import Ceilings, ceilings_of

PRODUCTS = {"conv2d", "linear", "gemm"}  # bound by arithmetic, at these layers; all other ops by memory
BEYOND_CACHES = (
    0.1  # GB: what moves less finds some of it in the second-level cache, or is over before all processors work
)


class Aim(NamedTuple):
    """`ratio` of a row, and that of the ceilings measured with it, is at least `least`; None where the row is none of its."""

    name: str
    least: float
    ratio: Callable[[dict, Ceilings], float | None]


class Found(NamedTuple):
    """A row that an aim speaks of."""

    row: dict
    ratio: float


def bandwidth_share(row: dict, ceilings: Ceilings) -> float | None:
    gbytes = float(row["gbytes"])
    moves = gbytes * float(row["ms"]) / 1e3
    return gbytes / ceilings.bandwidth if row["op"] not in PRODUCTS and moves >= BEYOND_CACHES else None


def matrix_share(row: dict, ceilings: Ceilings) -> float | None:
    if (row["op"], row["precision"]) != ("conv2d", "bfloat16") or not row["case"].startswith("vgg_"):
        return None
    x, weight = ([int(extent) for extent in shape.split("x")] for shape in row["shapes"].split()[:2])
    wide = all(128 <= count <= 512 for count in (x[3], weight[0]))
    return float(row["gflops"]) / ceilings.rates["bfloat16"] if wide else None


def speed(row: dict) -> float:
    return float(row["rival_ms"]) / float(row["ms"])


def three_products(row: dict, _) -> float | None:
    return speed(row) if (row["op"], row["precision"]) == ("conv2d", "tf32x3") else None


def overlaps(row: dict) -> bool:
    """Whether a max-pooling's windows, "3x3/2" in its case, do."""
    window = re.search(r"(\d+)x\d+/(\d+)$", row["case"])
    return bool(window) and int(window[1]) > int(window[2])


def normalisation_and_pooling(row: dict, _) -> float | None:
    return speed(row) if row["op"] == "lrn" or (row["op"] == "maxpool2d" and overlaps(row)) else None


AIMS = (
    Aim("memory-bound kernels, of the bandwidth of a copy", 0.9, bandwidth_share),
    Aim("VGG's layers of 128 to 512 channels in bfloat16, of the matrix rate", 0.55, matrix_share),
    Aim("convolutions by three TF32 products, times as fast as cuDNN in float32", 1.5, three_products),
    Aim(
        "normalisation across channels and overlapping pooling, times as fast as PyTorch",
        3.0,
        normalisation_and_pooling,
    ),
)


def rows_of(folders: list[Path]) -> Iterator[tuple[dict, Ceilings]]:
    """Of every table of an op there, also of those whose benchmark was ended before its end."""
    for path in sorted(
        path for folder in folders for ending in ("csv", "unfinished") for path in folder.rglob(f"*.{ending}")
    ):
        head, rows = read_rows(path)
        if "ceilings" in head and rows and "gbytes" in rows[0]:
            ceilings = ceilings_of(head)
            yield from ((row, ceilings) for row in rows if None not in row.values())  # cut off as it was written


def verdict(aim: Aim, found: list[Found]) -> str:
    said = f"{aim.name}, at least {aim.least:g}: "
    if not found:
        return said + "not measured"
    lowest, highest = min(found, key=lambda f: f.ratio), max(found, key=lambda f: f.ratio)
    reached = sum(f.ratio >= aim.least for f in found)
    said += f"{lowest.ratio:.2f} to {highest.ratio:.2f}, {'met' if reached == len(found) else 'missed'}"
    if reached < len(found):
        row = lowest.row
        said += f" by {len(found) - reached} of {len(found)}, most by {row['op']} {row['case']} {row['pass']}"
    devices = {f.row["device"] for f in found}
    return said + ("" if all(device.startswith("cuda") for device in devices) else "; no GPU: this says nothing of one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="OUT", help="folders with tables, at any depth")
    measured = list(rows_of(parser.parse_args().folders))
    for aim in AIMS:
        ratios = ((row, aim.ratio(row, ceilings)) for row, ceilings in measured)
        print(verdict(aim, [Found(row, ratio) for row, ratio in ratios if ratio is not None]))


if __name__ == "__main__":
    main()
