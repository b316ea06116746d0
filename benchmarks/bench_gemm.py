"""The ladder of float32 matrix products, rung by rung, on a device of kernels ("cuda"; "emulated" shows only that it runs).

The products are those of AlexNet's convolutions and fully connected layers, c (M, N) = a (M, K) b (N, K)^T, a row of c an
output pixel or an image; PyTorch multiplies beside each rung. With --ladder, one square product on each rung, as a picture.
"""

import numpy as np
import torch
from harness import Session, device_place, gradient_of
from layers import layers

from minicnn import nn, plots
from minicnn.shapes import AUTOMATIC, ConvShape, GemmShape, Layout, Math
from minicnn.tensor import Accumulate

LADDER_SIDE, EMULATED_LADDER_SIDE = 4096, 128

# The kernel of each rung, how it multiplies where that is chosen, and what it may differ by: TF32 rounds to 11 bits.
RUNGS = {
    "1 naive": ("gemm_1_naive", None, 1e-3),
    "2 shared": ("gemm_2_shared", None, 1e-3),
    "3 register": ("gemm_3_register", None, 1e-3),
    "4 vectorized": ("gemm_4_vectorized", Math.float32, 1e-3),
    "5 tensor cores, 3xTF32": ("gemm_5_tensor_core", Math.tf32x3, 1e-3),
    "5 tensor cores, TF32": ("gemm_5_tensor_core", Math.tf32, 5e-3),
}


def products(batch: int):
    """(layer, M, N, K) of AlexNet's layers as matrix products; of a convolution in groups, one group's."""
    for layer in layers(nn.Conv2d, batch, ["alexnet"]):
        weight, conv = layer.module.weight, layer.module
        shape = ConvShape.of(
            "conv2d", layer.input_shape, weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        yield layer.name, shape.n * shape.p * shape.q, shape.k // shape.groups, weight.size // shape.k
    for layer in layers(nn.Linear, batch, ["alexnet"]):
        yield layer.name, batch, *layer.module.weight.shape


def contender(session: Session, rung: str, a, b, c, shape: GemmShape):
    """The call of one rung; from the fourth on they have a schedule, and a workspace for it."""
    kernels, (name, how, _) = session.device.kernels, RUNGS[rung]
    arguments = [a, b, None, c, shape, Layout.nt, Accumulate.overwrite]
    if how is not None:
        schedule = AUTOMATIC._replace(math=how)
        arguments.insert(4, session.device.empty((kernels.gemm_workspace(shape, schedule),)))
        arguments.append(schedule)
    return lambda: getattr(kernels, name)(*arguments)


def race(session: Session, name: str, m: int, n: int, k: int) -> None:
    """One product on every rung, each checked first."""
    a, b = gradient_of((m, k)), gradient_of((n, k))
    theirs = [torch.from_numpy(v).to(device_place(session.device)) for v in (a, b)]
    expected = (theirs[0] @ theirs[1].T).cpu().numpy()
    ours = [session.device.array(v) for v in (a, b)]
    for rung in RUNGS:
        c = session.device.empty((m, n))
        multiply = contender(session, rung, *ours, c, GemmShape(m, n, k, k, k, n))
        multiply()
        tolerance = RUNGS[rung][2]
        np.testing.assert_allclose(session.device.to_numpy(c), expected, rtol=tolerance, atol=tolerance * np.sqrt(k))
        rivals = {"torch": lambda: theirs[0] @ theirs[1].T}
        session.race(name, rung, [(m, k), (n, k)], multiply, rivals, 2 * m * n * k, 4 * (m * k + n * k + m * n))


def draw_ladder(session: Session, path: str) -> None:
    """The picture says whose time it is: that of the emulation tells nothing of a GPU."""
    on_gpu = device_place(session.device) == "cuda"
    side = LADDER_SIDE if on_gpu else EMULATED_LADDER_SIDE
    race(session, f"{side} x {side} x {side}", side, side, side)
    product = f"c = a b, {side} x {side} x {side}"
    rates = {row["pass"]: row["gflops"] for row in session.rows}
    if on_gpu:
        rungs = {rung: rate / 1e3 for rung, rate in rates.items()}
        rivals = {"PyTorch (cuBLAS, float32)": 2e-9 * side**3 / min(row["rival_ms"] for row in session.rows)}
        plots.ladder(rungs, rivals, path, f"{product}, {torch.cuda.get_device_name()}", "TFLOP/s")
    else:
        unit = "GFLOP/s of this CPU while it emulates the kernel; of a GPU this says nothing"
        plots.ladder(rates, {}, path, f"{product}, emulated", unit)


def main() -> None:
    session = Session(
        "gemm",
        lambda parser: parser.add_argument(
            "--ladder", nargs="?", const="ladder.png", metavar="PNG", help="draw the rungs, at one square product"
        ),
    )
    if not hasattr(session.device.kernels, "gemm_1_naive"):
        raise SystemExit(f"bench gemm: the ladder is made of CUDA kernels, {session.device.name!r} has none")
    if session.arguments.ladder:
        draw_ladder(session, session.arguments.ladder)
    else:
        for name, m, n, k in products(session.batch):
            if session.only in name:
                race(session, name, m, n, k)
    session.close()


if __name__ == "__main__":
    main()
