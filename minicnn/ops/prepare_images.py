"""The input of a network, from bytes: crop, mirror, normalise, colour."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.autograd import Op
from minicnn.errors import OpError
from minicnn.ops.precision import numbers_of


class PrepareImages(Op):
    """y[n,p,q,c] = pixel * scale[c] + offset[n,c], where pixel is
    images[image, top + p, left + (Q-1-q if mirrored else q), c] with (image, top, left, mirrored) = windows[n], and 0
    outside of the image.

    images (M, H, W, C) uint8, windows (N, 4) int64, scale (C,), offset (N, C), y (N, P, Q, C). No input has a gradient.
    y is rounded as results of products are, to what the first layer will read (ops.precision).

    Devices that compute on the host refuse an image outside [0, M); the others' kernels, which cannot throw, trust windows.
    """

    name = "prepare_images"

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width

    def _agree(self, inputs):
        super()._agree(inputs)
        self.numbers = numbers_of(self.device, self.dtype)
        self.narrow = self.numbers.narrow

    def check(self, images, windows, scale, offset):
        if images.ndim != 4 or images.dtype != np.uint8:
            raise OpError(f"prepare_images: images must be (M, H, W, C) uint8, got {images.shape} {images.dtype.name}")
        if windows.ndim != 2 or windows.shape[1] != 4 or windows.dtype != np.int64:
            raise OpError(f"prepare_images: windows must be (N, 4) int64, got {windows.shape} {windows.dtype.name}")
        n, c = windows.shape[0], images.shape[3]
        for name, tensor, shape in (("scale", scale, (c,)), ("offset", offset, (n, c))):
            if tensor.shape != shape:
                raise OpError(
                    f"prepare_images: {name} must be {shape} for images {images.shape} and windows {windows.shape}, "
                    f"got {tensor.shape}"
                )
        if scale.requires_grad or offset.requires_grad:
            raise OpError("prepare_images: scale and offset are constants here; pass them with requires_grad=False")
        if self.device.computes_on_host:
            self.check_places(windows.data[:, 0], images.shape[0])
        return n, self.height, self.width, c

    def check_places(self, places, count: int) -> None:
        wrong = np.flatnonzero((places < 0) | (places >= count))
        if wrong.size:
            raise OpError(f"prepare_images: windows[{wrong[0]}] is of image {places[wrong[0]]}, but there are {count}")

    def forward_numpy(self, images, windows, scale, offset, y):
        pixels = cut(chosen(images, windows[:, 0]), windows[:, 1:], self.height, self.width)
        # Whole rows at once: over an inner axis of C elements NumPy spends its time on the loop.
        n, height, width, c = y.shape
        rows = y.reshape(n, height, width * c)
        np.multiply(pixels.reshape(rows.shape), np.tile(scale, width), out=rows)
        rows += np.tile(offset, width)[:, None]
        self.numbers.round_result(y)

    def forward_kernel(self, images, windows, scale, offset, y):
        extents = windows.shape[0], *images.shape[1:], self.height, self.width
        with self.numbers.result(y) as (y, _, _):
            self.kernel_of("prepare_images", self.narrow)(images, windows, scale, offset, y, *extents)


def chosen(images, places):
    """images[places]; images themselves where that is each of them in its turn."""
    return images if np.array_equal(places, np.arange(len(images))) else images[places]


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
