"""Whole training steps (forward, loss, backward, SGD with momentum) beside PyTorch's, interleaved, losses compared.

PyTorch runs in NCHW and in channels-last; the faster counts. Dropout is off in both, so that the losses of the first
steps can be compared. `python benchmarks/bench_step.py alexnet_owt --batch 16`
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch
from harness import device_place
from report import write_rows
from timing import interleaved
from torch_twin import twin

import minicnn
from minicnn import backend, functional, models, nn
from minicnn.optim import SGD

LR, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4


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


def our_step(network, images, labels, device, lr=LR):
    """A function that makes one training step and returns its loss."""
    x, target = minicnn.tensor(images, device=device), minicnn.tensor(labels, device=device)
    optimizer = SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def step():
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_step(network, images, labels, place, layout, fused=None, lr=LR):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout).to(place)
    network, target = network.to(place, memory_format=layout), torch.from_numpy(labels).to(place)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=fused)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), target)
        loss.backward()
        optimizer.step()
        return loss

    return step


def flattened(network, image_shape) -> tuple[int, int, int] | None:
    """(H, W, C) of what the network's Flatten reads."""
    shapes = []
    for _, module in network.named_modules():
        if isinstance(module, nn.Flatten):
            module.register_forward_hook(lambda _m, inputs, _y: shapes.append(inputs[0].shape[1:]))
    with minicnn.no_grad():
        network(minicnn.tensor(np.zeros((1, *image_shape), np.float32), device=network.parameters()[0].device))
    return shapes[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help=f"lenet, or one of {', '.join(models.CONSTRUCTORS)}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="a CSV file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = backend.device(arguments.device)
    constructor = lenet if arguments.network == "lenet" else models.CONSTRUCTORS[arguments.network]
    network, image_shape = constructor(), (28, 28, 1) if arguments.network == "lenet" else (224, 224, 3)
    classes = 10 if arguments.network == "lenet" else 1000
    for _, module in network.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.to(device)

    rng = np.random.default_rng(0)
    images = rng.standard_normal((arguments.batch, *image_shape), np.float32)
    labels = rng.integers(0, classes, arguments.batch)
    features, place = flattened(network, image_shape), device_place(device)
    steps = {"ours": our_step(network, images, labels, device)}
    for name, layout in (("torch NCHW", torch.contiguous_format), ("torch channels-last", torch.channels_last)):
        steps[name] = torch_step(twin(network, features), images, labels, place, layout)

    losses = {name: [step().item() for _ in range(3)] for name, step in steps.items()}
    for name, values in losses.items():
        print(f"{name:<20} losses of the first steps " + " ".join(f"{v:.6f}" for v in values))
        if not np.allclose(values, losses["ours"], rtol=1e-3):
            raise SystemExit("the losses part: not the same computation, nothing timed")
    timings = interleaved(steps, device.synchronize, arguments.rounds, seconds=0)
    best = min((name for name in steps if name != "ours"), key=lambda name: timings[name].median)
    rows = []
    for name, t in timings.items():
        ratio = timings["ours"].median / t.median
        rows.append(
            {
                "op": f"step {arguments.network}",
                "case": f"batch {arguments.batch}, {name}",
                "device": device.name,
                "ms": t.median * 1e3,
                "ms_low": t.low * 1e3,
                "ms_high": t.high * 1e3,
                "images_per_second": arguments.batch / t.median,
                "ratio": ratio,
            }
        )
        print(
            f"{name:<20} {t.median * 1e3:9.2f} ms  [{t.low * 1e3:.2f} .. {t.high * 1e3:.2f}]  ours / this {ratio:.3f}"
        )
    print(f"ratio to PyTorch's faster layout ({best}): {timings['ours'].median / timings[best].median:.3f}")
    if arguments.out:
        write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
