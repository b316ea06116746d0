"""Small runs that between them launch every kernel on the emulated device, and what the emulation records of them."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import numpy as np

import minicnn
from minicnn import functional as F
from minicnn import optim
from minicnn.ops.affine import Activation
from minicnn.ops.clip_grad_norm import clip_norm
from minicnn.ops.prepare_images import PrepareImages
from minicnn.shapes import ConvShape, Math, Schedule
from minicnn.tensor import Accumulate

from .banks import ACCESS
from .names import short_name

CHANNELS = 64  # as multiples of 4 in arrays on 16-byte boundaries, and whole warps: the networks' own case


class Launch(NamedTuple):
    """One launch: the op's name, the kernel's with its template arguments, threads a block, bytes of shared memory."""

    op: str
    kernel: str
    threads: int
    shared_bytes: int


class Recording(NamedTuple):
    """`accesses`: an array of banks.ACCESS, those of the checked module to shared memory; of others, none."""

    launches: list[Launch]
    accesses: np.ndarray


def numbers(device, *shape, requires_grad=True):
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)
    return minicnn.tensor(values, device=device, requires_grad=requires_grad)


def both_ways(function: Callable, *tensors) -> None:
    y = function(*tensors)
    y.backward(np.ones(y.shape, np.float32))


def elementwise(device) -> None:
    x, y = numbers(device, 4, 33, CHANNELS), numbers(device, 4, 33, CHANNELS)
    for function in (F.relu, F.sigmoid, F.tanh, lambda t: t.exp(), lambda t: t.log(), lambda t: t.sqrt()):
        both_ways(function, x)
    both_ways(lambda t: t**1.5, x)
    for function in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, F.add_relu):
        both_ways(function, x, y)
    both_ways(lambda t: F.dropout(t, 0.5), x)
    both_ways(lambda t: t.permute(0, 2, 1) + 0.0, x)


def reductions(device) -> None:
    x = numbers(device, 96, 8 * CHANNELS)
    for axis in (0, 1):
        both_ways(lambda t, axis=axis: t.sum(axis), x)
        both_ways(lambda t, axis=axis: t.max(axis), x)
    both_ways(F.softmax, x)
    both_ways(F.log_softmax, x)
    target = minicnn.tensor(np.arange(96) % 10, device=device)
    both_ways(lambda t: F.cross_entropy(t, target), x)


def windows(device) -> None:
    x = numbers(device, 2, 9, 9, CHANNELS)
    both_ways(lambda t: F.max_pool2d(t, 3, 2), x)
    both_ways(lambda t: F.max_pool2d(t, 17, padding=8), x)  # more places than a byte counts
    both_ways(lambda t: F.avg_pool2d(t, 3, 2), x)
    both_ways(lambda t: F.adaptive_avg_pool2d(t, 4), x)
    both_ways(lambda t: F.local_response_norm(t, 5), x)
    norm = minicnn.nn.BatchNorm2d(CHANNELS).to(device)
    both_ways(norm, x)


def convolutions(device) -> None:
    """Every tile and both rungs; the reduction is cut once."""
    from minicnn.ops import affine
    from minicnn.ops import conv2d as op_file

    x, weight = numbers(device, 1, 6, 6, 16), numbers(device, 72, 3, 3, 16)
    for schedule in (Schedule(64, 2), Schedule(128, 1), Schedule(64, 1, Math.tf32), Schedule(128, 2, Math.tf32x3)):
        with mock.patch.object(affine, "AUTOMATIC", schedule):
            both_ways(lambda *t: F.conv2d(*t, padding=1), x, weight)
    with mock.patch.object(op_file, "rung", lambda: "im2col"):
        both_ways(lambda *t: F.conv2d(*t, padding=1), x, weight)


def halves_of_convolution(device, x, w, options, tile) -> None:
    """The passes of numbers of 16 bits."""
    shape = ConvShape.of("conv2d", x, w, **options, dilation=1, groups=1)
    wide, workspace = device.empty(w, np.float32), device.empty((1 << 20,), np.float32)
    for format, dtype in (("bfloat16", np.uint16), ("float16", np.float16)):
        x_array, w_array, y_array = (device.array(np.zeros(extents, dtype)) for extents in (x, w, shape.out))
        common = workspace, shape, Schedule(tile)
        forward, backward_input, backward_weight = (
            getattr(device.kernels, f"conv2d_{direction}_{format}")
            for direction in ("forward", "backward_input", "backward_weight")
        )
        forward(x_array, w_array, None, Activation.none, y_array, *common)
        backward_input(y_array, w_array, None, x_array, Accumulate.overwrite, *common)
        backward_weight(y_array, x_array, wide, Accumulate.overwrite, None, Accumulate.overwrite, *common)


def halves_of_convolutions(device) -> None:
    """At every tile."""
    for tile in (64, 128):
        halves_of_convolution(device, (1, 12, 11, 16), (136, 3, 3, 16), {"stride": 1, "padding": 1}, tile)


def first_layers(device) -> None:
    """Windows that begin on 16 bytes, and such that do not, in every format."""
    from minicnn.ops import affine

    alexnet = (1, 39, 44, 3), (16, 11, 11, 3), {"stride": 4, "padding": 2}
    vgg = (1, 8, 16, 3), (16, 3, 3, 3), {"stride": 1, "padding": 1}
    for x, w, options in (alexnet, vgg):
        for how in Math:
            with mock.patch.object(affine, "AUTOMATIC", Schedule(math=how)):
                both_ways(lambda *t, options=options: F.conv2d(*t, **options), numbers(device, *x), numbers(device, *w))
        halves_of_convolution(device, x, w, options, tile=0)


def convolutions_and_pooling(device) -> None:
    """By squares, in one pass, at every tile; first layers too."""
    from minicnn.ops import affine, conv2d_maxpool2d

    schedules = [Schedule(tile, splits, how) for tile, splits in ((64, 1), (128, 1), (0, 0)) for how in Math]
    for channels, asked in [(3 if schedule.tile == 0 else 16, schedule) for schedule in schedules]:
        x, weight = numbers(device, 1, 12, 11, channels), numbers(device, 72, 3, 3, channels)
        with mock.patch.object(affine, "AUTOMATIC", asked), mock.patch.object(conv2d_maxpool2d, "AUTOMATIC", asked):
            for name in ("float32", "bfloat16", "float16") if asked.math is Math.float32 else ("float32",):
                with minicnn.precision(name):
                    both_ways(lambda *t: F.conv2d_relu_max_pool2d(*t, None, 1, 1, 1, 1, 2), x, weight)


def reduced_precision(device) -> None:
    """Pooling, by indices of one byte and of two, between products, and a normalisation behind one."""

    def layers(x, weight):
        for kernel_size, stride, padding in ((3, 2, 1), (17, 1, 8)):
            x = F.max_pool2d(F.conv2d(x, weight, padding=1), kernel_size, stride, padding)
        return F.conv2d(F.local_response_norm(F.conv2d(x, weight, padding=1), 5), weight)

    for name in ("bfloat16", "float16"):
        with minicnn.precision(name):
            both_ways(layers, numbers(device, 1, 6, 6, 72), numbers(device, 72, 3, 3, 72))


def matrices(device) -> None:
    """Every rung of the ladder in every layout, at a size that fills whole tiles."""
    kernels, (m, n, k), accumulate = device.kernels, (128, 128, 32), Accumulate.overwrite
    workspace = device.empty((2 * m * n,))
    for layout, a_shape, b_shape in ((0, (m, k), (k, n)), (1, (m, k), (n, k)), (2, (k, m), (k, n))):
        a, b, c = (numbers(device, *shape).data for shape in (a_shape, b_shape, (m, n)))
        shape = (m, n, k, a_shape[1], b_shape[1], n)
        for rung in (
            kernels.gemm_1_naive,
            kernels.gemm_2_shared,
            kernels.gemm_3_register,
            kernels.gemm_4_vectorized,
            kernels.gemm_6_tensor_core,
            kernels.gemm_7_ldmatrix,
        ):
            rung(a, b, None, c, shape, layout, accumulate)
        for tile, splits in ((64, 1), (128, 2)):
            for how in Math:
                rung = kernels.gemm_5_pipelined if how is Math.float32 else kernels.gemm_8_asynchronous
                rung(a, b, None, c, workspace, shape, layout, accumulate, Schedule(tile, splits, how))
            for kernel, dtype in ((kernels.gemm_bfloat16, np.uint16), (kernels.gemm_float16, np.float16)):
                halves = [device.array(np.zeros(extents, dtype)) for extents in (a_shape, b_shape)]
                kernel(*halves, None, None, c, workspace, shape, layout, accumulate, Schedule(tile, splits))


def images(device) -> None:
    pixels = minicnn.tensor(np.zeros((2, 9, 9, 3), np.uint8), device=device)
    windows = minicnn.tensor(np.array([[0, 0, 1, 0], [1, 1, 0, 1]]), device=device)
    constants = [numbers(device, *shape, requires_grad=False) for shape in ((3,), (2, 3))]
    for name in ("float32", "bfloat16", "float16"):
        with minicnn.precision(name):
            PrepareImages(8, 8)(pixels, windows, *constants)


def optimizer(device) -> None:
    layer = minicnn.nn.Linear(CHANNELS, CHANNELS).to(device)
    sgd = optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    both_ways(layer, numbers(device, 8, CHANNELS))
    clip_norm(device, [p.grad.data for p in layer.parameters()], 1e-3)
    sgd.step()
    sgd.zero_grad()
    sgd.backward_and_step(layer(numbers(device, 8, CHANNELS)).sum())
    for name in ("bfloat16", "float16"):
        with minicnn.precision(name):
            sgd.keep_copy()
        sgd.step()
    sgd.keep_copy()
    optim.Adam(layer.parameters(), lr=0.1).step()
    for tile in (64, 128):  # what is whole quads at either tile
        dy, x, weight, velocity, hyper = (
            numbers(device, *shape).data for shape in ((8, 128), (8, 128), (128, 128), (128, 128), (2,))
        )
        step = (weight, velocity, hyper, 1.0, 0.9, 0.0, 0)
        device.kernels.linear_backward_weight_sgd(dy, x, *step, 8, 128, 128, Schedule(tile, 1))


RUNS = (
    elementwise,
    reductions,
    windows,
    convolutions,
    halves_of_convolutions,
    first_layers,
    convolutions_and_pooling,
    reduced_precision,
    matrices,
    images,
    optimizer,
)


def record(device, run: Callable) -> Recording:
    """What `run` does on the emulated `device`."""
    device.module.start_recording()
    try:
        run(device)
    finally:
        launches, accesses = device.module.stop_recording()
    names = kernel_names(device.module, {kernel for _, kernel, *_ in launches})
    return Recording(
        [Launch(op, names[kernel], math.prod(block), shared) for op, kernel, _, block, shared in launches],
        np.frombuffer(accesses, ACCESS),
    )


def kernel_names(module, places) -> dict[int, str]:
    """The function of the module that begins at each place, as short_name has it."""
    places = sorted(places)
    command = ["addr2line", "-f", "-C", "-e", module.__file__, *map(hex, places)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(zip(places, map(short_name, lines[::2]), strict=True))
