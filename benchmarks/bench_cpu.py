"""The native kernels beside PyTorch on this machine's cores: whole steps, layers, memory, errors.

    python benchmarks/bench_cpu.py            every piece that benchmarks/results/cpu_native/ lacks, then the tables
    python benchmarks/bench_cpu.py --list     the pieces; each takes about two minutes at most on two quiet cores
    python benchmarks/bench_cpu.py PIECE ...  these, anew

Steps: contenders in processes of their own, interleaved, each after a rest in which the last one's threads stop
spinning; the losses of the first five steps compared. PyTorch runs at its best (channels-last, fused SGD, an allocator
that keeps its memory) and as it comes (NCHW, its default SGD and allocator). Memory: how far resident memory grows in
three steps beyond the network, each with its default allocator.
Layers: bench_conv2d.py, and the share of the multiply-add rate that fma_peak.cpp finds. Ops: the benchmarks of others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pieces import add_arguments, measure
from process import Process, threads_of
from report import read_rows, write_rows

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "cpu_native"
RTOL = 1e-3  # of losses
OPS = ("linear", "lrn", "maxpool2d", "relu", "dropout", "cross_entropy", "batch_norm")  # at the layers of all networks
OP_BATCH = 16
BATCHES = {"alexnet_owt": 16, "alexnet": 16, "vgg_a": 4, "lenet": 128, "vgg_d": 4}
ROUNDS = {"lenet": 101, "vgg_d": 5}
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
AVX2 = {"MINICNN_INSTRUCTIONS": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
CONTENDERS = {
    "minicnn": ("ours", {}),
    "PyTorch at its best": ("channels-last+fused", KEEPS_MEMORY),
    "PyTorch as it comes": ("NCHW", {}),
}


def contender_of(name: str, network: str, environment: dict[str, str]) -> Process:
    kind, settings = CONTENDERS[name]
    return Process(kind, network, BATCHES[network], environment | settings)


@contextlib.contextmanager
def contenders(network: str, environment: dict[str, str]):
    started = {name: contender_of(name, network, environment) for name in CONTENDERS}
    try:
        yield started
    finally:
        for contender in started.values():
            contender.close()


def steps(network: str, threads: int, environment: dict[str, str]) -> list[dict]:
    """One row a contender: quartiles of a step's time, the ratio of minicnn's median to this one's."""
    with contenders(network, environment | threads_of(threads)) as started:
        losses = {name: contender.ask("losses") for name, contender in started.items()}
        for name, values in losses.items():
            if not np.allclose(values, losses["minicnn"], rtol=RTOL):
                raise SystemExit(f"{network}: {name} has losses {values}, minicnn {losses['minicnn']}: nothing timed")
        print("losses agree:", *(f"{loss:.5f}" for loss in losses["minicnn"]), flush=True)
        samples: dict[str, list[float]] = {name: [] for name in started}
        for i in range(ROUNDS.get(network, 9)):
            for name in list(started) if i % 2 == 0 else reversed(started):
                samples[name].append(started[name].ask("seconds"))
    quartiles = {name: np.percentile(values, (25, 50, 75)) * 1e3 for name, values in samples.items()}
    return [
        {
            "case": f"{network}, batch {BATCHES[network]}",
            "threads": threads,
            "rival": name,
            "ms": median,
            "ms_low": low,
            "ms_high": high,
            "ratio": quartiles["minicnn"][1] / median,
            "first_loss": losses[name][0],
            "fifth_loss": losses[name][-1],
        }
        for name, (low, median, high) in quartiles.items()
    ]


def memory(network: str) -> list[dict]:
    rows = []
    for name in ("minicnn", "PyTorch as it comes"):
        contender = contender_of(name, network, threads_of(len(os.sched_getaffinity(0))))
        for _ in range(3):
            contender.ask("seconds")
        rows.append(
            {"case": f"{network}, batch {BATCHES[network]}", "rival": name, "mib": contender.ask("growth") / 2**20}
        )
        contender.close()
    return [row | {"ratio": rows[0]["mib"] / row["mib"]} for row in rows]


