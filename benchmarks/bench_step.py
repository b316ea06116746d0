"""Whole training steps (forward, loss, backward, SGD with momentum) beside PyTorch's, interleaved, losses compared.

Ours runs kernel by kernel and, where the device has graphs, as one graph. PyTorch runs in NCHW and in channels-last, on a
GPU with fused SGD, also compiled and as a CUDA graph; the fastest counts. All compute in --precision, PyTorch by autocast.
Dropout is off, so that the losses of the first steps can be compared. The floor is that of `minicnn.summary`, each layer's bytes
or operations, at the ceilings that ceilings.py measures here.

    python benchmarks/bench_step.py alexnet_owt --batch 16
    python benchmarks/bench_step.py alexnet --device cuda --batch 128 --precision bfloat16
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch
from ceilings import Ceilings
from harness import REST, device_place
from report import write_rows
from timing import interleaved
from torch_twin import twin

import minicnn
from minicnn import backend, functional, models, nn
from minicnn.optim import SGD
from minicnn.summary import Machine

LR, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4
RTOL = {"float32": 1e-3, "tf32": 5e-3, "bfloat16": 3e-2, "float16": 5e-3}  # of losses, by precision


def lenet(num_classes=10, image_size=28, in_channels=1) -> nn.Module:
    """LeNet's layers at their modern sizes: the small-image case, where overheads show."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(((image_size - 8) // 4) ** 2 * 16, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


def our_step(network, images, labels, device, lr=LR, precision="float32", graph=False):
    """A function that makes one training step and returns its loss; replayed as a graph if asked, from the second on."""
    x, target = minicnn.tensor(images, device=device), minicnn.tensor(labels, device=device)
    optimizer, one = SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY), np.float32(1)
    numbers, one = minicnn.precision(precision), minicnn.tensor(one, device=device)

    def work():
        optimizer.zero_grad()
        with numbers:
            loss = functional.cross_entropy(network(x), target)
        loss.backward(one)
        optimizer.move()
        return loss

    def step():
        optimizer.prepare()
        return work()

    return captured(step, work, device) if graph else step


def captured(first, work, device):
    """A function that calls first() once, and from then on replays work()."""
    graph, loss = device.new_graph(), None

    def step():
        nonlocal loss
        if loss is None:
            with graph.memory():
                result = first()
            loss = graph.capture(work)
            return result
        graph.replay()
        return loss

    return step


def torch_step(network, images, labels, place, layout, fused=None, lr=LR, precision="float32", how="eager"):
    """The same by PyTorch; `how` is "eager", "compiled", or "graph": of a GPU, captured after some steps that are undone."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout).to(place)
    network, target = network.to(place, memory_format=layout), torch.from_numpy(labels).to(place)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=fused)
    dtype = getattr(torch, precision) if precision in ("bfloat16", "float16") else torch.float32
    called = torch.compile(network) if how == "compiled" else network

    def step():
        optimizer.zero_grad(set_to_none=how != "graph")
        with torch.autocast(place, dtype, enabled=dtype is not torch.float32):
            loss = torch.nn.functional.cross_entropy(called(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return torch_graph(step, network, optimizer) if how == "graph" else step


def torch_graph(step, network, optimizer):
    """The step as a CUDA graph, captured as PyTorch's documentation has it; weights and velocities as they were before."""
    before = [p.detach().clone() for p in network.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        for p, value in zip(network.parameters(), before, strict=True):
            p.copy_(value)
            optimizer.state[p]["momentum_buffer"].zero_()

    def replay():
        graph.replay()
        return loss

    return replay


def flattened(network, image_shape) -> tuple[int, int, int] | None:
    """(H, W, C) of what the network's Flatten reads."""
    shapes = []
    for _, module in network.named_modules():
        if isinstance(module, nn.Flatten):
            module.register_forward_hook(lambda _m, inputs, _y: shapes.append(inputs[0].shape[1:]))
    with minicnn.no_grad():
        network(minicnn.tensor(np.zeros((1, *image_shape), np.float32), device=network.parameters()[0].device))
    return shapes[0]


def build(name: str):
    """(network, shape of its images): with the same weights at each call, and no dropout."""
    minicnn.manual_seed(0)
    small = name == "lenet"
    network, image_shape = (lenet(), (28, 28, 1)) if small else (models.CONSTRUCTORS[name](), (224, 224, 3))
    for _, module in network.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network, image_shape


def contenders(name: str, device, batch: int, precision: str) -> dict:
    network, image_shape = build(name)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *image_shape), np.float32)
    labels = rng.integers(0, 10 if name == "lenet" else 1000, batch)
    place, on_gpu = device_place(device), device.name.startswith("cuda")
    steps = {"ours": our_step(network.to(device), images, labels, device, precision=precision)}
    if not device.computes_on_host:
        again = build(name)[0].to(device)
        steps["ours, graph"] = our_step(again, images, labels, device, precision=precision, graph=True)
    fused = True if on_gpu else None
    for layout_name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
        for how in ("eager", "compiled", "graph") if on_gpu else ("eager",):
            rival = twin(network, flattened(network, image_shape))
            steps[f"torch {layout_name}" + (f", {how}" if on_gpu else "")] = torch_step(
                rival, images, labels, place, layout, fused, precision=precision, how=how
            )
    return steps


