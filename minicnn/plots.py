"""Pictures of a training run and of measurements, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

INK, LEARNED, HELD_OUT = "#333333", "#1f77b4", "#d62728"


def available() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(metrics: list[dict], path: str | Path, title: str) -> None:
    """Loss, top-1 error and learning rate over the epochs: `metrics` as in metrics.jsonl."""
    figure = new_figure(10, 3.2)
    loss, error, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in metrics]
    panels = ((loss, "loss", "loss", lambda v: v), (error, "top-1 error (%)", "top1", lambda v: 100 * (1 - v)))
    for axes, label, key, shown in panels:
        for split, colour, name in (("train", LEARNED, "training"), ("val", HELD_OUT, "validation")):
            known = [
                (e, shown(row[f"{split}_{key}"]))
                for e, row in zip(epochs, metrics, strict=True)
                if row.get(f"{split}_{key}") is not None
            ]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, marker="o", markersize=3, label=name)
        axes.set_ylim(bottom=0)
        axes.set_title(label, color=INK)
        axes.legend(frameon=False)
    rate.plot(epochs, [row["lr"] for row in metrics], color=INK, marker="o", markersize=3)
    rate.set_ylim(bottom=0)
    rate.set_title("learning rate after the epoch", color=INK)
    for axes in (loss, error, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(title, color=INK)
    figure.savefig(path)


def filters(weight: np.ndarray, path: str | Path, title: str) -> None:
    """The first layer's filters, weight (K, R, S, C), as a mosaic: colour for C = 3, else the mean over C in grey."""
    k, r, s, c = weight.shape
    pictures = weight if c == 3 else weight.mean(axis=3, keepdims=True)
    low, high = pictures.min(axis=(1, 2, 3), keepdims=True), pictures.max(axis=(1, 2, 3), keepdims=True)
    pictures = (pictures - low) / np.maximum(high - low, 1e-12)
    columns = int(np.ceil(np.sqrt(k * 1.6)))
    rows = -(-k // columns)
    mosaic = np.ones((rows * (r + 1) + 1, columns * (s + 1) + 1, pictures.shape[3]))
    for i, picture in enumerate(pictures):
        top, left = i // columns * (r + 1) + 1, i % columns * (s + 1) + 1
        mosaic[top : top + r, left : left + s] = picture
    figure = new_figure(8, 8 * rows / columns * (r + 1) / (s + 1) + 0.5)
    axes = figure.subplots()
    axes.imshow(mosaic.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, color=INK)
    figure.savefig(path)


def variants(
    errors: dict[str, list], first: int, values: dict[str, list[float]], what: str, path: str | Path, title: str
) -> None:
    """Variants of one network, each trained some times: training error over the steps, median and range, and a dot a run
    of what is measured. errors: variant -> a curve a run, from step `first` on; values: variant -> a value a run, infinite
    ones are left out."""
    figure = new_figure(10, 1.9 + 0.3 * max(6, len(errors)))
    curves, dots = figure.subplots(1, 2)
    for i, (name, runs) in enumerate(errors.items()):
        colour, length = f"C{i}", min(map(len, runs))
        steps, percent = np.arange(first, first + length), 100 * np.array([run[:length] for run in runs])
        curves.plot(steps, np.median(percent, axis=0), color=colour, linewidth=1.2, label=name)
        curves.fill_between(steps, percent.min(axis=0), percent.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        finite = [value for value in values[name] if np.isfinite(value)]
        dots.plot(finite, [i] * len(finite), "o", color=colour, alpha=0.7)
        if finite:
            dots.plot(np.median(finite), i, "|", color=colour, markersize=18)
        else:
            dots.annotate("never", (0.5, i), xycoords=("axes fraction", "data"), ha="center", va="center", color=colour)
    curves.set_title(f"training error (%), mean of {first} batches", color=INK)
    curves.set_xlabel("step")
    curves.set_ylim(bottom=0)
    curves.legend(frameon=False)
    dots.set_yticks(range(len(values)), values)
    dots.set_ylim(len(values) - 0.5, -0.5)
    dots.locator_params(axis="x", nbins=6)  # as many as have room for their digits
    dots.set_title(f"{what}, a dot a seed", color=INK)
    for axes in (curves, dots):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(title, color=INK)
    figure.savefig(path)


def ladder(rungs: dict[str, float], rivals: dict[str, float], path: str | Path, title: str, unit: str) -> None:
    """A bar for each rung's rate, in `unit`, with how many times the rung below it is; a line for each rival's."""
    figure = new_figure(8, 0.5 * len(rungs) + 1.6)
    axes = figure.subplots()
    names, rates = list(rungs), list(rungs.values())
    axes.barh(names, rates, color=LEARNED, height=0.6)
    for i, rate in enumerate(rates):
        gain = f"  {rate / rates[i - 1]:.2g}x" if i else ""
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.annotate(
            f"{rate:#.3g}{gain}", (rate, i), (4, 0), textcoords="offset points", va="center", color=INK, bbox=paper
        )
    for name, rate in rivals.items():
        axes.axvline(rate, color=HELD_OUT, linewidth=1, zorder=0, label=f"{name}: {rate:#.3g}")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(*rates, *rivals.values()))
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    if rivals:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.25))
    figure.suptitle(title, color=INK)
    figure.savefig(path)


