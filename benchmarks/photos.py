"""JPEG files of ImageNet's usual extents, made from the bundled images: for bench_loader.py and rehearse_recipes.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from minicnn import data
from minicnn.data import ImageFolder, images

WIDTH, HEIGHT, QUALITY = 500, 375, 90
INSTALLED = images.simplejpeg
DECODERS = {"pillow": None, "simplejpeg": INSTALLED}


class Photos(ImageFolder):
    """Image files, decoded by `decoder` wherever this is read."""

    def __init__(self, path, decoder: str):
        super().__init__(path, image_size=256, cache_bytes=0)
        self.decoder = decoder

    def picture(self, index, side=None):
        images.simplejpeg = DECODERS[self.decoder]
        return super().picture(index, side)


def make_photos(root: Path, count: int, classes: int = 2) -> None:
    """`count` of them in as many class folders: garments of a kind, upscaled, in three colours, with the grain of a sensor."""
    splits = data.open()
    garments, rng = splits.train, np.random.default_rng(0)
    for i in range(count):
        kind = i % classes
        folder = root / splits.class_names[kind]
        folder.mkdir(parents=True, exist_ok=True)
        chosen = rng.choice(np.flatnonzero(garments.labels == kind), size=36)
        chosen = garments.read(chosen)[..., 0].reshape(3, 3, 4, 28, 28)
        channels = [np.block([list(row) for row in tiles]) for tiles in chosen]
        picture = Image.fromarray(np.stack(channels, -1)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 5, (HEIGHT, WIDTH, 3))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=QUALITY)
