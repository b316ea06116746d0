"""The input of a network from bytes: crop, mirror, normalise, colour. PyTorch cuts the same window of all images, mirrors
none of them, and multiplies and adds in float32.

Floor: a byte read and a float32 written, 5 bytes an element.
"""

import numpy as np
from harness import Case, main

from minicnn.functional import prepare_images

SIZES = {"alexnet, 224 of 256": (256, 224), "bundled, 28 of 28": (28, 28)}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, (full, size) in SIZES.items():
        corner = (full - size) // 2
        images = rng.integers(0, 256, (batch, full, full, 3), np.uint8)
        windows = np.column_stack([np.arange(batch), np.tile([corner, corner, 0], (batch, 1))])
        scale, offset = rng.standard_normal(3).astype(np.float32), rng.standard_normal((batch, 3)).astype(np.float32)

        def ours(images, windows, scale, offset, size=size):
            return prepare_images(images, windows, scale, offset, size)

        def theirs(images, windows, scale, offset, size=size, corner=corner):
            cut = images[:, :, corner : corner + size, corner : corner + size].float()
            return cut * scale[:, None, None] + offset[:, :, None, None]

        elements = batch * size * size * 3
        yield Case(name, [images, windows, scale, offset], ours, theirs, {"forward": ((), 2 * elements, 5 * elements)})


if __name__ == "__main__":
    main("prepare_images", cases)
