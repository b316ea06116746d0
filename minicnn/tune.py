"""tune(): the quickest schedule of each matrix product of a training step, measured once and kept for later runs."""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minicnn import backend, choices
from minicnn.choices import Choices, Product
from minicnn.layerwise import told_apart
from minicnn.memory_plan import blank_batch
from minicnn.nn import Module
from minicnn.optim import SGD
from minicnn.shapes import Schedule
from minicnn.step import Step

TILES, SPLITS = (64, 128), (1, 2, 4, 8, 16, 32)
CANDIDATES = ((0, 0), *itertools.product(TILES, SPLITS))  # (0, 0): what the kernel chooses
ROUNDS, LAUNCHES = 5, 10  # medians of so many rounds, each of so many launches
ENOUGH = 5e-3  # seconds of a round, behind which it makes no further launch
LEAST_GAIN = 0.03  # what is no quicker than that by its own choice stays with it


class Row(NamedTuple):
    """One product: where it is computed, seconds by its kernel's own choice and by the best schedule."""

    layer: str
    product: Product
    own_seconds: float
    seconds: float
    schedule: tuple[int, int]

    @property
    def gain(self) -> float:
        return self.own_seconds / self.seconds


class Tuned(NamedTuple):
    """The products in the order of the step, each once; str() is a table. `file` is where their schedules are kept."""

    device: str
    rows: list[Row]
    file: Path

    def as_dict(self) -> dict:
        names = ("layer", "kernel", "extents", "math", "own_seconds", "seconds", "tile", "splits")
        rows = [
            (r.layer, *r.product[:2], r.product.math.name, r.own_seconds, r.seconds, *r.schedule) for r in self.rows
        ]
        return {
            "device": self.device,
            "rows": [dict(zip(names, row, strict=True)) for row in rows],
            "file": str(self.file),
        }

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        own, best = (1e3 * sum(getattr(row, name) for row in self.rows) for name in ("own_seconds", "seconds"))
        table = Table(show_footer=True)
        for heading, total in (("layer", "total"), ("kernel", ""), ("extents", "")):
            table.add_column(heading, total)
        numbers = ("own choice", f"{own:.3f} ms"), ("best", f"{best:.3f} ms"), ("tile", ""), ("splits", "")
        for heading, total in (*numbers, ("times", f"{own / best:.2f}")):
            table.add_column(heading, total, justify="right")
        for row in self.rows:
            kernel, extents = row.product.kernel, " ".join(map(str, row.product.extents))
            times = (f"{1e3 * seconds:.3f} ms" for seconds in (row.own_seconds, row.seconds))
            cut = map(str, row.schedule) if row.schedule != (0, 0) else ("", "")
            table.add_row(row.layer, kernel, extents, *times, *cut, f"{row.gain:.2f}")
        text = io.StringIO()
        Console(file=text, width=160, color_system=None).print(table)
        return "\n".join(line.rstrip() for line in [*text.getvalue().splitlines(), f"kept in {self.file}"])


class Tuner(Choices):
    """Measures each product when it first comes, in every schedule that its kernel takes."""

    def __init__(self, device: backend.Device, on_row: Callable[[Row], None]):
        super().__init__()
        self.device, self.on_row = device, on_row
        self.layer, self.rows = "", {}

    def run(self, kernel, extents, asked, launch, fits) -> None:
        product = Product(kernel, tuple(extents), asked.math)
        if product not in self.rows:
            self.rows[product] = row = self.measure(product, launch, fits)
            self.on_row(row)
        launch(Schedule(*self.rows[product].schedule, asked.math))

    def measure(self, product: Product, launch, fits) -> Row:
        seconds = {}
        for candidate in CANDIDATES:
            schedule = Schedule(*candidate, product.math)
            if not fits(schedule):
                continue
            launch(schedule)  # of no interest: code and workspace come into being
            launches = max(1, min(LAUNCHES, int(ENOUGH / self.seconds_of(launch, schedule, 1))))
            times = [self.seconds_of(launch, schedule, launches) for _ in range(ROUNDS)]
            seconds[candidate] = statistics.median(times)
        own, best = seconds[0, 0], min(seconds, key=seconds.get)
        chosen = best if seconds[best] < (1 - LEAST_GAIN) * own else (0, 0)
        return Row(self.layer, product, own, seconds[chosen], chosen)

    def seconds_of(self, launch, schedule: Schedule, launches: int) -> float:
        """Of one launch, the mean of so many."""
        self.device.synchronize()
        started = time.perf_counter()
        for _ in range(launches):
            launch(schedule)
        self.device.synchronize()
        return (time.perf_counter() - started) / launches


def tune(
    model: Module, input_shape: tuple[int, ...], *, device="auto", precision="float32", on_row=lambda row: None
) -> Tuned:
    """Measure the schedules of every convolution and fully connected layer of one training step on images of input_shape
    (N, H, W, C), and keep the best for all later runs on this device with this driver and version of minicnn.

    The bits of a result depend on its schedule (the order of sums): a run says in config.json which were in force.
    The model goes to the device and its weights are worth nothing afterwards. on_row is called with each Row when it is there.

    Raises DeviceError for a device whose kernels obey no schedule: "cpu", "numpy".
    """
    place = backend.device(device)
    place.new_graph()  # where there are graphs there are schedules
    step = Step(model.to(place).train(), SGD(model.parameters(), lr=0.0), numbers=precision)
    tuner, before = Tuner(place, on_row), place.choices

    def enter(part) -> None:
        tuner.layer = part.path

    place.choices = tuner
    try:
        with told_apart(step, enter):
            step(*blank_batch(input_shape))
    finally:
        place.choices = before
    best = {str(p): list(row.schedule) for p, row in tuner.rows.items() if row.schedule != (0, 0)}
    path = choices.save(place.identity(), Choices(best))
    return Tuned(place.name, list(tuner.rows.values()), path)
