"""Every network trained on the bundled images on the CPU: a row each in benchmarks/results/networks/, and a Markdown table.

Networks that have their row are left out, so that a stopped run goes on. `python benchmarks/train_networks.py [NETWORK ...]`
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from minicnn import data, models, train
from minicnn.errors import TrainingError

FOLDER = Path(__file__).parent / "results" / "networks"
TABLE, PAGE = FOLDER / "trained.csv", FOLDER / "trained.md"
COLUMNS = ("network", "form", "parameters", "images", "epochs", "test_top1", "test_top5", "seconds", "outcome")

# Epochs and training images (None: all 9,000) of each: what a CPU manages in a few minutes.
PLANS = {
    "lenet": (5, None),
    "lenet5": (5, None),
    "vgg_a": (4, None),
    "googlenet": (3, None),
    "googlenet_bn": (3, None),
    "alexnet": (3, None),
    "resnet18": (2, None),
    "plain18": (2, None),
    "alexnet_owt": (3, None),
    "vgg16_bn": (3, None),
    "alexnet_one_tower": (3, None),
    "vgg_d": (4, None),
    "nin": (5, None),
    "resnet34": (2, None),
    "plain34": (2, None),
    "resnet50": (2, None),
    "vgg_a_lrn": (4, None),
    "vgg_b": (4, None),
    "vgg_c": (4, None),
    "vgg_e": (4, None),
}


def trained(name: str, epochs: int, images: int | None) -> dict:
    """One network's row."""
    splits = data.open(data.DEFAULT)
    if images is not None:
        some = data.Subset(splits.train, np.arange(images))
        splits = data.Splits(splits.name, some, splits.validation, splits.test)
    h, _, c = splits.image_shape
    network = models.find(name)(num_classes=len(splits.class_names), image_size=h, in_channels=c)
    row = {"network": name, "form": network.form, "parameters": sum(p.size for p in network.parameters())}
    row |= {"images": len(splits.train), "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        try:
            history = train(models.find(name), splits, device="cpu", out=Path(folder) / name, epochs=epochs)
        except TrainingError as error:
            return row | {"outcome": str(error)}
    seconds = sum(epoch["seconds"] for epoch in history.epochs)
    scores = {"test_top1": history.test.top1, "test_top5": history.test.top5}
    return row | scores | {"seconds": round(seconds, 1), "outcome": "trained"}


def rows() -> list[dict]:
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(row: dict) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if new:
            table.writeheader()
        table.writerow(row)
    PAGE.write_text(page(rows()))


def page(kept: list[dict]) -> str:
    lines = [
        "# Every network, trained on the bundled images",
        "",
        "Fashion-MNIST, 28 pixels, 2,000 test images; on the CPU, with the settings of `minicnn train` but for the epochs.",
        "Small forms are those of the networks' own pages (minicnn/models). The seconds are those of a machine whose two cores",
        "other work shared: they say which network is dearer, not how fast it can be.",
        "",
        "| network | form | parameters | images | epochs | test accuracy | top-5 | s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in kept:
        scores = [f"{float(row[key]):.4f}" if row[key] else "" for key in ("test_top1", "test_top5")]
        counts = [f"{int(row[key]):,}" for key in ("parameters", "images", "epochs")]
        scores = scores if row["outcome"] == "trained" else [row["outcome"], ""]
        seconds = f"{float(row['seconds']):,.0f}" if row["seconds"] else ""
        lines.append("| " + " | ".join([row["network"], row["form"], *counts, *scores, seconds]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="all of them")
    done = {row["network"] for row in rows()}
    for name in parser.parse_args().networks or PLANS:
        if name not in done:
            keep(trained(name, *PLANS[name]))


if __name__ == "__main__":
    main()
