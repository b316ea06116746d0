"""One benchmark of one op: each case is checked against PyTorch first and then timed beside it and its floor.

A bench_<op>.py lists cases; `main` does the rest. On "cuda" PyTorch means cuDNN (benchmark mode, TF32 only where that is
asked for), on the CPU its own kernels; in both it runs in NCHW and in channels-last, and the faster one counts. In 16 bits
both are given their numbers in that format.

Two times: of calls whose data the caches keep as far as they can (warm; on a GPU without the host's work, which a step made as
a graph has not), and with --cold of calls behind a flush of the caches. `score` says where between the rival (1/2) and the
floor (1) ours stands.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import layers
import numpy as np
import torch
from ceilings import Ceilings
from options import device_of, positive, writable
from report import clock, score, write_rows
from timing import Timing, cuda_stopwatch, host_stopwatch, interleaved, single

import minicnn
from minicnn.ops.precision import NAMES, numbers_of
from minicnn.shapes import AUTOMATIC
from minicnn.tensor import Narrow
from minicnn.threads import thread_count

torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

RTOL = {
    "float32": 0.0,
    "tf32x3": 0.0,
    "tf32": 5e-3,
    "float16": 5e-3,
    "bfloat16": 2e-2,
}  # at least, of the largest value
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
REST = {"cuda": 0.0, "cpu": 0.05}  # seconds in which the idle threads of the last contender stop spinning: libgomp's do
FLUSHED = {"cuda": 1 << 30, "cpu": 1 << 26}  # bytes: on a GPU a third of a millisecond, in which the host gets ahead


@dataclass
class Case:
    """One op at one layer's shape.

    inputs         host arrays; those of four dimensions are images (N, H, W, C) or weights (K, R, S, C)
    ours, theirs   the same function on minicnn's and on PyTorch's tensors
    passes         name -> (the inputs that need a gradient, or () for the forward pass, FLOPs, bytes that must move)
    compared       what is compared of a result, for those that are random by design
    """

    name: str
    inputs: list[np.ndarray]
    ours: Callable
    theirs: Callable
    passes: dict[str, tuple[tuple[int, ...], int, int]]
    rtol: float = 1e-3
    compared: Callable[[np.ndarray], np.ndarray] = np.asarray


def device_place(device) -> str:
    """PyTorch's name for the device that a race against it runs on."""
    return "cuda" if device.name.startswith("cuda") else "cpu"


