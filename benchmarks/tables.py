"""The tables of a GPU, piece by piece, in the order in which they are wanted: each layer, each product, single forward
passes, whole steps; each of one precision and, where it takes minutes, of one network.

    python benchmarks/tables.py OUT               every piece that OUT lacks, then OUT/tables.md and OUT/roofline_*.png
    python benchmarks/tables.py OUT --list        the pieces; each takes less than eight minutes
    python benchmarks/tables.py OUT PIECE ...     these, anew
    python benchmarks/tables.py OUT --minutes 8   as many as that, and no piece is begun later

With --device emulated the same commands run at sizes that an emulator can do: their times say nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pieces
import roofline

from minicnn import plots

HERE = Path(__file__).resolve().parent
LIMIT = 480  # seconds of a piece
PRECISIONS = ("bfloat16", "float16", "tf32", "float32")
ARITHMETIC = {"tf32x3": {"MINICNN_MATH": "tf32x3"}}  # of float32 layers beside PyTorch's, which have float32 arithmetic
STEPS = ("alexnet_owt", "alexnet", "alexnet_one_tower", "vgg_a", "vgg_d")
BATCHES = {"vgg_a": (64,), "vgg_d": (32,)}  # of a step, whose contenders share the memory; of the others 128 and 1024
LAYERS = ("alexnet", "alexnet_owt", "vgg_a", "vgg_d")
FORWARD = ("alexnet", "vgg16", "vgg19", "alexnet_conv1")


def run(script: str, *options: str, precision: str = "") -> Callable[[Path], None]:
    """A function that has the script write its table to a path."""
    if precision and precision not in ARITHMETIC:
        options += "--precision", precision
    return partial(_run, [str(HERE / f"bench_{script}.py"), *options], ARITHMETIC.get(precision, {}))


def _run(command: list[str], environment: dict[str, str], path: Path) -> None:
    command = [sys.executable, *command, "--out", str(path)]
    subprocess.run(command, check=True, timeout=LIMIT, env=os.environ | environment)


def on_gpu(device: str) -> dict[str, Callable[[Path], None]]:
    found, place = {}, ("--device", device)
    for precision in (*PRECISIONS, *ARITHMETIC):
        for network in LAYERS:
            found[f"conv2d_{network}_{precision}"] = run("conv2d", *place, "--only", f"{network} ", precision=precision)
        found[f"linear_{precision}"] = run("linear", *place, precision=precision)
    for precision in PRECISIONS:  # of which float32 has the rungs of every arithmetic
        found[f"gemm_{precision}"] = run("gemm", *place, precision=precision)
    for network in FORWARD:
        found[f"forward_{network}"] = run("forward", *place, network)
    for network in STEPS:
        for batch in BATCHES.get(network, (128, 1024)):
            for precision in PRECISIONS:
                options = network, "--batch", str(batch), "--rounds", "5"
                found[f"step_{network}_{batch}_{precision}"] = run("step", *place, *options, precision=precision)
    return found


def rehearsal(device: str) -> dict[str, Callable[[Path], None]]:
    """A piece of each kind."""
    place, quick, small = ("--device", device), ("--batch", "1", "--rounds", "1"), ("--image-size", "28")
    two_layers = *place, *quick, *small, "--cold", "--only", "alexnet ", "--cases", "2"
    found = {}
    for op, precisions in {"conv2d": (*PRECISIONS, *ARITHMETIC), "linear": PRECISIONS, "gemm": PRECISIONS}.items():
        found |= {f"{op}_{precision}": run(op, *two_layers, precision=precision) for precision in precisions}
    found["forward_alexnet"] = run("forward", *place, *quick, *small, "alexnet")
    found["step_lenet_1_bfloat16"] = run("step", *place, "lenet", *quick, precision="bfloat16")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of the tables")
    pieces.add_arguments(parser)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    known = (on_gpu if arguments.device.startswith("cuda") else rehearsal)(arguments.device)
    if not pieces.measure(parser, arguments, known, arguments.out):
        return
    for kind in ("conv2d", "linear", "gemm") if plots.available() else ():
        tables = sorted(arguments.out.glob(f"{kind}_*.csv"))
        if tables:
            roofline.draw(tables, arguments.out / f"roofline_{kind}.png")


if __name__ == "__main__":
    main()
