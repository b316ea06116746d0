"""Where a training step's time goes: each layer forward and backward, loss, optimizer, loader; beside the floor."""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minicnn import backend, data, plots
from minicnn.layerwise import Part, told_apart
from minicnn.models import Network
from minicnn.nn import Module
from minicnn.optim import SGD
from minicnn.step import Step
from minicnn.summary import H100, Machine, summary
from minicnn.threads import in_shares, one_blas_thread, thread_count

WARMUP = 2  # steps: memory is allocated, caches and clocks come up
# Of a ceiling's measurement on the host: the matrices' side, bytes a thread, rounds.
MATRIX, COPIED, ROUNDS = 768, 32 << 20, 5
H100_TENSOR_CORES = {"tf32": 494.7e12, "bfloat16": 989.4e12, "float16": 989.4e12}  # FLOP/s, dense, by the data sheet


class Row(NamedTuple):
    """Seconds of one part of a step, medians over the steps.

    layer          its class, and those of the layers that its op computes too ("Conv2d + ReLU"); "" of what is no layer
    floor_seconds  of both passes, as in minicnn.summary; None where the machine's ceilings are not known
    """

    path: str
    layer: str
    forward_seconds: float
    backward_seconds: float
    floor_seconds: float | None

    @property
    def seconds(self) -> float:
        return self.forward_seconds + self.backward_seconds


class Profile(NamedTuple):
    """The rows in the order of the step; str() is a table, as_dict() goes into JSON.

    step_seconds    median of whole steps that nobody watches. The rows' sum is a little more: they are told apart by
                    waiting for the device at each border
    loader_seconds  for one batch, by one thread, of images that lie in memory; while training it runs beside the step
    machine         whose ceilings give the floors; None: none are known, as of the emulated device. A convolution by
                    Winograd's algorithm multiplies less than the formula, and may come out below its floor
    """

    title: str
    device: str
    input_shape: tuple[int, ...]
    steps: int
    rows: list[Row]
    step_seconds: float
    loader_seconds: float
    machine: Machine | None

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    def share(self, row: Row) -> float:
        return row.seconds / self.seconds

    def draw(self, path: str | Path) -> None:
        """Write the rows as a picture; needs matplotlib."""
        parts = {f"{row.path}  {row.layer}".strip(): row[2:] for row in self.rows if self.share(row) > 1e-3}
        title = f"{self.title}, batch {self.input_shape[0]}, on {self.device}: {_ms(self.step_seconds)} ms a step"
        plots.where_time_goes(parts, path, title)

    def as_dict(self) -> dict:
        """Everything as numbers, strings, lists and dicts."""
        rows = [row._asdict() | {"share": self.share(row)} for row in self.rows]
        return self._asdict() | {"rows": rows, "machine": self.machine and self.machine._asdict()}

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.title}: x {self.input_shape}, on {self.device}, ms", show_footer=True)
        table.add_column("layer", "told apart", no_wrap=True)
        table.add_column("", no_wrap=True)
        forward, backward = (sum(row[i] for row in self.rows) for i in (2, 3))
        footers = (_ms(forward), _ms(backward), _ms(self.seconds), "", "", "")
        headings = ("forward", "backward", "both", "of the step", "floor", "times the floor")
        for heading, footer in zip(headings, footers, strict=True):
            table.add_column(heading, footer, justify="right", no_wrap=True)
        for row in self.rows:
            floor = (
                ("", "")
                if not row.floor_seconds
                else (_ms(row.floor_seconds), f"{row.seconds / row.floor_seconds:.2f}")
            )
            times = (row.forward_seconds, row.backward_seconds, row.seconds)
            table.add_row(row.path, row.layer, *map(_ms, times), f"{self.share(row):.1%}", *floor)
        text = io.StringIO()
        Console(file=text, width=180, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        images = self.input_shape[0] / self.step_seconds
        lines.append(f"step: {_ms(self.step_seconds)} ms, {images:,.0f} images/s (median of {self.steps})")
        lines.append(f"loader: {_ms(self.loader_seconds)} ms a batch, beside the step")
        if self.machine:
            rates = f"{self.machine.flops / 1e9:,.0f} GFLOP/s, {self.machine.bandwidth / 1e9:,.1f} GB/s"
            lines.append(f"floor: at the ceilings of {self.machine.name}: {rates}")
        return "\n".join(lines)


def profile(
    model: Module, input_shape: tuple[int, ...], *, device="auto", steps: int = 10, precision: str = "float32"
) -> Profile:
    """Time `steps` training steps (forward, cross-entropy or the model's own loss, backward, SGD) on batches of random
    images of input_shape (N, H, W, C), in a precision as minicnn.precision has them.

    The model goes to the device, and its running statistics and dropout counters move on; its weights stay as they are.
    On "cuda" each part is an NVTX range. Raises ValueError for steps < 1.
    """
    if steps < 1:
        raise ValueError(f"profile: steps must be at least 1, got {steps}")
    place = backend.device(device)
    model.to(place).train()
    step = Step(model, SGD(model.parameters(), lr=0.0, momentum=0.9), numbers=precision)
    classes = getattr(model, "options", {}).get("num_classes", 2)
    batches, loading, whole, clock = _random_batches(input_shape, classes), [], [], Clock(place)
    for i in range(WARMUP + 2 * steps):
        seconds, batch = _timed(lambda: next(batches), place)
        loading.append(seconds)
        if i >= WARMUP + steps:
            with told_apart(step, clock.enter):
                step(*batch)
            clock.stop()
        else:
            whole.append(_timed(lambda batch=batch: step(*batch), place)[0])
    machine = ceilings(place, precision)
    return Profile(
        title=f"{model.name}, {model.form} form" if isinstance(model, Network) else type(model).__name__,
        device=place.name,
        input_shape=tuple(input_shape),
        steps=steps,
        rows=_rows(clock.medians(), summary(model, input_shape, machine or H100).rows, machine is not None),
        step_seconds=statistics.median(whole[WARMUP:]),
        loader_seconds=statistics.median(loading[WARMUP:]),
        machine=machine,
    )


class Clock:
    """Adds up, step by step, the time in which each part was the running one."""

    def __init__(self, device: backend.Device):
        self.device = device
        self.part: Part | None = None
        self.steps: list[Counter[Part]] = []
        self.seconds: Counter[Part] = Counter()

    def enter(self, part: Part | None) -> None:
        self.device.synchronize()
        now = time.perf_counter()
        if self.part is not None:
            self.seconds[self.part] += now - self.since
            self.device.end_range()
        if part is not None:
            self.device.begin_range(" ".join(filter(None, part)))
        self.part, self.since = part, time.perf_counter()

    def stop(self) -> None:
        """The end of a step."""
        self.enter(None)
        self.steps.append(self.seconds)
        self.seconds = Counter()

    def medians(self) -> dict[Part, float]:
        """In the order in which the parts were first entered."""
        return {part: statistics.median(step[part] for step in self.steps) for part in self.steps[0]}


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:,.0f}"


