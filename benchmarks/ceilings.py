"""What this machine can do at most, measured in the run that quotes it: copy bandwidth and float32 matrix rate."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch


def _best_seconds(function, synchronize, rounds: int = 7) -> float:
    times = []
    for _ in range(rounds):
        synchronize()
        started = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


@dataclass(frozen=True)
class Ceilings:
    """bandwidth  bytes/s of a large copy, read + written; flops  FLOP/s of the best float32 matrix product at hand."""

    bandwidth: float
    flops: float

    @classmethod
    def measure(cls, device) -> Ceilings:
        """Best of several runs, through PyTorch (BLAS or cuBLAS): the library's rate, not the data sheet's."""
        place = "cuda" if device.name.startswith("cuda") else "cpu"
        synchronize = torch.cuda.synchronize if place == "cuda" else lambda: None
        source = torch.ones(1 << 26, device=place)
        target = torch.empty_like(source)
        size = 8192 if place == "cuda" else 2048
        matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((size, size), np.float32)).to(place)
        return cls(
            bandwidth=2 * source.numel() * 4 / _best_seconds(lambda: target.copy_(source), synchronize),
            flops=2 * size**3 / _best_seconds(lambda: torch.mm(matrix, matrix), synchronize),
        )

    def floor(self, flops: int, nbytes: int) -> float:
        """Seconds below which nobody comes: all bytes once, or all operations once."""
        return max(flops / self.flops, nbytes / self.bandwidth)

    def __str__(self) -> str:
        return f"ceilings: copy {self.bandwidth / 1e9:.1f} GB/s, float32 matrix product {self.flops / 1e9:.0f} GFLOP/s"
