"""JPEG files of ImageNet's usual extents, made from the bundled images: what bench_loader.py reads."""

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


def make_photos(root: Path, count: int) -> None:
    """`count` of them in two class folders: garments, upscaled, in three colours, with the grain of a sensor."""
    garments = data.open().train
    rng = np.random.default_rng(0)
    for i in range(count):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        chosen = garments.read(rng.integers(len(garments), size=36))[..., 0].reshape(3, 3, 4, 28, 28)
        channels = [np.block([list(row) for row in tiles]) for tiles in chosen]
        picture = Image.fromarray(np.stack(channels, -1)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 5, (HEIGHT, WIDTH, 3))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=QUALITY)
