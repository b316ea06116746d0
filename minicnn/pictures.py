"""Pictures of what a network sees: drawn from minicnn.explain's results, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicnn.explain import Explanation, Features
from minicnn.plots import INK, _figure

TILES = 12  # maps of a layer that are shown


def show(axes, image: np.ndarray, **keywords) -> None:
    """An image (H, W, 1 or 3) uint8, without axes round it."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", **keywords)
    axes.set_axis_off()


def features(seen: Features, path: str | Path) -> None:
    """The image, and a row a layer: its strongest maps, strongest first, from no activation (dark) to the layer's largest."""
    rows = len(seen.maps)
    canvas = _figure(12, 0.9 * rows + 0.6)
    left, right = canvas.subfigures(1, 2, width_ratios=(1, 6))
    picture = left.subplots()
    show(picture, seen.image)
    axes = right.subplots(rows, TILES, squeeze=False)
    for row, (name, maps) in zip(axes, seen.maps.items(), strict=True):
        order = np.argsort(-np.abs(maps).mean(axis=(0, 1)), kind="stable")[:TILES]
        limit = max(np.abs(maps[..., order]).max(), 1e-12)
        low = -limit if maps.min() < 0 else 0
        h, w, c = maps.shape
        for place in row:
            place.set_axis_off()
        for place, channel in zip(row, order, strict=False):
            place.imshow(maps[..., channel], cmap="magma" if low == 0 else "RdBu_r", vmin=low, vmax=limit)
        row[0].set_title(f"{name}   {h}x{w}, {c} maps", loc="left", size=8, color=INK, pad=3)
    canvas.savefig(path)


def explanation(found: Explanation, path: str | Path) -> None:
    """The image, what hiding a pixel costs, and how steeply the class's logit follows it, side by side."""
    canvas = _figure(10.5, 3.9)
    image, occlusion, saliency = canvas.subplots(1, 3)
    show(image, found.image)
    guesses = "   ".join(f"{name} {probability:.2f}" for name, probability in found.ranking[:3])
    image.set_title("the image", color=INK)
    image.text(0.5, -0.06, guesses, transform=image.transAxes, ha="center", va="top", size=9, color=INK)
    grey = np.repeat(found.image.mean(axis=2, keepdims=True), 3, axis=2) / 255
    limit = max(np.abs(found.occlusion).max(), 1e-12)
    occlusion.imshow(0.5 + 0.5 * grey, interpolation="nearest")
    heat = occlusion.imshow(
        found.occlusion, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.75, interpolation="bilinear"
    )
    occlusion.set_title("lost probability where hidden", color=INK)
    steep = saliency.imshow(found.saliency, cmap="magma", vmin=0, interpolation="nearest")
    saliency.set_title("|d logit / d pixel|", color=INK)
    for axes, drawn in ((occlusion, heat), (saliency, steep)):
        axes.set_axis_off()
        bar = canvas.colorbar(drawn, ax=axes, location="bottom", shrink=0.8, pad=0.03)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, color=INK)
    canvas.suptitle(f"Why {found.class_name}?  (probability {found.probability:.2f})", color=INK)
    canvas.savefig(path)