def floor_seconds(name: str, device, batch: int, precision: str) -> float:
    """Of a step: what no kernels of layer after layer come below."""
    ceilings = Ceilings.measure(device)
    print(ceilings)
    machine = Machine(device.name, ceilings.tensor_cores.get(precision, ceilings.flops), ceilings.bandwidth)
    network, image_shape = build(name)
    return minicnn.summary(network.to(device), (batch, *image_shape), machine).floor_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help=f"lenet, or one of {', '.join(models.CONSTRUCTORS)}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=RTOL, default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="a CSV file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.precision != "float32"
    device = backend.device(arguments.device)
    steps = contenders(arguments.network, device, arguments.batch, arguments.precision)

    losses = {name: [step().item() for _ in range(3)] for name, step in steps.items()}
    for name, values in losses.items():
        print(f"{name:<28} losses of the first steps " + " ".join(f"{v:.6f}" for v in values))
        if not np.allclose(values, losses["ours"], rtol=RTOL[arguments.precision]):
            raise SystemExit("the losses part: not the same computation, nothing timed")
    floor, rest = (
        floor_seconds(arguments.network, device, arguments.batch, arguments.precision),
        REST[device_place(device)],
    )
    timings = interleaved(steps, device.synchronize, arguments.rounds, seconds=0, rest=rest)
    ours, best = (
        min((name for name in steps if name.startswith("ours") is mine), key=lambda name: timings[name].median)
        for mine in (True, False)
    )
    rows = []
    for name, t in timings.items():
        ratio = timings[ours].median / t.median
        rows.append(
            {
                "op": f"step {arguments.network}",
                "case": f"batch {arguments.batch}, {arguments.precision}, {name}",
                "device": device.name,
                "ms": t.median * 1e3,
                "ms_low": t.low * 1e3,
                "ms_high": t.high * 1e3,
                "images_per_second": arguments.batch / t.median,
                "floor_percent": 100 * floor / t.median,
                "ratio": ratio,
            }
        )
        print(
            f"{name:<28} {t.median * 1e3:9.2f} ms  [{t.low * 1e3:.2f} .. {t.high * 1e3:.2f}]  "
            f"{arguments.batch / t.median:8.1f} images/s  {floor / t.median:6.1%} of floor  {ours} / this {ratio:.3f}"
        )
    print(f"{ours} to PyTorch's fastest ({best}): {timings[ours].median / timings[best].median:.3f}")
    if arguments.out:
        write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
