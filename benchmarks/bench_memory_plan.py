"""The memory plan beside what training then takes: by the device's own count, and by the process's resident memory.

Each case runs in a process of its own. `python benchmarks/bench_memory_plan.py --device cpu alexnet:16:224 vgg11:64:28`
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
from pathlib import Path

import numpy as np

from minicnn import backend, models
from minicnn.data import ImageBatch
from minicnn.memory_plan import memory_plan
from minicnn.optim import SGD
from minicnn.step import Step
from minicnn.summary import memory

STEPS = 3


def resident(field: str) -> int:
    """VmRSS, the resident bytes now, or VmHWM, the most so far."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) << 10


def measure(name: str, batch: int, size: int, device: str) -> dict[str, int]:
    network, place = models.find(name)(image_size=size), backend.device(device)
    channels = network.options["in_channels"]
    shape = (batch, size, size, channels)
    plan = memory_plan(network, shape, device=place)
    windows, colours = (
        np.arange(batch)[:, None] * [1, 0, 0, 0],
        (np.ones(channels, np.float32), np.zeros((batch, channels), np.float32)),
    )
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before, resident_before = place.start_watch(), resident("VmRSS")
    network.to(place)
    step = Step(network, SGD(network.parameters(), 0.01, momentum=0.9), clip_norm=5.0)
    for _ in range(STEPS):
        step(ImageBatch(images, windows, *colours, (size, size)), np.arange(batch))
    used, held = place.most_memory()
    return {
        "in use, foreseen": plan.peak_bytes,
        **({} if used is None else {"in use": used - before}),
        "held, foreseen": plan.held_bytes,
        "held": held - before,
        "resident growth": resident("VmHWM") - resident_before + sum(p.size * 4 for p in network.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="NETWORK:BATCH:PIXELS")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for case in arguments.cases:
        name, batch, size = case.split(":")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            measured = pool.submit(measure, name, int(batch), int(size), arguments.device).result()
        print(f"{case:<20} {arguments.device:<6}", "  ".join(f"{what} {memory(n)}" for what, n in measured.items()))


if __name__ == "__main__":
    main()
