"""What a person sees while a network trains: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import resource
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


def resident_megabytes() -> float:
    """The largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


class Progress:
    """`say` prints a line that stays; between `start` and `stop` a bar shows the running epoch on a terminal."""

    def __init__(self, quiet: bool = False):
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.bar: RichProgress | None = None

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    @contextlib.contextmanager
    def counting(self, what: str):
        """Yields report(done, total), which keeps a bar, named `what`, at that; on a terminal."""
        if not self.console.is_terminal or self.console.quiet:
            yield lambda done, total: None
            return
        columns = TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn()
        with RichProgress(*columns, console=self.console, transient=True, refresh_per_second=4) as bar:
            task = bar.add_task(what)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def start(self, total_steps: int, done: int) -> None:
        if not self.console.is_terminal or self.console.quiet:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        self.bar = RichProgress(*columns, console=self.console, transient=True, refresh_per_second=4)
        self.task = self.bar.add_task("", total=total_steps, completed=done, figures="")
        self.bar.start()

    def update(self, step: int, epoch: str, *, loss, top1, lr, images_per_second, data_wait) -> None:
        if self.bar is not None:
            figures = (
                f"loss {loss:.4f}  top-1 {top1:.3f}  lr {lr:.2g}  {images_per_second:,.0f} images/s  "
                f"waiting for data {data_wait:.0%}  {resident_megabytes():,.0f} MiB"
            )
            self.advance(step, epoch, figures)

    def advance(self, done: int, description: str, figures: str = "") -> None:
        """So many of the steps are done."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=description, figures=figures)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
