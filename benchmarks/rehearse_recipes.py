"""The recipes for images of full size, each for an epoch or a few on a handful of photographs: from the command line that a
user would type, through its start from another run, to the result on the test images.

It shows that each can be run, starts where it says, and moves; not how good it gets: that takes a GPU and ImageNet.

    python benchmarks/rehearse_recipes.py OUT [--recipes alexnet-paper ...] [--classes 4] [--images 40] [--device cpu]

The runs lie in OUT/runs, and what each printed beside it; a recipe whose run is there is not run again. OUT/recipes.csv has
a line for each.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from photos import make_photos

from minicnn import recipes

FULL_SIZE = sorted((name for name in recipes.NAMES if not name.endswith("-small")), key=lambda name: (len(name), name))
COLUMNS = ("recipe", "starts from", "steps", "first loss", "last epoch's loss", "said at the end", "seconds")
EPOCHS = {"alexnet": 8, "vgg": 1}  # by the recipe's first word
BATCH = 16  # the rates follow, in proportion


def rehearse(out: Path, name: str, device: str) -> tuple:
    epochs = EPOCHS[name.partition("-")[0]]
    command = [sys.executable, "-P", "-m", "minicnn", "train", "--recipe", name, "--data", "photos", "--device", device]
    published = recipes.load(name).settings
    lr = published["lr"] * BATCH / published["batch_size"]
    changed = f"epochs={epochs}", f"batch_size={BATCH}", f"micro_batch={BATCH // 2}", f"lr={lr}", "warmup_steps=0"
    command += ["--set", *changed]
    begin = time.perf_counter()
    with (out / f"{name}.log").open("w") as log:
        subprocess.run(command, cwd=out, stdout=log, stderr=subprocess.STDOUT, check=False)  # at chance it exits with 1
    seconds = time.perf_counter() - begin
    run = out / "runs" / name
    losses = [json.loads(line)["loss"] for line in (run / "steps.jsonl").read_text().splitlines()]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    said = [line for line in (out / f"{name}.log").read_text().splitlines() if "accuracy" in line]
    start = recipes.load(name).start.get("from", "")
    numbers = len(losses), f"{losses[0]:.4f}", f"{last['train_loss']:.4f}"
    return name, start, *numbers, said[-1] if said else "", round(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipes", nargs="+", default=FULL_SIZE, choices=FULL_SIZE)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--images", type=int, default=16, help="of each class")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.out / "photos").exists():
        make_photos(arguments.out / "photos", arguments.images * arguments.classes, arguments.classes)
    table = arguments.out / "recipes.csv"
    if not table.exists():
        table.write_text(",".join(COLUMNS) + "\n")
    for name in arguments.recipes:
        if (arguments.out / "runs" / name).exists():
            continue
        row = rehearse(arguments.out, name, arguments.device)
        print(*row, flush=True)
        with table.open("a", newline="") as file:
            csv.writer(file).writerow(row)


if __name__ == "__main__":
    main()
