"""Whole training steps (forward, loss, backward, SGD with momentum) beside PyTorch's, interleaved, losses compared.

Ours runs kernel by kernel and, where the device has graphs, as one graph; in float32 also with SGD within the walk backward.
PyTorch runs in NCHW and in channels-last, on a GPU with fused SGD, also compiled and as a CUDA graph; the fastest counts.
All compute in --precision, PyTorch by autocast. Dropout is off, so that the losses of the first steps can be compared. The
floor is that of `minicnn.summary`, each layer's bytes or operations, at the ceilings that ceilings.py measures here.

First each contender is alone and makes three steps. Their losses are compared, and its peak memory is taken: what network,
gradients, velocities, batch, activations and workspaces have of the device, all that its library keeps for them included;
of PyTorch's first step, which tries algorithms, only what stays. On a GPU and of the emulated device it is the library's
count, on device "cpu", in float32, the growth of resident memory of a process of its own (contender.py).
Then they take turns, loading excluded: the batch lies on the device. Last the fastest of ours and of PyTorch's take turns
with loading included (loading.py), each with --workers.

    python benchmarks/bench_step.py alexnet_owt --batch 16
    python benchmarks/bench_step.py alexnet --device cuda --batch 128 --precision bfloat16
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
from collections.abc import Callable
from functools import partial

import loading
import numpy as np
import torch
from ceilings import Ceilings
from harness import REST, device_place
from options import device_of, positive, writable
from process import Process, threads_of
from report import write_rows
from steps import LAYOUTS, TorchStep, batch_of, build, classes, our_step, rival_of
from timing import interleaved

import minicnn
from minicnn import models
from minicnn.summary import Machine

RTOL = {"float32": 1e-3, "tf32": 5e-3, "bfloat16": 3e-2, "float16": 5e-3}  # of losses, by precision
FIRST_STEPS = 3
BATCHES = {"cuda": 100, "cpu": 6}  # of an epoch with loading


def contenders(name: str, device, batch: int, precision: str) -> dict[str, Callable]:
    """What makes each contender: a function that makes a step and returns its loss."""
    image_shape = build(name)[1]
    images, labels = batch_of(name, image_shape, batch)
    place, on_gpu = device_place(device), device.name.startswith("cuda")
    original = rival_of(build(name)[0], image_shape)

    def ours(how):
        return our_step(build(name)[0].to(device), images, labels, device, precision=precision, how=how)

    def theirs(layout, how):
        rival = copy.deepcopy(original)
        return TorchStep(rival, images, labels, place, layout, True if on_gpu else None, precision=precision, how=how)

    found = {"ours": partial(ours, "eager")}
    if not device.computes_on_host:
        hows = ["graph"] + ["graph, step in backward"] * (precision == "float32")
        found |= {f"ours, {how}": partial(ours, how) for how in hows}
    for layout_name, layout in LAYOUTS.items():
        for how in ("eager", "compiled", "graph") if on_gpu else ("eager",):
            found[f"torch {layout_name}" + (f", {how}" if on_gpu else "")] = partial(theirs, layout, how)
    return found


# Each alone: losses and memory.


def alone(name: str, make: Callable, device) -> tuple[list[float], float | None]:
    """(losses of the first steps, peak memory in MiB)."""
    taken = watch(name, device)
    step = make()
    losses = [step().item()]
    if not name.startswith("ours") and device_place(device) == "cuda":
        forget_free_memory()
    losses += [step().item() for _ in range(1, FIRST_STEPS)]
    nbytes = taken()
    del step
    gc.collect()
    return losses, None if nbytes is None else nbytes / 2**20


def watch(name: str, device) -> Callable[[], int | None]:
    """A function that says how many bytes of the device a contender has taken since, at most; None where nobody counts."""
    gc.collect()
    if name.startswith("ours"):
        before = device.start_watch()
        return lambda: device.most_memory()[1] - before
    if device_place(device) != "cuda":
        return lambda: None
    forget_free_memory()
    before = torch.cuda.memory_reserved()
    return lambda: torch.cuda.max_memory_reserved() - before


def forget_free_memory() -> None:
    """PyTorch's, of the GPU: the peak is what is in use now."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def resident_growth(name: str, network: str, batch: int, threads: int) -> float:
    """MiB of a contender on the CPU, in a process of its own; beside what contender.py counts, the network's weights."""
    contender = Process(name.removeprefix("torch "), network, batch, threads_of(threads))
    try:
        contender.ask("losses")
        growth = contender.ask("growth")
    finally:
        contender.close()
    return (growth + sum(p.size * p.dtype.itemsize for p in build(network)[0].parameters())) / 2**20


# The race.


