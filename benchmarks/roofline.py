"""The roofline of measured tables, as a picture: `python benchmarks/roofline.py TABLE.csv ... --out roofline.png`.

A point a row: FLOPs a byte that must move, and the rate reached, warm. The lines are the ceilings of the run that the
table comes from: bandwidth times FLOPs a byte, and under it the rate of matrix products, a line for each precision
(Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model").
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from report import read_rows

from minicnn import plots

COLOURS = {"float32": "#1f77b4", "tf32x3": "#17becf", "tf32": "#2ca02c", "bfloat16": "#d62728", "float16": "#9467bd"}
MARKERS = "osD^vPX*"


class Point(NamedTuple):
    """One row: FLOPs a byte, GFLOP/s."""

    intensity: float
    rate: float
    precision: str
    which: str


class Ceilings(NamedTuple):
    """GB/s, and GFLOP/s by precision."""

    bandwidth: float
    rates: dict[str, float]


def ceilings_of(head: dict[str, str]) -> Ceilings:
    """As the first lines of a table have them: ceilings.Ceilings in words."""
    words = head["ceilings"]
    rates = re.findall(r"(float32|tf32|bfloat16|float16)(?: matrix product)? ([\d.]+)", words)
    return Ceilings(float(re.search(r"copy ([\d.]+) GB/s", words)[1]), {name: float(rate) for name, rate in rates})


def points_of(rows: list[dict]) -> list[Point]:
    return [
        Point(
            float(row["gflops"]) / float(row["gbytes"]),
            float(row["gflops"]),
            row.get("precision", "float32"),
            row["pass"],
        )
        for row in rows
    ]


def draw(tables: list[Path], path: Path) -> None:
    """Of tables of one device; of its ceilings, measured with each of them, the highest."""
    heads, rows = zip(*(read_rows(table) for table in tables), strict=True)
    found = [ceilings_of(head) for head in heads]
    points = [point for table in rows for point in points_of(table)]
    bandwidth = max(ceilings.bandwidth for ceilings in found)
    rates = {name: max(c.rates.get(name, 0) for c in found) for name in COLOURS if any(name in c.rates for c in found)}
    device = heads[0]["gpu"] if rows[0][0]["device"].startswith("cuda") else heads[0]["cpu"]
    figure = plots.new_figure(8, 5)
    axes = figure.subplots()
    draw_ceilings(axes, bandwidth, rates, [point.intensity for point in points])
    draw_points(axes, points)
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest, highest = min(point.rate for point in points), max(*rates.values(), *(point.rate for point in points))
    axes.set_ylim(10 ** np.floor(np.log10(lowest)), 10 ** np.ceil(np.log10(highest)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter("")
    axes.set_xlabel("FLOPs a byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", alpha=0.25)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    ops = dict.fromkeys(row["op"] for table in rows for row in table)
    title = f"{', '.join(ops)}, device {rows[0][0]['device']}: {device}"
    figure.suptitle(title + emulation_s_note(rows[0][0]), color=plots.INK, fontsize=10)
    figure.savefig(path)


def emulation_s_note(row: dict) -> str:
    return "\nemulating the kernels: of a GPU this says nothing" if row["device"] == "emulated" else ""


def draw_ceilings(axes, bandwidth: float, rates: dict[str, float], intensities: list[float]) -> None:
    ridges = [rate / bandwidth for rate in rates.values()]
    x = np.geomspace(min(*intensities, *ridges) / 2, max(*intensities, *ridges) * 2, 200)
    for name, rate in rates.items():
        axes.plot(x, np.minimum(x * bandwidth, rate), color=COLOURS[name], linewidth=1)
        text = f"{name} {rate:,.0f} GFLOP/s"
        axes.annotate(text, (x[-1], rate), (0, 3), textcoords="offset points", ha="right", size=8, color=COLOURS[name])
    text = f"copy {bandwidth:,.1f} GB/s"
    axes.annotate(text, (x[0], x[0] * bandwidth), (12, -2), textcoords="offset points", size=8, color=plots.INK)


def draw_points(axes, points: list[Point]) -> None:
    """A colour a precision, a marker a pass."""
    markers = dict(zip(dict.fromkeys(point.which for point in points), MARKERS * len(points), strict=False))
    for precision, which in dict.fromkeys((point.precision, point.which) for point in points):
        chosen = [(p.intensity, p.rate) for p in points if (p.precision, p.which) == (precision, which)]
        style = {"color": COLOURS[precision], "marker": markers[which], "linestyle": "none", "markersize": 4}
        axes.plot(*zip(*chosen, strict=True), label=f"{which}, {precision}", alpha=0.8, **style)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE.csv")
    parser.add_argument("--out", type=Path, default=Path("roofline.png"))
    arguments = parser.parse_args()
    draw(arguments.tables, arguments.out)


if __name__ == "__main__":
    main()
