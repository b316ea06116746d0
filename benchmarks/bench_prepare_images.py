"""The input of a network from bytes: crop, mirror, normalise, colour. PyTorch cuts the same window of all images, mirrors
none of them, and multiplies and adds in float32.

Floor: a byte read and a float32, or 16 bits, written: 5 or 3 bytes an element.
"""

import numpy as np
import torch
from harness import HALVES, Case, main

import minicnn
from minicnn.functional import prepare_images

SIZES = {"alexnet, 224 of 256": (256, 224), "bundled, 28 of 28": (28, 28)}
BYTES = {"float32": 5, "bfloat16": 3}


def cases(batch):
    rng = np.random.default_rng(0)
    for name, (full, size) in SIZES.items():
        corner = (full - size) // 2
        images = rng.integers(0, 256, (batch, full, full, 3), np.uint8)
        windows = np.column_stack([np.arange(batch), np.tile([corner, corner, 0], (batch, 1))])
        scale, offset = rng.standard_normal(3).astype(np.float32), rng.standard_normal((batch, 3)).astype(np.float32)
        for written, nbytes in BYTES.items():

            def ours(images, windows, scale, offset, size=size, written=written):
                with minicnn.precision(written):
                    return prepare_images(images, windows, scale, offset, size)

            def theirs(images, windows, scale, offset, size=size, corner=corner, written=written):
                cut = images[:, :, corner : corner + size, corner : corner + size].float()
                y = cut * scale[:, None, None] + offset[:, :, None, None]
                return y.to(HALVES.get(written, torch.float32))

            elements = batch * size * size * 3
            passes = {"forward": ((), 2 * elements, nbytes * elements)}
            rtol = 1e-2 if written in HALVES else 1e-3
            yield Case(f"{name}, {written}", [images, windows, scale, offset], ours, theirs, passes, rtol)


if __name__ == "__main__":
    main("prepare_images", cases)
