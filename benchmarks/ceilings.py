"""What this machine can do at most, measured in the run that quotes it: copy bandwidth and matrix rates.

`python benchmarks/ceilings.py --device cuda` prints them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import numpy as np
import torch
from timing import cuda_stopwatch, host_stopwatch


def _best_seconds(function, stopwatch, rounds: int = 7) -> float:
    readings = [stopwatch(function) for _ in range(rounds)]
    return min(read() for read in readings[1:])


@dataclass(frozen=True)
class Ceilings:
    """bandwidth      bytes/s of a large copy, read + written
    flops          FLOP/s of the best float32 matrix product at hand
    tensor_cores   those of the formats that tensor cores multiply: none on a CPU
    """

    bandwidth: float
    flops: float
    tensor_cores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def measure(cls, device) -> Ceilings:
        """Best of several runs, through PyTorch (BLAS or cuBLAS): the library's rate, not the data sheet's."""
        place = "cuda" if device.name.startswith("cuda") else "cpu"
        stopwatch = cuda_stopwatch() if place == "cuda" else host_stopwatch(lambda: None)
        source = torch.ones(1 << 26, device=place)
        target = torch.empty_like(source)
        size = 8192 if place == "cuda" else 2048
        matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((size, size), np.float32)).to(place)

        def rate(factor) -> float:
            return 2 * size**3 / _best_seconds(lambda: torch.mm(factor, factor), stopwatch)

        bandwidth = 2 * source.numel() * 4 / _best_seconds(lambda: target.copy_(source), stopwatch)
        return cls(bandwidth, rate(matrix), _tensor_core_rates(matrix, rate) if place == "cuda" else {})

    def floor(self, flops: int, nbytes: int, precision: str = "float32") -> float:
        """Seconds below which nobody comes: all bytes once, or all operations once."""
        return max(flops / self.rate(precision), nbytes / self.bandwidth)

    def rate(self, precision: str) -> float:
        """FLOP/s; with "tf32x3" three products of TF32 are one."""
        if precision == "tf32x3" and "tf32" in self.tensor_cores:
            return self.tensor_cores["tf32"] / 3
        return self.tensor_cores.get(precision, self.flops)

    def __str__(self) -> str:
        rates = {"float32": self.flops, **self.tensor_cores}
        products = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
        return f"ceilings: copy {self.bandwidth / 1e9:.1f} GB/s; matrix products in GFLOP/s: {products}"


def _tensor_core_rates(matrix, rate) -> dict[str, float]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        tf32 = rate(matrix)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return {"tf32": tf32, "bfloat16": rate(matrix.bfloat16()), "float16": rate(matrix.half())}


def main() -> None:
    from options import device_of

    parser = argparse.ArgumentParser(description="copy bandwidth and matrix rates of a device")
    parser.add_argument("--device", default="auto")
    print(Ceilings.measure(device_of(parser, parser.parse_args().device)))


if __name__ == "__main__":
    main()