def gradient_of(shape) -> np.ndarray:
    """The same random gradient for both: one of ones would hide terms that cancel."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def run_ours(case: Case, wanted, device, precision: str = "float32") -> tuple[Callable, Callable]:
    """(the pass to time, its results as host arrays)."""
    with minicnn.precision(precision):
        narrow = numbers_of(
            device, np.dtype(np.float32)
        ).narrow  # of 16 bits; None where it is float32 that is computed
    leaves = [leaf(x, device, narrow, i in wanted) for i, x in enumerate(case.inputs)]

    def forward():
        with minicnn.precision(precision):
            return case.ours(*leaves)

    if not wanted:
        forward = minicnn.no_grad()(forward)
        return forward, lambda: [forward().numpy()]
    y = forward()
    y.slot.unmasked = int(narrow is None)  # an op that ends in a ReLU masks this dy itself: not one of 16 bits
    dy = device.array(gradient_of(y.shape))
    dy = dy if y.op.narrow is None else y.op.narrow.operand(dy)

    def backward():
        for i in wanted:
            leaves[i].slot.array, leaves[i].slot.stale = None, True
        y.op.backward(dy)

    return backward, lambda: [leaves[i].grad.numpy() for i in wanted]


def leaf(x, device, narrow, needs_grad: bool):
    """A tensor of these values; of 16 bits what lies so in memory between layers, images and weights."""
    tensor = minicnn.tensor(x, device=device, requires_grad=needs_grad)
    if narrow is not None and x.ndim > 1:
        tensor.held, tensor.slot.numbers = Narrow(narrow.operand(tensor.data), narrow), narrow
    return tensor


def run_torch(case: Case, wanted, place: str, layout, precision: str = "float32") -> tuple[Callable, Callable]:
    """The same with PyTorch: images and weights become NCHW views of the same numbers, in `layout`."""
    dtype = HALVES.get(precision, torch.float32)

    def given(x, needs):
        t = torch.from_numpy(x)
        t = t.to(dtype) if t.is_floating_point() else t
        t = t.permute(0, 3, 1, 2).contiguous(memory_format=layout) if t.ndim == 4 else t
        return t.to(place).requires_grad_(needs)

    def back(t):
        t = t.float() if t.is_floating_point() else t
        return (t.permute(0, 2, 3, 1) if t.ndim == 4 else t).detach().cpu().numpy()

    leaves = [given(x, i in wanted) for i, x in enumerate(case.inputs)]
    if not wanted:

        def forward():
            with torch.no_grad():
                return case.theirs(*leaves)

        return forward, lambda: [back(forward())]
    y = case.theirs(*leaves)
    dy = gradient_of([y.shape[i] for i in (0, 2, 3, 1)] if y.ndim == 4 else y.shape)
    dy = torch.from_numpy(dy).permute(0, 3, 1, 2) if y.ndim == 4 else torch.from_numpy(dy)
    dy = dy.to(y.device, y.dtype)
    dy = dy.contiguous(memory_format=layout) if y.ndim == 4 else dy
    chosen = [leaves[i] for i in wanted]

    def backward():
        return torch.autograd.grad(y, chosen, dy, retain_graph=True)

    return backward, lambda: [back(g) for g in backward()]


def check(case: Case, which: str, ours: list[np.ndarray], theirs: list[np.ndarray], precision: str = "float32") -> None:
    """Nothing is timed that is not right: relative to the largest value, which float32 sums of thousands of terms allow."""
    rtol = max(case.rtol, RTOL[precision])
    for got, expected in zip(ours, theirs, strict=True):
        got, expected = case.compared(got), case.compared(expected.reshape(got.shape))
        worst = float(np.abs(got - expected).max(initial=0))
        allowed = rtol * float(np.abs(expected).max(initial=0))
        if not worst <= allowed:
            raise SystemExit(
                f"{case.name} {which}: differs from PyTorch by {worst:.3g}, allowed {allowed:.3g}; not timed"
            )


class Session:
    """The command line of a benchmark, the device's ceilings, and the rows measured so far."""

    def __init__(self, op: str, add_arguments: Callable = lambda parser: None):
        parser = argparse.ArgumentParser(description=f"{op}: checked, then timed against PyTorch")
        parser.add_argument("--device", default="auto")
        parser.add_argument("--batch", type=positive, default=None, help="images (128 on cuda, 16 elsewhere)")
        parser.add_argument(
            "--image-size", type=positive, default=224, help="pixels, of the networks whose layers these are (224)"
        )
        parser.add_argument("--rounds", type=positive, default=9)
        parser.add_argument("--only", default="", help="cases whose name contains this")
        parser.add_argument("--cases", type=positive, default=None, help="no more than so many of them")
        parser.add_argument("--out", type=writable, default=None, help="a CSV file to write (benchmarks/results/...)")
        parser.add_argument(
            "--cold",
            action=argparse.BooleanOptionalAction,
            default=None,
            help="also time single calls behind a flush of the caches (on cuda)",
        )
        add_arguments(parser)
        self.arguments = arguments = parser.parse_args()
        self.op, self.rounds, self.only, self.out = op, arguments.rounds, arguments.only, arguments.out
        self.cases = arguments.cases
        layers.only, layers.image_size = self.only, arguments.image_size
        torch.set_num_threads(thread_count())
        self.device = device_of(parser, arguments.device)
        self.precision = getattr(arguments, "precision", "float32")
        multiplies = hasattr(arguments, "precision") and self.precision == "float32"
        self.arithmetic = AUTOMATIC.math.name if multiplies else self.precision  # of a row: MINICNN_MATH has its say
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.arithmetic == "tf32"
        self.place = device_place(self.device)
        on_gpu = self.place == "cuda"
        self.cold = on_gpu if arguments.cold is None else arguments.cold
        self.stopwatch = cuda_stopwatch() if on_gpu else host_stopwatch(self.device.synchronize)
        self.flushed = torch.empty(FLUSHED[self.place], dtype=torch.uint8, device=self.place)
        self.batch = arguments.batch or (128 if on_gpu else 16)
        self.ceilings = Ceilings.measure(self.device)
        self.rows: list[dict] = []
        self.width = 8  # of the passes' names
        print(self.ceilings)

    def race(
        self, case: str, which: str, shapes, ours, rivals: dict[str, Callable], flops: int, nbytes: int, precision=None
    ) -> None:
        """Time `ours` among `rivals`, the fastest of which counts; print and keep the row."""
        contenders, precision = {"ours": ours, **rivals}, precision or self.arithmetic
        timings = self.warm(contenders)
        best = min(rivals, key=lambda name: timings[name].median)
        mine, theirs = timings["ours"], timings[best]
        floor = self.ceilings.floor(flops, nbytes, precision)
        row = {
            "op": self.op,
            "case": case,
            "pass": which,
            "precision": precision,
            "shapes": " ".join("x".join(map(str, shape)) for shape in shapes),
            "device": self.device.name,
            "ms": mine.median * 1e3,
            "ms_low": mine.low * 1e3,
            "ms_high": mine.high * 1e3,
            "gflops": flops / mine.median / 1e9,
            "gbytes": nbytes / mine.median / 1e9,
            "floor_percent": 100 * floor / mine.median,
            "rival": best,
            "rival_ms": theirs.median * 1e3,
            "ratio": mine.median / theirs.median,
            "score": score(mine.median, floor, theirs.median),
        }
        row |= self.cold_columns(contenders, floor) if self.cold else {}
        self.rows.append(row | ({"sm_mhz": clock()} if self.place == "cuda" else {}))
        if self.out:
            write_rows(unfinished(self.out), self.rows, self.ceilings)
        print(
            f"{case:<28} {which:<{self.width}} {row['ms']:9.3f} ms  {row['gflops']:8.1f} GFLOP/s  {row['gbytes']:7.1f} GB/s  "
            f"{row['floor_percent']:5.1f}% of floor  {best} {row['rival_ms']:9.3f} ms  ratio {row['ratio']:.2f}",
            flush=True,
        )

    def warm(self, contenders: dict[str, Callable]) -> dict[str, Timing]:
        if self.place == "cpu":
            return interleaved(contenders, self.device.synchronize, self.rounds, rest=REST[self.place])

        def fill(contender):
            self.flush()
            contender()

        return single(contenders, fill, self.stopwatch, self.rounds)

    def flush(self, _contender=None) -> None:
        self.flushed.zero_()

    def cold_columns(self, contenders: dict[str, Callable], floor: float) -> dict:
        """Of the same contenders, of which another may be the fastest rival."""
        timings = single(contenders, self.flush, self.stopwatch, self.rounds)
        mine = timings.pop("ours").median
        theirs = min(timing.median for timing in timings.values())
        return {
            "cold_ms": mine * 1e3,
            "rival_cold_ms": theirs * 1e3,
            "cold_ratio": mine / theirs,
            "cold_score": score(mine, floor, theirs),
        }

    def close(self) -> None:
        if not self.rows:
            raise SystemExit(f"bench {self.op}: no case has {self.only!r} in its name")
        if self.out:
            write_rows(self.out, self.rows, self.ceilings)
            unfinished(self.out).unlink()


