"""How many blocks of each kernel share a processor: registers from the machine code, threads and shared memory from
launches on the emulated device.

Source of the limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .launches import Launch
from .machine_code import Kernel

TABLE = Path(__file__).parents[2] / "docs" / "occupancy.md"
REGISTERS, WARP, KIB = 65536, 32, 1024

HEAD = """\
# Occupancy

`python -m tests.gates` writes this table; a test says when it is out of date. A kernel has a row for each instance that
runs on arrays of whole quads, with the threads and bytes of shared memory of a block, and for each architecture the
registers of a thread, the blocks that share a processor, and the share of the processor's warps that they are.
Compiled by nvcc {version}. What it means for speed, only a measurement tells: the matrix kernels live on what each
thread holds in registers, and want few threads.

"""


class Processor(NamedTuple):
    """What the blocks on a streaming multiprocessor share; `reserved` bytes of shared memory go with every block."""

    threads: int
    blocks: int
    shared_bytes: int
    reserved: int


PROCESSORS = {
    "sm_75": Processor(1024, 16, 64 * KIB, 0),
    "sm_80": Processor(2048, 32, 164 * KIB, KIB),
    "sm_86": Processor(1536, 16, 100 * KIB, KIB),
    "sm_89": Processor(1536, 24, 100 * KIB, KIB),
    "sm_90a": Processor(2048, 32, 228 * KIB, KIB),
}


def round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def blocks_per_processor(architecture: str, registers: int, threads: int, shared_bytes: int) -> int:
    """Registers are handed out 256 a warp, to warps by fours; shared memory 128 bytes at a time."""
    processor = PROCESSORS[architecture]
    warps = round_up(threads, WARP) // WARP
    warps_with_registers = REGISTERS // max(round_up(registers * WARP, 256), 1) // 4 * 4
    shared = round_up(shared_bytes, 128) + processor.reserved
    by_shared = processor.shared_bytes // shared if shared else processor.blocks
    return min(processor.blocks, processor.threads // (warps * WARP), warps_with_registers // warps, by_shared)


def largest(launches: Iterable[Launch]) -> dict[str, Launch]:
    """Of each kernel the launch with the most shared memory."""
    found: dict[str, Launch] = {}
    for launch in sorted(launches, key=lambda launch: (launch.shared_bytes, launch.threads)):
        found[launch.kernel] = launch
    return found


def table(kernels: Iterable[Kernel], launches: Iterable[Launch], version: str) -> str:
    """The page of docs/."""
    compiled = {(kernel.name, kernel.architecture): kernel for kernel in kernels}
    architectures = sorted({architecture for _, architecture in compiled})
    titles = ["kernel", "threads", "shared bytes"]
    for architecture in architectures:
        titles += [f"{architecture} registers", "blocks", "warps"]
    lines = ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
    for name, launch in sorted(largest(launches).items()):
        cells = [f"`{name}`", str(launch.threads), str(launch.shared_bytes)]
        for architecture in architectures:
            registers = compiled[name, architecture].registers
            blocks = blocks_per_processor(architecture, registers, launch.threads, launch.shared_bytes)
            share = blocks * round_up(launch.threads, WARP) / PROCESSORS[architecture].threads
            cells += [str(registers), str(blocks), f"{share:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return HEAD.format(version=version) + "\n".join(lines) + "\n"
