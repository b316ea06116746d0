"""The ladder of matrix products, rung by rung, on a device of kernels ("cuda"; "emulated" shows only that it runs).

The products are those of AlexNet's convolutions and fully connected layers, c (M, N) = a (M, K) b (N, K)^T, a row of c an
output pixel or an image. Beside each rung PyTorch multiplies and, on a GPU, cuBLASLt by the fastest of all the algorithms
that its heuristic proposes, each of which was timed; without that library PyTorch is the rival, as the row then says. With
--ladder, one square product on each rung, as a picture.
"""

import itertools

import numpy as np
import torch
from cublaslt import WORKSPACE, CublasLt
from harness import HALVES, Session, add_precision, device_place, gradient_of
from layers import layers
from options import picture, positive
from timing import interleaved

from minicnn import backend, nn, plots
from minicnn.shapes import AUTOMATIC, ConvShape, GemmShape, Layout, Math
from minicnn.tensor import Accumulate

LADDER_SIDE, EMULATED_LADDER_SIDE = 4096, 128

# Of each precision the rungs: kernel, how it multiplies where that is chosen, and what it may differ by.
RUNGS = {
    "float32": {
        "1 naive": ("gemm_1_naive", None, 1e-3),
        "2 shared": ("gemm_2_shared", None, 1e-3),
        "3 register": ("gemm_3_register", None, 1e-3),
        "4 vectorized": ("gemm_4_vectorized", None, 1e-3),
        "5 pipelined": ("gemm_5_pipelined", Math.float32, 1e-3),
        "8 asynchronous, 3xTF32": ("gemm_8_asynchronous", Math.tf32x3, 1e-3),
    },
    "tf32": {
        "6 tensor cores, TF32": ("gemm_6_tensor_core", None, 5e-3),
        "7 ldmatrix, TF32": ("gemm_7_ldmatrix", None, 5e-3),
        "8 asynchronous, TF32": ("gemm_8_asynchronous", Math.tf32, 5e-3),
    },
    "bfloat16": {"8 asynchronous, bfloat16": ("gemm_bfloat16", Math.float32, 2e-2)},
    "float16": {"8 asynchronous, float16": ("gemm_float16", Math.float32, 5e-3)},
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


def contender(session: Session, how: tuple, precision: str, a, b, c, shape: GemmShape):
    """The call of one rung; those that networks train with have a schedule, and a workspace for it."""
    kernels, (name, math, _) = session.device.kernels, how
    arguments = [a, b, None, c, shape, Layout.nt, Accumulate.overwrite]
    if math is not None:
        schedule = AUTOMATIC._replace(math=math)
        arguments.insert(4, session.device.empty((kernels.gemm_workspace(shape, schedule),)))
        arguments.append(schedule)
    if precision in HALVES:
        arguments.insert(4, None)  # no float32 copy of c
    return lambda: getattr(kernels, name)(*arguments)


def host_bits(values: torch.Tensor) -> np.ndarray:
    """As the kernels have them: NumPy has no bfloat16, its bits are uint16."""
    return values.view(torch.uint16).numpy() if values.dtype is torch.bfloat16 else values.numpy()


def cublaslt_fastest(session: Session, a, b, shape: tuple[int, int, int], precision: str) -> dict:
    """The fastest of the algorithms that cuBLASLt proposes, by name; nothing where there is no such library."""
    if device_place(session.device) != "cuda":
        return {}
    c = torch.empty(shape[:2], dtype=a.dtype, device="cuda")
    workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
    try:
        calls = CublasLt().products(a.data_ptr(), b.data_ptr(), c.data_ptr(), shape, precision, workspace.data_ptr())
    except (OSError, RuntimeError) as error:
        print(f"no cuBLASLt beside PyTorch: {error}")
        return {}
    timings = interleaved(calls, session.device.synchronize, rounds=3, seconds=0.002)
    best = min(timings, key=lambda name: timings[name].median)
    calls[best]()
    expected = (a @ b.T).float()
    if not torch.allclose(c.float(), expected, rtol=2e-2, atol=2e-2 * shape[2] ** 0.5):
        raise SystemExit(f"{best} differs from PyTorch at {shape}: called wrongly, not timed")
    kept = calls[best], a, b, c, workspace
    return {f"{best} of {len(calls)}": lambda: kept[0]()}


def race(session: Session, name: str, m: int, n: int, k: int) -> None:
    """One product on every rung of the session's precision, each checked first."""
    dtype = HALVES.get(session.precision, torch.float32)
    on_host = [torch.from_numpy(gradient_of(shape)).to(dtype) for shape in ((m, k), (n, k))]
    theirs = [values.to(device_place(session.device)) for values in on_host]
    expected = (theirs[0].float() @ theirs[1].float().T).cpu().numpy()
    ours = [session.device.array(host_bits(values)) for values in on_host]
    rivals = {"torch": lambda: theirs[0] @ theirs[1].T}
    rivals |= cublaslt_fastest(session, *theirs, (m, n, k), session.precision)
    nbytes = theirs[0].element_size() * (m * k + n * k + m * n)
    for rung, how in RUNGS[session.precision].items():
        c = session.device.empty((m, n), host_bits(on_host[0]).dtype)
        multiply = contender(session, how, session.precision, *ours, c, GemmShape(m, n, k, k, k, n))
        multiply()
        result = torch.from_numpy(session.device.to_numpy(c)).view(dtype).float().numpy()
        np.testing.assert_allclose(result, expected, rtol=how[2], atol=how[2] * np.sqrt(k))
        arithmetic = "tf32x3" if how[1] is Math.tf32x3 else session.precision
        session.race(name, rung, [(m, k), (n, k)], multiply, rivals, 2 * m * n * k, nbytes, arithmetic)


def draw_ladder(session: Session, path: str) -> None:
    """Every rung of TF32 and of float32, from 1 upwards. The picture says whose time it is: that of the emulation tells
    nothing of a GPU.
    """
    on_gpu = device_place(session.device) == "cuda"
    side = session.arguments.side or (LADDER_SIDE if on_gpu else EMULATED_LADDER_SIDE)
    rivals = {}
    for session.precision in ("tf32", "float32"):
        torch.backends.cuda.matmul.allow_tf32 = session.precision == "tf32"
        race(session, f"{side} x {side} x {side}", side, side, side)
        of_this = [row["rival_ms"] for row in session.rows if row["precision"] == session.precision]
        rivals[f"cuBLAS, {session.precision}"] = 2e-9 * side**3 / min(of_this)
    if not plots.available():
        return print(f"no {path}: pictures need matplotlib")
    product = f"c = a b, {side} x {side} x {side}"
    rows = sorted(session.rows, key=lambda row: int(row["pass"].split()[0]))
    rates = {row["pass"]: row["gflops"] for row in rows}
    if on_gpu:
        rungs = {rung: rate / 1e3 for rung, rate in rates.items()}
        plots.ladder(rungs, rivals, path, f"{product}, {torch.cuda.get_device_name()}", "TFLOP/s")
    else:
        unit = "GFLOP/s of this CPU while it emulates the kernel; of a GPU this says nothing"
        plots.ladder(rates, {}, path, f"{product}, emulated", unit)
    print(f"the ladder is in {path}")


def add_arguments(parser) -> None:
    add_precision(parser)
    draw = {"nargs": "?", "const": "ladder.png", "type": picture, "metavar": "PNG"}
    parser.add_argument("--ladder", **draw, help="draw the rungs, at one square product")
    sides = f"({LADDER_SIDE} on cuda, {EMULATED_LADDER_SIDE} emulated)"
    parser.add_argument("--side", type=positive, default=None, help=f"of the ladder's square product {sides}")
    parser.set_defaults(device="emulated" if backend.available()["cuda"] else "cuda")  # it says why there is no GPU


def main() -> None:
    session = Session("gemm", add_arguments)
    if not hasattr(session.device.kernels, "gemm_1_naive"):
        name = session.device.name
        raise SystemExit(
            f"bench gemm: {name!r} has none of the ladder's kernels: choose 'cuda', or 'emulated' to see them run"
        )
    session.width = max(len(rung) for rungs in RUNGS.values() for rung in rungs)
    if session.arguments.ladder:
        draw_ladder(session, session.arguments.ladder)
    else:
        wanted = (product for product in products(session.batch) if session.only in product[0])
        for product in itertools.islice(wanted, session.cases):
            race(session, *product)
    session.close()


if __name__ == "__main__":
    main()
