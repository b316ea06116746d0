"""One benchmark of one op: each case is checked against PyTorch first and then timed beside it and its floor.

A bench_<op>.py lists cases; `main` does the rest. On "cuda" PyTorch means cuDNN (float32, allow_tf32 off, benchmark mode),
on the CPU its own kernels; in both it runs in NCHW and in channels-last, and the faster one counts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from ceilings import Ceilings
from report import write_rows
from timing import Timing, interleaved

import minicnn
from minicnn import backend

torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False


@dataclass
class Case:
    """One op at one layer's shape.

    inputs         host arrays; those of four dimensions are images (N, H, W, C) or weights (K, R, S, C)
    ours, theirs   the same function on minicnn's and on PyTorch's tensors
    passes         name -> (the inputs that need a gradient, or () for the forward pass, FLOPs, bytes that must move)
    """

    name: str
    inputs: list[np.ndarray]
    ours: Callable
    theirs: Callable
    passes: dict[str, tuple[tuple[int, ...], int, int]]
    rtol: float = 1e-3


def device_place(device) -> str:
    """PyTorch's name for the device that a race against it runs on."""
    return "cuda" if device.name.startswith("cuda") else "cpu"


def run_ours(case: Case, wanted, device) -> tuple[Callable, Callable]:
    """(the pass to time, its results as host arrays)."""
    leaves = [minicnn.tensor(x, device=device, requires_grad=i in wanted) for i, x in enumerate(case.inputs)]
    if not wanted:
        with minicnn.no_grad():
            y = case.ours(*leaves)

        def forward():
            with minicnn.no_grad():
                case.ours(*leaves)

        return forward, lambda: [y.numpy()]
    y = case.ours(*leaves)
    dy = device.array(np.ones(y.shape, np.float32))

    def backward():
        for i in wanted:
            leaves[i].zero_grad()
        y.op.backward(dy)

    return backward, lambda: [leaves[i].grad.numpy() for i in wanted]


def run_torch(case: Case, wanted, place: str, layout) -> tuple[Callable, Callable]:
    """The same with PyTorch: images and weights become NCHW views of the same numbers, in `layout`."""

    def given(x, needs):
        t = torch.from_numpy(x)
        t = t.permute(0, 3, 1, 2).contiguous(memory_format=layout) if t.ndim == 4 else t
        return t.to(place).requires_grad_(needs)

    def back(t):
        return (t.permute(0, 2, 3, 1) if t.ndim == 4 else t).detach().cpu().numpy()

    leaves = [given(x, i in wanted) for i, x in enumerate(case.inputs)]
    if not wanted:

        def forward():
            with torch.no_grad():
                return case.theirs(*leaves)

        return forward, lambda: [back(forward())]
    y = case.theirs(*leaves)
    dy = torch.ones_like(y)
    chosen = [leaves[i] for i in wanted]

    def backward():
        return torch.autograd.grad(y, chosen, dy, retain_graph=True)

    return backward, lambda: [back(g) for g in backward()]


def check(case: Case, which: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Nothing is timed that is not right: relative to the largest value, which float32 sums of thousands of terms allow."""
    for got, expected in zip(ours, theirs, strict=True):
        worst = float(np.abs(got - expected.reshape(got.shape)).max(initial=0))
        allowed = case.rtol * float(np.abs(expected).max(initial=0))
        if not worst <= allowed:
            raise SystemExit(
                f"{case.name} {which}: differs from PyTorch by {worst:.3g}, allowed {allowed:.3g}; not timed"
            )


def measure(op: str, case: Case, which: str, device, ceilings: Ceilings, rounds: int) -> dict:
    """One row of the table."""
    wanted, flops, nbytes = case.passes[which]
    place = device_place(device)
    ours, our_result = run_ours(case, wanted, device)
    rivals = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
        rivals[name], their_result = run_torch(case, wanted, place, layout)
        ours()
        check(case, which, our_result(), their_result())
    timings = interleaved({"ours": ours, **rivals}, device.synchronize, rounds)
    best = min(rivals, key=lambda name: timings[name].median)
    return row_of(op, case, which, device, timings["ours"], best, timings[best], flops, nbytes, ceilings)


def row_of(op, case, which, device, ours: Timing, best: str, theirs: Timing, flops, nbytes, ceilings: Ceilings) -> dict:
    floor = ceilings.floor(flops, nbytes)
    return {
        "op": op,
        "case": case.name,
        "pass": which,
        "shapes": " ".join("x".join(map(str, x.shape)) for x in case.inputs if x.size > 1),
        "device": device.name,
        "ms": ours.median * 1e3,
        "ms_low": ours.low * 1e3,
        "ms_high": ours.high * 1e3,
        "gflops": flops / ours.median / 1e9,
        "gbytes": nbytes / ours.median / 1e9,
        "floor_percent": 100 * floor / ours.median,
        "rival": f"torch {best}",
        "rival_ms": theirs.median * 1e3,
        "ratio": ours.median / theirs.median,
    }


def main(op: str, cases: Callable[[int], Iterable[Case]]) -> None:
    """The command line of every bench_<op>.py."""
    parser = argparse.ArgumentParser(description=f"{op}: checked, then timed against PyTorch")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=None, help="images (128 on cuda, 16 elsewhere)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", default=None, help="a CSV file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    device = backend.device(arguments.device)
    ceilings = Ceilings.measure(device)
    print(ceilings)
    batch = arguments.batch or (128 if device_place(device) == "cuda" else 16)
    rows = []
    for case in cases(batch):
        if arguments.only not in case.name:
            continue
        for which in case.passes:
            row = measure(op, case, which, device, ceilings, arguments.rounds)
            rows.append(row)
            print(
                f"{row['case']:<28} {row['pass']:<8} {row['ms']:9.3f} ms  {row['gflops']:8.1f} GFLOP/s  {row['gbytes']:7.1f} GB/s  "
                f"{row['floor_percent']:5.1f}% of floor  {row['rival']} {row['rival_ms']:9.3f} ms  ratio {row['ratio']:.2f}",
                flush=True,
            )
    if arguments.out:
        write_rows(arguments.out, rows, ceilings)