def peak(threads: int) -> float:
    """FLOP/s of fma_peak.cpp, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fma_peak"
        options = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++20", "-pthread")
        command = [os.environ.get("CXX", "c++"), *options, str(HERE / "fma_peak.cpp"), "-o", str(program)]
        subprocess.run(command, check=True)
        return float(subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout)


def rows_of(op: str, batch: int, threads: int, *options: str) -> list[dict]:
    """What bench_<op>.py finds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        command = [sys.executable, str(HERE / f"bench_{op}.py"), "--device", "cpu", "--rounds", "5", "--out", str(out)]
        environment = os.environ | threads_of(threads) | KEEPS_MEMORY
        subprocess.run([*command, "--batch", str(batch), *options], check=True, env=environment)
        rows = read_rows(out)[1]
    wanted = ("case", "pass", "ms", "ms_low", "ms_high", "gflops", "rival", "rival_ms", "ratio")
    return [{key: row[key] for key in wanted} | {"threads": threads} for row in rows]


def layers(network: str, threads: int) -> list[dict]:
    """The convolutions of one network, with their share of the multiply-add rate."""
    gflops = peak(threads) / 1e9
    rows = rows_of("conv2d", BATCHES[network], threads, "--only", f"{network} ")
    return [row | {"peak_gflops": gflops, "peak_percent": 100 * float(row["gflops"]) / gflops} for row in rows]


def errors() -> list[dict]:
    """Root mean square errors against float64, relative to the result's, of inputs as a ReLU leaves them."""
    from layers import layers as layers_of

    import minicnn
    from minicnn import backend, nn

    rows = []
    rng = np.random.default_rng(0)
    for layer in layers_of(nn.Conv2d, 1):
        conv = layer.module
        if conv.weight.shape[1] not in (3, 5) or conv.stride not in (1, (1, 1)) or conv.weight.shape[3] < 16:
            continue
        x = np.maximum(rng.standard_normal(layer.input_shape), 0).astype(np.float32)
        fan_in = np.prod(conv.weight.shape[1:])
        weight = (rng.standard_normal(conv.weight.shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        results = {}
        for name, device, dtype, setting in (
            ("exact", "numpy", np.float64, None),
            ("winograd", "cpu", np.float32, None),
            ("direct", "cpu", np.float32, "direct"),
        ):
            with conv_setting(setting):
                leaves = [
                    minicnn.tensor(v.astype(dtype), device=backend.device(device), requires_grad=True)
                    for v in (x, weight)
                ]
                y = minicnn.functional.conv2d(*leaves, padding=conv.padding, groups=conv.groups)
                dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32).astype(dtype)
                y.op.backward(leaves[0].device.array(dy))
                results[name] = [y.numpy(), *(leaf.grad.numpy() for leaf in leaves)]
        for name in ("winograd", "direct"):
            pairs = zip(results[name], results["exact"], strict=True)
            found = [float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2))) for got, exact in pairs]
            rows.append(
                {"case": layer.name, "algorithm": name, **dict(zip(("fprop", "dgrad", "wgrad"), found, strict=True))}
            )
    return rows


@contextlib.contextmanager
def conv_setting(value: str | None):
    before = os.environ.pop("MINICNN_CONV", None)
    os.environ |= {} if value is None else {"MINICNN_CONV": value}
    try:
        yield
    finally:
        os.environ.pop("MINICNN_CONV", None)
        os.environ |= {} if before is None else {"MINICNN_CONV": before}


def pieces() -> dict[str, Callable[[], list[dict]]]:
    found: dict[str, Callable[[], list[dict]]] = {}
    for threads in (2, 1):
        for network in BATCHES:
            found[f"step_{network}_{threads}"] = lambda n=network, t=threads: steps(n, t, {})
    found["step_avx2_alexnet_owt_2"] = lambda: steps("alexnet_owt", 2, AVX2)
    for network in ("alexnet_owt", "alexnet", "vgg_a"):
        found[f"memory_{network}"] = lambda n=network: memory(n)
    found["errors"] = errors
    for threads in (2, 1):
        for network in ("alexnet_owt", "alexnet", "vgg_a", "vgg_d"):
            found[f"layers_{network}_{threads}"] = lambda n=network, t=threads: layers(n, t)
    for op in OPS:
        found[f"op_{op}_2"] = lambda op=op: rows_of(op, OP_BATCH, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    known = {name: functools.partial(write, rows) for name, rows in pieces().items()}
    measure(parser, parser.parse_args(), known, RESULTS)


def write(rows: Callable[[], list[dict]], path: Path) -> None:
    write_rows(path, rows())


if __name__ == "__main__":
    main()
