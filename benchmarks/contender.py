"""One contender of a race between processes: builds a network, then makes a training step for each line that it reads.

Each contender has a process of its own, so that each has its own allocator, threads and instruction set, and resident
memory is its alone. Started and asked by bench_cpu.py; answers with one line of JSON for each question.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from pathlib import Path

import torch
from harness import REST
from steps import LAYOUTS, LR, TorchStep, batch_of, our_step, rival_of
from steps import build as construct

from minicnn import backend
from minicnn.threads import thread_count

FIRST_STEPS = 5
LR_OF = {"vgg_d": LR / 10}  # at LR its losses part within five steps, as those of any two roundings would


def build(kind: str, name: str, batch: int):
    """A function that makes one training step of network `name`. Both libraries get the same numbers."""
    network, image_shape = construct(name)
    lr = LR_OF.get(name, LR)
    images, labels = batch_of(name, image_shape, batch)
    if kind == "ours":
        device = backend.device("cpu")
        network.to(device)
        start_of_growth()
        return our_step(network, images, labels, device, lr)
    rival = rival_of(network, image_shape)
    rival.load_state_dict({key: value.clone() for key, value in rival.state_dict().items()}, assign=True)
    del network
    gc.collect()
    start_of_growth()
    layout, _, fused = kind.partition("+")
    return TorchStep(rival, images, labels, "cpu", LAYOUTS[layout], fused == "fused", lr)


def resident(which: str) -> int:
    """Bytes: VmRSS is now, VmHWM the most since start_of_growth()."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


def start_of_growth() -> None:
    """The network is there and nothing else: no gradient, no velocity, no activation."""
    global before
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")


def timed(step) -> float:
    time.sleep(REST["cpu"])
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", help="ours, or PyTorch's NCHW, channels-last, with +fused for its fused SGD")
    parser.add_argument("network")
    parser.add_argument("batch", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    step = build(arguments.kind, arguments.network, arguments.batch)
    answers = {
        "losses": lambda: [step().item() for _ in range(FIRST_STEPS)],
        "seconds": lambda: timed(step),
        "growth": lambda: resident("VmHWM") - before,
    }
    for question in sys.stdin:
        print(json.dumps(answers[question.strip()]()), flush=True)


if __name__ == "__main__":
    main()
