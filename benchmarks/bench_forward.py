"""Single forward passes in float32, at the problem sizes for which others have published times: networks of KernelBench
(Ouyang et al. 2025, "KernelBench: Can LLMs Write Efficient GPU Kernels?", levels 1 and 3).

    alexnet         AlexNet in one tower and without normalisation, batch 1024
    vgg16, vgg19    batch 10
    alexnet_conv1   AlexNet's first convolution, batch 256

PyTorch runs eagerly and compiled, in NCHW and in channels-last; the fastest counts. Results are compared first.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from ceilings import Ceilings
from harness import FLUSHED, REST, device_place
from options import device_of, positive, writable
from report import clock, write_rows
from timing import cuda_stopwatch, host_stopwatch, interleaved, single
from torch_twin import twin

import minicnn
from minicnn import models, nn

BATCHES = {"alexnet": 1024, "vgg16": 10, "vgg19": 10, "alexnet_conv1": 256}
RTOL = 1e-3  # of the largest value


def build(name: str, size: int) -> nn.Module:
    """In evaluation mode, with the same weights at each call."""
    minicnn.manual_seed(0)
    if name == "alexnet_conv1":
        return nn.Sequential(nn.Conv2d(3, 96, 11, stride=4, padding=2)).eval()
    if name == "alexnet":
        layers = models.alexnet_one_tower(image_size=size).chain()
        return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.LocalResponseNorm))).eval()
    return models.CONSTRUCTORS[name](image_size=size).eval()


def flattened(network: nn.Module, x: np.ndarray) -> tuple[int, ...] | None:
    """(H, W, C) of what the network's Flatten reads, where it has one."""
    shapes = []
    for _, module in network.named_modules():
        if isinstance(module, nn.Flatten):
            module.register_forward_hook(lambda _m, inputs, _y: shapes.append(inputs[0].shape[1:]))
    with minicnn.no_grad():
        network(minicnn.tensor(x[:1], device="cpu"))
    return shapes[0] if shapes else None


def ours(network: nn.Module, x: np.ndarray, device):
    network, images = network.to(device), minicnn.tensor(x, device=device)

    def forward():
        with minicnn.no_grad():
            return network(images)

    return forward


def rivals(name: str, size: int, x: np.ndarray, place: str) -> dict:
    network, found = build(name, size).to("cpu"), {}
    features = flattened(network, x)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).to(place)
    for layout_name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
        rival = twin(network, features).eval().to(place, memory_format=layout)
        for how in ("eager", "compiled") if place == "cuda" else ("eager",):
            called = torch.compile(rival) if how == "compiled" else rival
            found[f"torch {layout_name}, {how}"] = torch_forward(called, images.contiguous(memory_format=layout))
    return found


def torch_forward(network, images: torch.Tensor):
    @torch.no_grad()
    def forward():
        return network(images)

    return forward


def agree(found, expected: torch.Tensor) -> bool:
    """Whether it is PyTorch's result, whose images are channels first."""
    expected = expected.permute(0, 2, 3, 1) if expected.ndim == 4 else expected
    expected = expected.cpu().numpy()
    return bool(np.abs(found - expected).max() <= RTOL * np.abs(expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="*", default=list(BATCHES), help=f"{', '.join(BATCHES)} (all)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=positive, default=None, help="images, in place of the published sizes")
    parser.add_argument("--image-size", type=positive, default=224, help="pixels (224)")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--out", type=writable, default=None, help="a CSV file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device, rows = device_of(parser, arguments.device), []
    for name in arguments.network:
        if name not in BATCHES:
            parser.error(f"no network {name!r}: choose from {', '.join(BATCHES)}")
        rows.append(measure(name, arguments, device))
    if arguments.out:
        write_rows(arguments.out, rows, Ceilings.measure(device))


def measure(name: str, arguments, device) -> dict:
    batch, size, place = arguments.batch or BATCHES[name], arguments.image_size, device_place(device)
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3), np.float32)
    contenders = {"ours": ours(build(name, size), x, device), **rivals(name, size, x, place)}
    result = contenders["ours"]().numpy()
    for rival, forward in contenders.items():
        if rival != "ours" and not agree(result, forward()):
            raise SystemExit(f"{name}: {rival} has another result; not timed")
    warm = interleaved(contenders, device.synchronize, arguments.rounds, seconds=0.1, rest=REST[place])
    other = torch.empty(FLUSHED[place], dtype=torch.uint8, device=place)
    stopwatch = cuda_stopwatch() if place == "cuda" else host_stopwatch(device.synchronize)
    chilled = single(contenders, lambda _: other.zero_(), stopwatch, arguments.rounds)
    best = min(set(contenders) - {"ours"}, key=lambda rival: warm[rival].median)
    row = {
        "op": "forward",
        "case": f"{name}, batch {batch}, {size} pixels, float32",
        "device": device.name,
        "ms": warm["ours"].median * 1e3,
        "ms_low": warm["ours"].low * 1e3,
        "ms_high": warm["ours"].high * 1e3,
        "rival": best,
        "rival_ms": warm[best].median * 1e3,
        "ratio": warm["ours"].median / warm[best].median,
        "cold_ms": chilled["ours"].median * 1e3,
        "rival_cold_ms": min(chilled[rival].median for rival in contenders if rival != "ours") * 1e3,
    }
    row["cold_ratio"] = row["cold_ms"] / row["rival_cold_ms"]
    for rival, timing in warm.items():
        print(f"{row['case']}  {rival:<28} {timing.median * 1e3:9.3f} ms", flush=True)
    return row | ({"sm_mhz": clock()} if place == "cuda" else {})


if __name__ == "__main__":
    main()