def floor_seconds(name: str, device, batch: int, precision: str) -> float:
    """Of a step: what no kernels of layer after layer come below."""
    ceilings = Ceilings.measure(device)
    print(ceilings)
    machine = Machine(device.name, ceilings.tensor_cores.get(precision, ceilings.flops), ceilings.bandwidth)
    network, image_shape = build(name)
    return minicnn.summary(network.to(device), (batch, *image_shape), machine).floor_seconds


def loaded_speeds(arguments, device, ours: str, best: str, rival: TorchStep) -> dict[str, float]:
    """Images a second with loading included, of our way `ours` and of the rival called `best`."""
    network, image_shape = build(arguments.network)
    batches = arguments.batches or BATCHES[device_place(device)]
    dataset = loading.pictures(image_shape, classes(arguments.network), batches * arguments.batch)
    common = dataset, image_shape, arguments.batch, arguments.workers
    epochs = {
        ours: loading.our_epoch(network.to(device), *common, arguments.precision, "graph" in ours, "backward" in ours),
        best: loading.their_epoch(rival, *common),
    }
    timings = loading.race(epochs, device.synchronize, min(arguments.rounds, 3))
    return {name: 1 / timing.median for name, timing in timings.items()}


def fastest(timings: dict, *, ours: bool) -> str:
    return min((name for name in timings if name.startswith("ours") is ours), key=lambda name: timings[name].median)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"lenet, or one of {', '.join(models.CONSTRUCTORS)}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--precision", choices=RTOL, default="float32")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count()), help="of each loader")
    parser.add_argument("--batches", type=int, default=None, help="of an epoch with loading (100 on cuda, 6 elsewhere)")
    parser.add_argument("--out", type=writable, default=None, help="a CSV file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.precision != "float32"
    device = device_of(parser, arguments.device)
    makers = contenders(arguments.network, device, arguments.batch, arguments.precision)
    mib = agreeing(makers, arguments, device)
    floor = floor_seconds(arguments.network, device, arguments.batch, arguments.precision)
    steps, rest = {name: make() for name, make in makers.items()}, REST[device_place(device)]
    timings = interleaved(steps, device.synchronize, arguments.rounds, seconds=0, rest=rest)
    ours, best = fastest(timings, ours=True), fastest(timings, ours=False)
    loaded = loaded_speeds(arguments, device, ours, best, steps[best])
    rows = []
    for name, t in timings.items():
        row = {
            "op": f"step {arguments.network}",
            "case": f"batch {arguments.batch}, {arguments.precision}, {name}",
            "device": device.name,
            "ms": t.median * 1e3,
            "ms_low": t.low * 1e3,
            "ms_high": t.high * 1e3,
            "images_per_second": arguments.batch / t.median,
            "loaded_images_per_second": loaded.get(name, ""),
            "peak_mib": "" if mib[name] is None else mib[name],
            "floor_percent": 100 * floor / t.median,
            "ratio": timings[ours].median / t.median,
        }
        rows.append(row)
        print(described(name, row, ours), flush=True)
    print(f"{ours} to PyTorch's fastest ({best}): {timings[ours].median / timings[best].median:.3f}")
    if arguments.out:
        write_rows(arguments.out, rows)


def agreeing(makers: dict[str, Callable], arguments, device) -> dict[str, float | None]:
    """The peak memory of each contender, alone, in MiB, whose first losses are ours. Nothing is timed where they are not."""
    mib, expected = {}, None
    for name, make in makers.items():
        losses, mib[name] = alone(name, make, device)
        expected = expected or losses
        print(f"{name:<32} losses of the first steps " + " ".join(f"{v:.6f}" for v in losses), flush=True)
        if not np.allclose(losses, expected, rtol=RTOL[arguments.precision]):
            raise SystemExit("the losses part: not the same computation, nothing timed")
        if device.name == "cpu":
            known = arguments.precision == "float32"
            mib[name] = resident_growth(name, arguments.network, arguments.batch, arguments.threads) if known else None
    return mib


def described(name: str, row: dict, ours: str) -> str:
    """A line for the terminal."""
    loaded = f"{row['loaded_images_per_second']:9.1f} with loading" if row["loaded_images_per_second"] else " " * 22
    peak = f"{row['peak_mib']:9.1f} MiB" if row["peak_mib"] != "" else " " * 13
    return (
        f"{name:<32} {row['ms']:9.2f} ms  [{row['ms_low']:.2f} .. {row['ms_high']:.2f}]  "
        f"{row['images_per_second']:9.1f} images/s  {loaded}  {peak}  {row['floor_percent']:5.1f}% of floor  "
        f"{ours} / this {row['ratio']:.3f}"
    )


if __name__ == "__main__":
    main()