def where_time_goes(parts: dict[str, tuple[float, float, float | None]], path: str | Path, title: str) -> None:
    """A bar for each part of a step: seconds (forward, backward), stacked, and a line at its floor, which may be None."""
    figure = new_figure(9, 0.22 * len(parts) + 1.6)
    axes = figure.subplots()
    names = list(parts)
    forward, backward = ([1e3 * times[i] for times in parts.values()] for i in (0, 1))
    axes.barh(names, forward, color=LEARNED, height=0.75, label="forward")
    axes.barh(names, backward, left=forward, color=HELD_OUT, height=0.75, label="backward")
    floors = [(1e3 * times[2], i) for i, times in enumerate(parts.values()) if times[2]]
    if floors:
        x, y = zip(*floors, strict=True)
        axes.scatter(x, y, marker="|", s=60, color=INK, zorder=3, label="floor of both")
    whole = sum(forward) + sum(backward)
    for i, seconds in enumerate(map(sum, zip(forward, backward, strict=True))):
        if seconds > 0.01 * whole:
            axes.annotate(
                f"{seconds / whole:.0%}",
                (seconds, i),
                (4, 0),
                textcoords="offset points",
                va="center",
                size=8,
                color=INK,
            )
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.suptitle(title, color=INK)
    figure.savefig(path)


def confusion(counts: np.ndarray, class_names, path: str | Path, title: str) -> None:
    """What was taken for what, counts (classes, classes) by class and guess: shade the share of a class's images, and the
    counts where there is room for them. The shades go by the square root, so that a single mistake can be seen."""
    from matplotlib.colors import PowerNorm

    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.62 * classes, 5, 15))
    figure = new_figure(side + 2, side + 1)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    every = -(-classes // 120)  # names stand on every so many lines: more than 120 cannot be read
    size = float(np.clip(72 * side / classes * 0.75, 5, 10))
    places = range(0, classes, every)
    names = [class_names[i] for i in places]
    axes.set_xticks(places, names, rotation=90, size=size)
    axes.set_yticks(places, names, size=size)
    if classes <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.4 else INK
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", size=size, color=colour)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if every == 1:
        axes.set_xticks(np.arange(classes - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(classes - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.3 if classes > 20 else 1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.set_label("of the class's images")
    bar.outline.set_visible(False)
    figure.suptitle(title, color=INK)
    figure.savefig(path, format="png")


def initial_values(report, path: str | Path) -> None:
    """Signal and gradient behind each layer of an init_report.InitReport, predicted and measured, on logarithmic axes."""
    figure = new_figure(11, 4.4)
    names = [f"{row.path} {row.layer}" for row in report.rows]
    for axes, what in zip(figure.subplots(1, 2), ("signal", "gradient"), strict=True):
        for how, style in (
            ("predicted", {"color": INK, "linestyle": "--"}),
            ("measured", {"color": LEARNED, "marker": "o"}),
        ):
            values = [getattr(row, f"{how}_{what}") for row in report.rows]
            axes.plot(names, [np.nan if value is None else value for value in values], markersize=3, label=how, **style)
        axes.set_yscale("log")
        axes.set_title(f"{what}, {'the images' if what == 'signal' else 'that of the logits'} being 1", color=INK)
        axes.tick_params(axis="x", labelrotation=90, labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(f"{report.title}: {report.verdict.partition('. ')[0]}", color=INK, fontsize=9)
    figure.savefig(path)
