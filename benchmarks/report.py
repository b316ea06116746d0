"""Results as CSV with their circumstances, and the Markdown table made from them: `python report.py results/*.csv`."""

from __future__ import annotations

import csv
import datetime
import functools
import platform
import subprocess
import sys
from pathlib import Path

COLUMNS = {
    "op": "op",
    "case": "case",
    "pass": "pass",
    "precision": "precision",
    "threads": "threads",
    "algorithm": "algorithm",
    "fprop": "fprop",
    "dgrad": "dgrad",
    "wgrad": "wgrad",
    "ms": "ms",
    "ms_low": "lower quartile",
    "ms_high": "upper quartile",
    "images_per_second": "images/s",
    "loaded_images_per_second": "images/s, loading included",
    "mib": "MiB",
    "peak_mib": "peak MiB",
    "gflops": "GFLOP/s",
    "gbytes": "GB/s",
    "floor_percent": "% of floor",
    "peak_gflops": "peak GFLOP/s",
    "peak_percent": "% of peak",
    "rival": "rival",
    "rival_ms": "rival ms",
    "ratio": "ratio",
    "score": "score",
    "cold_ms": "cold ms",
    "rival_cold_ms": "rival cold ms",
    "cold_ratio": "cold ratio",
    "cold_score": "cold score",
    "sm_mhz": "MHz",
    "first_loss": "first loss",
    "fifth_loss": "fifth loss",
}


def _output(*command: str) -> str:
    try:
        here = Path(__file__).parent
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{model[0].partition(': ')[2]}, {len(model)} cores" if model else platform.processor()


@functools.cache
def circumstances() -> dict[str, str]:
    """Device, driver, clocks, libraries, commit and date: what a figure means nothing without."""
    import numpy
    import torch

    gpu = _output(
        "nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm", "--format=csv,noheader"
    )
    commit = _output("git", "rev-parse", "--short", "HEAD")
    dirty = "+changes" if _output("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit + dirty,
        "gpu": gpu or "none",
        "cpu": _processor() if Path("/proc/cpuinfo").exists() else platform.processor(),
        "versions": f"Python {platform.python_version()}, NumPy {numpy.__version__}, PyTorch {torch.__version__}",
    }


def clock() -> str:
    """MHz of the GPU's processors at this moment; "" where there is none."""
    return _output("nvidia-smi", "--query-gpu=clocks.sm", "--format=csv,noheader,nounits").partition("\n")[0]


def score(seconds: float, floor: float, rival: float) -> float | str:
    """1 / (1 + (T - T_floor) / (T_rival - T_floor)): 1 at the floor, 1/2 at the rival's time; "" where the rival is below
    what is called the floor here, as Winograd's algorithms may be."""
    return 1 / (1 + (seconds - floor) / (rival - floor)) if rival > floor and seconds >= floor else ""


def write_rows(path: str | Path, rows: list[dict], ceilings=None) -> None:
    """One CSV; its first lines, behind #, are the circumstances."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = circumstances() | ({"ceilings": str(ceilings).removeprefix("ceilings: ")} if ceilings else {})
    with path.open("w", newline="") as file:
        file.writelines(f"# {name}: {value}\n" for name, value in head.items())
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def read_rows(path: str | Path) -> tuple[dict[str, str], list[dict]]:
    lines = Path(path).read_text().splitlines()
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    return head, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def markdown(path: str | Path) -> str:
    """The table of one CSV, under its circumstances."""
    head, rows = read_rows(path)
    columns = {key: title for key, title in COLUMNS.items() if key in rows[0]}
    lines = [f"### {Path(path).stem}", "", "; ".join(f"{name} {value}" for name, value in head.items()), ""]
    lines += ["| " + " | ".join(columns.values()) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row[key] for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print("\n".join(markdown(path) for path in sys.argv[1:]), end="")