def _timed(function, device):
    device.synchronize()
    started = time.perf_counter()
    result = function()
    device.synchronize()
    return time.perf_counter() - started, result


def _random_batches(shape: tuple[int, ...], classes: int) -> Iterator:
    """Batches as `train` makes them, shuffled and mirrored at random, each of the same images: one an epoch, for ever."""
    rng = np.random.default_rng(0)
    images = data.ArrayDataset(rng.integers(0, 256, shape, np.uint8), np.arange(shape[0]) % classes)
    prepare = data.Prepare(data.ChannelStatistics.of(images), data.Augment(mirror=True))
    loader = data.Loader(images, shape[0], prepare, shuffle=True, prefetch=0)
    return itertools.chain.from_iterable(map(loader.iterate, itertools.count()))


def _rows(medians: dict[Part, float], layers, floors: bool) -> list[Row]:
    """The layers that took time, with the names of those that they took along, and what is no layer."""
    forward = {part.path: seconds for part, seconds in medians.items() if part.direction != "backward"}
    backward = {part.path: seconds for part, seconds in medians.items() if part.direction == "backward"}
    names: dict[str, list[str]] = {}
    floor: Counter[str] = Counter()
    computing = ""
    for layer in layers:
        computing = layer.path if layer.path in forward else computing
        names.setdefault(computing, []).append(layer.layer)
        if layer.path == computing:
            floor[layer.path] += layer.floor_seconds
    return [
        Row(
            path,
            " + ".join(dict.fromkeys(names.get(path, []))),
            seconds,
            backward.get(path, 0.0),
            floor[path] if floors and path in names else None,
        )
        for path, seconds in forward.items()
    ]


def ceilings(device: backend.Device, precision: str = "float32") -> Machine | None:
    """What the device can do at most: measured on the host, where every precision is computed in float32; an H100's by its
    data sheet; None where nobody knows."""
    if not device.computes_on_host:
        flops = H100_TENSOR_CORES.get(precision, H100.flops)
        return H100._replace(flops=flops) if "H100" in device.hardware() else None
    threads = thread_count()
    factors = [np.random.default_rng(i).standard_normal((MATRIX, MATRIX), np.float32) for i in range(threads)]
    products = [np.empty_like(factor) for factor in factors]
    sources = [np.ones(COPIED, np.uint8) for _ in range(threads)]
    targets = [np.ones(COPIED, np.uint8) for _ in range(threads)]

    def best(work) -> float:
        with one_blas_thread():
            return min(_timed(lambda: in_shares(work, threads, 1 << 30), device)[0] for _ in range(ROUNDS))

    def multiply(share: slice) -> None:
        for i in range(share.start, share.stop):
            np.matmul(factors[i], factors[i], out=products[i])

    def copy(share: slice) -> None:
        for i in range(share.start, share.stop):
            targets[i][...] = sources[i]

    flops, bandwidth = threads * 2 * MATRIX**3 / best(multiply), threads * 2 * COPIED / best(copy)
    return Machine(f"this machine's {threads} threads as measured (BLAS, copies)", flops, bandwidth)
