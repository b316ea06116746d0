"""Accuracy and time of the recipes for small images: each over three seeds, on the bundled images.

    python benchmarks/bench_recipes.py [--recipes alexnet-small ...] [--seeds 0 1 2] [--csv FILE]

A line a run, written when it ends: wall seconds of the whole run, evaluation included, and the processor seconds it took of
all cores, which other work on the machine changes little. The runs themselves are deleted.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import minicnn
from minicnn import recipes

SMALL = [name for name in recipes.NAMES if name.endswith("-small")]
COLUMNS = ("recipe", "seed", "epochs", "correct", "images", "top1", "linear_top1", "seconds", "processor_seconds")


def measured(name: str, seed: int, device: str) -> tuple:
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        history = minicnn.train(recipe=name, seed=seed, device=device, out=Path(folder) / "run", quiet=True)
        seconds = round(time.perf_counter() - wall, 1), round(time.process_time() - processor, 1)
    test = history.test
    accuracies = f"{test.top1:.4f}", f"{history.linear_test_top1:.4f}"
    return name, seed, len(history.epochs), test.correct, test.count, *accuracies, *seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=SMALL, choices=SMALL)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, default=None, help="a file that rows are added to")
    arguments = parser.parse_args()
    print(*COLUMNS)
    if arguments.csv and not arguments.csv.exists():
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
    for seed in arguments.seeds:
        for name in arguments.recipes:
            row = measured(name, seed, arguments.device)
            print(*row, flush=True)
            if arguments.csv:
                with arguments.csv.open("a", newline="") as file:
                    csv.writer(file).writerow(row)


if __name__ == "__main__":
    main()
