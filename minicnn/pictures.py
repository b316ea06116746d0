"""Pictures of what a network sees: drawn from minicnn.explain's results, where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicnn.explain import Explanation, Features
from minicnn.plots import INK, new_figure

TILES = 12  # maps of a layer that are shown
TILE, GAP = 56, 4  # dots of a map's side, and between two maps


def show(axes, image: np.ndarray, **keywords) -> None:
    """An image (H, W, 1 or 3) uint8, without axes round it."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", **keywords)
    axes.set_axis_off()


def features(seen: Features, path: str | Path) -> None:
    """The image, and a row a layer: its strongest maps, strongest first, from no activation (dark) to the layer's largest."""
    rows = len(seen.maps)
    canvas = new_figure(12, 0.9 * rows + 0.6)
    left, right = canvas.subfigures(1, 2, width_ratios=(1, 6))
    picture = left.subplots()
    show(picture, seen.image)
    picture.set_title("the image", size=8, color=INK)
    for axes, (name, maps) in zip(right.subplots(rows, 1, squeeze=False)[:, 0], seen.maps.items(), strict=True):
        h, w, c = maps.shape
        strongest = maps[..., np.argsort(-np.abs(maps).mean(axis=(0, 1)), kind="stable")[:TILES]]
        limit = max(np.abs(strongest).max(), 1e-12)
        colours = {"cmap": "magma", "vmin": 0} if maps.min() >= 0 else {"cmap": "RdBu_r", "vmin": -limit}
        axes.imshow(row_of(strongest), vmax=limit, interpolation="nearest", **colours)
        axes.set_axis_off()
        axes.set_title(f"{name}   {h}x{w}, the strongest of {c} maps", loc="left", size=8, color=INK, pad=3)
    canvas.savefig(path)


def row_of(maps: np.ndarray) -> np.ndarray:
    """Maps (H, W, n <= TILES) side by side, about TILE dots high, with gaps of what is not a number."""
    h, w, n = maps.shape
    scale = max(1, TILE // h)
    row = np.full((scale * h, TILES * (scale * w + GAP) - GAP), np.nan)
    for i in range(n):
        left = i * (scale * w + GAP)
        row[:, left : left + scale * w] = maps[..., i].repeat(scale, axis=0).repeat(scale, axis=1)
    return row


def explanation(found: Explanation, path: str | Path) -> None:
    """The image, what hiding a pixel costs, and how steeply the class's logit follows it, side by side."""
    canvas = new_figure(10.5, 4.5)
    image, occlusion, saliency = canvas.subplots(1, 3)
    show(image, found.image)
    image.set_title(", ".join(f"{name} {probability:.2f}" for name, probability in found.ranking[:2]), color=INK)
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
        bar = canvas.colorbar(drawn, ax=axes, location="bottom", shrink=0.8, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, color=INK)
    canvas.suptitle(f"Why {found.class_name}?  (probability {found.probability:.2f})\n", color=INK)
    canvas.savefig(path)