def unfinished(path: str) -> Path:
    """What stands there of a table whose benchmark was ended before its end."""
    return Path(path).with_suffix(".unfinished")


def measure(session: Session, case: Case, which: str) -> None:
    """One row of the table: both PyTorch layouts are checked against, the faster one is the rival."""
    wanted, flops, nbytes = case.passes[which]
    precision = session.precision
    ours, our_result = run_ours(case, wanted, session.device, precision)
    rivals = {}
    for name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
        place = device_place(session.device)
        rivals[f"torch {name}"], their_result = run_torch(case, wanted, place, layout, precision)
        ours()
        check(case, which, our_result(), their_result(), session.arithmetic)
    nbytes = nbytes // 2 if precision in HALVES else nbytes
    session.race(case.name, which, [x.shape for x in case.inputs], ours, rivals, flops, nbytes)


def add_precision(parser) -> None:
    parser.add_argument("--precision", choices=NAMES, default="float32", help="of the products (float32)")


def main(op: str, cases: Callable[[int], Iterable[Case]], add_arguments: Callable = lambda parser: None) -> None:
    """What every bench_<op>.py of a graph's op does; add_precision for one that is a matrix product."""
    session = Session(op, add_arguments)
    wanted = (case for case in cases(session.batch) if session.only in case.name)
    for case in itertools.islice(wanted, session.cases):
        for which in case.passes:
            measure(session, case, which)
    session.close()
