"""The input of a network, from bytes: crop, mirror, normalise, colour."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.autograd import Op
from minicnn.errors import OpError


class PrepareImages(Op):
    """y[n,p,q,c] = pixel * scale[c] + offset[n,c], where pixel is
    images[n, top + p, left + (Q-1-q if mirrored else q), c] with (top, left, mirrored) = windows[n], and 0 outside.

    images (N, H, W, C) uint8, windows (N, 3) int64, scale (C,), offset (N, C), y (N, P, Q, C). No input has a gradient.
    """

    name = "prepare_images"

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width

    def check(self, images, windows, scale, offset):
        if images.ndim != 4 or images.dtype != np.uint8:
            raise OpError(f"prepare_images: images must be (N, H, W, C) uint8, got {images.shape} {images.dtype.name}")
        n, _, _, c = images.shape
        for name, tensor, shape in (("windows", windows, (n, 3)), ("scale", scale, (c,)), ("offset", offset, (n, c))):
            if tensor.shape != shape:
                raise OpError(f"prepare_images: {name} must be {shape} for images {images.shape}, got {tensor.shape}")
        if windows.dtype != np.int64:
            raise OpError(f"prepare_images: windows must be int64, got {windows.dtype.name}")
        if scale.requires_grad or offset.requires_grad:
            raise OpError("prepare_images: scale and offset are constants here; pass them with requires_grad=False")
        return n, self.height, self.width, c

    def forward_numpy(self, images, windows, scale, offset, y):
        pixels = cut(images, windows, self.height, self.width)
        # Whole rows at once: over an inner axis of C elements NumPy spends its time on the loop.
        n, height, width, c = y.shape
        rows = y.reshape(n, height, width * c)
        np.multiply(pixels.reshape(rows.shape), np.tile(scale, width), out=rows)
        rows += np.tile(offset, width)[:, None]

    def forward_kernel(self, images, windows, scale, offset, y):
        self.kernels.prepare_images(images, windows, scale, offset, y, *images.shape, self.height, self.width)


def cut(images, windows, height: int, width: int):
    """The windows (top, left, mirrored) of uint8 images (N, H, W, C), mirrored where they say so: (N, height, width, C).

    What lies outside of an image is 0. Where every window is the whole image as it is, that is `images` itself.
    """
    (top, left), mirrored, extents = windows.T[:2], windows[:, 2] != 0, images.shape[1:3]
    if extents != (height, width) or top.any() or left.any():
        outside = [
            (max(0, -int(corner.min(initial=0))), max(0, int(corner.max(initial=0)) + size - extent))
            for corner, size, extent in zip((top, left), (height, width), extents, strict=True)
        ]
        images = np.pad(images, ((0, 0), *outside, (0, 0))) if np.any(outside) else images
        images = _windows(images, top + outside[0][0], left + outside[1][0], height, width)
    return _mirrored(images, mirrored) if mirrored.any() else images


def _windows(images, top, left, height: int, width: int):
    samples, rows, columns, channels = images.shape
    # Rows of columns * C bytes, so that a window is `height` runs of memory rather than height * width short ones.
    view = sliding_window_view(images.reshape(samples, rows, columns * channels), (height, width * channels), (1, 2))
    return view[np.arange(samples), top, left * channels].reshape(samples, height, width, channels)


def _mirrored(images, chosen):
    pixels = np.ascontiguousarray(images).view(f"V{images.shape[3]}")  # whole pixels: twice as fast as C bytes each
    out = pixels.copy()
    out[chosen] = pixels[chosen, :, ::-1]
    return out.view(images.dtype)
