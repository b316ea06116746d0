"""How much memory training will take, before it does: a rehearsal of the step, with arrays that have shapes but no memory.

The step is the real one, and so are the engine's allocations; kernels are told nothing but to say their workspace. So
whatever an op keeps, wherever gradients meet and whenever an array goes is in the plan without being written down twice,
and the pool is the device's own: what it keeps for later arrays counts too.
"""

from __future__ import annotations

import copy
import functools
import io
import itertools
import math
import mmap
from collections import Counter
from typing import NamedTuple

import numpy as np

from minicnn import backend, functional, random
from minicnn.arena import Parameter
from minicnn.backend.feed import PLACES, Feed, kind_of
from minicnn.data import ImageBatch
from minicnn.host_memory import Pool, SharedScratch
from minicnn.layerwise import INPUT, OPTIMIZER, Part, told_apart
from minicnn.models import Network
from minicnn.nn import Buffer, Module
from minicnn.ops.conv2d import numpy_workspaces
from minicnn.optim import SGD
from minicnn.resident import ResidentBatch
from minicnn.step import Step
from minicnn.summary import memory
from minicnn.tensor import Accumulate, Tensor

ARENAS, IMAGES = Part("parameters, gradients, momenta"), Part("images that stay")
STEPS = 3  # the first one allocates, the second one finds what the first has left, and so does every other


class Row(NamedTuple):
    """One layer, or "input" (the batch on the device), "loss", "optimizer".

    forward_bytes   the most in use, by whomever, while its forward pass ran (or it itself, where it has but one)
    backward_bytes  the most in use while its backward pass ran
    at_peak_bytes   of the peak, what this layer has taken: before the peak its activations, at the peak also gradients
                    and workspace
    """

    path: str
    forward_bytes: int
    backward_bytes: int
    at_peak_bytes: int


class MemoryPlan(NamedTuple):
    """What a training run takes of a device's memory; str() is a table, as_dict() goes into JSON.

    rows         in the order of the step; where it goes in slices, of the largest slice
    arena_bytes  parameters, their copies in 16 bits, their gradients, their momenta: in use throughout
    peak_bytes   the most that is in use at once
    peak         the part of the step on which that falls
    held_bytes   the most that the device's pool takes from the system: the peak, and the blocks of other sizes that it
                 keeps for later arrays. By so much the device's used memory grows

    NumPy's own temporaries, a few MiB a thread, and the batches that a loader prepares ahead are not in it.
    """

    title: str
    device: str
    batch_size: int
    micro_batch: int
    precision: str
    rows: list[Row]
    arena_bytes: int
    peak_bytes: int
    peak: Part
    held_bytes: int

    @property
    def place(self) -> str:
        """Where the peak falls, in words."""
        path, direction = self.peak
        where = f"{direction} through {path}" if direction else f"in the {path}"
        slices = f" in slices of {self.micro_batch}" if self.micro_batch < self.batch_size else ""
        return f"{where}, batch {self.batch_size}{slices}"

    def as_dict(self) -> dict:
        """Everything as numbers, strings, lists and dicts."""
        return self._asdict() | {"rows": [row._asdict() for row in self.rows], "peak": self.peak._asdict()}

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.title}, batch {self.batch_size}, on {self.device}", show_footer=True)
        table.add_column("layer", ARENAS.path, no_wrap=True)
        for heading, total in (
            ("in use forward", ""),
            ("in use backward", ""),
            ("of the peak", memory(self.arena_bytes)),
        ):
            table.add_column(heading, total, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(row.path, *map(memory, row[1:]))
        text = io.StringIO()
        Console(file=text, width=180, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        return "\n".join([*lines, self.sentence])

    @property
    def sentence(self) -> str:
        return f"memory: {memory(self.held_bytes)} at most, {memory(self.peak_bytes)} in use at once {self.place}"


def memory_plan(
    model: Module,
    input_shape: tuple[int, ...],
    *,
    device="auto",
    micro_batch: int | None = None,
    precision="float32",
    images: tuple[int, int, int, int] | None = None,
) -> MemoryPlan:
    """What training `model` on batches x of input_shape (N, H, W, C) with SGD and momentum takes of a device's memory.
    `images` (M, H, W, C) uint8 stay there throughout, and batches are windows of them; None: each batch brings its own.

    The model is left as it is, wherever it is, and so is the device. Raises what the network's first step would raise;
    TypeError or ValueError where a module of one's own reads or writes values: then nobody knows before it has run.

    Example:
    >>> from minicnn.models import alexnet
    >>> memory_plan(alexnet(10, 28, 1), (64, 28, 28, 1), device="numpy").peak.direction
    'backward'
    """
    place = backend.device(device)
    stage = Rehearsal(place)
    network = _twin(model, stage).to(stage).train()
    step = Step(
        network,
        SGD(network.parameters(), lr=0.0, momentum=0.9),
        clip_norm=1.0,
        micro_batch=micro_batch,
        numbers=precision,
    )
    arena_bytes, (batch, labels) = stage.pool.taken[ARENAS], blank_batch(input_shape)
    if images is not None:
        stage.pool.enter(IMAGES)
        step.prepare = functools.partial(functional.prepare_images, Tensor(stage.empty(images, np.uint8), stage))
        batch = ResidentBatch(np.zeros_like(batch.windows), *batch[2:])
    with random.streams_kept(), told_apart(step, stage.pool.enter):
        for _ in range(STEPS):
            step(batch, labels)
            stage.pool.enter(INPUT)
    count = input_shape[0]
    return MemoryPlan(
        title=f"{model.name}, {model.form} form" if isinstance(model, Network) else type(model).__name__,
        device=place.name,
        batch_size=count,
        micro_batch=min(micro_batch or count, count),
        precision=precision,
        rows=stage.pool.rows(),
        arena_bytes=arena_bytes,
        peak_bytes=stage.pool.peak_bytes,
        peak=stage.pool.peak,
        held_bytes=stage.pool.pool.most_held_bytes,
    )


def check_fits(plan: MemoryPlan, model: Module, input_shape: tuple[int, ...], room: int | None) -> None:
    """ValueError where the plan takes more than `room` bytes (None: nobody knows); it says which slices of the batch fit."""
    if room is None or plan.held_bytes <= room:
        return
    needs = (
        f"this run needs {memory(plan.held_bytes)} of memory on {plan.device} ({plan.place}), there are {memory(room)}"
    )
    size = plan.micro_batch
    while size > 1:
        size = -(-size // 2)
        smaller = memory_plan(model, input_shape, device=plan.device, micro_batch=size, precision=plan.precision)
        if smaller.held_bytes <= room:
            takes = memory(smaller.held_bytes)
            raise ValueError(f"{needs}: with micro_batch={size} the same batch goes in slices and needs {takes}")
    raise ValueError(f"{needs}, and one image at a time does not fit either: use a smaller network or smaller images")


class MemoryUse(NamedTuple):
    """plan: what a run will take, None where nobody knows; before: bytes that were in use on its device when it began."""

    plan: MemoryPlan | None
    before: int

    def foreseen(self) -> str:
        return self.plan.sentence if self.plan else "memory: not foreseen, the network looks at values"

    def of(self, device) -> str:
        """How much the device's memory has grown, beside what was foreseen."""
        used, held = (None if most is None else most - self.before for most in device.most_memory())
        foreseen = (self.plan.peak_bytes, self.plan.held_bytes) if self.plan else (None, None)
        parts = [
            memory(most) + (f" {what} ({memory(expected)} foreseen)" if expected else f" {what}")
            for most, expected, what in zip((used, held), foreseen, ("in use at once", "held"), strict=True)
            if most is not None
        ]
        return f"memory: {', '.join(parts)}"


def blank_batch(shape: tuple[int, ...]) -> tuple[ImageBatch, np.ndarray]:
    n, h, w, c = shape
    images = _blank(shape)
    windows = np.arange(n)[:, None] * [1, 0, 0, 0]  # the whole of each
    scale, offset = np.ones(c, np.float32), np.zeros((n, c), np.float32)
    return ImageBatch(images, windows, scale, offset, (h, w)), np.zeros(n, np.int64)


def _blank(shape: tuple[int, ...]) -> np.ndarray:
    """Bytes that read as zero, of no memory."""
    pages = mmap.mmap(-1, max(math.prod(shape), 1), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    return np.frombuffer(pages, np.uint8, math.prod(shape)).reshape(shape)


def _twin(model: Module, stage: Rehearsal) -> Module:
    """The model with other parameters and buffers, of the same shapes."""
    twins = {}
    for named in (model.named_parameters(), model.named_buffers()):
        for _, tensor in named:
            hollow = np.broadcast_to(tensor.dtype.type(0), tensor.shape)
            if isinstance(tensor, Parameter):
                twins[id(tensor)] = Parameter(hollow, stage)
                twins[id(tensor)].requires_grad = tensor.requires_grad
            else:
                twins[id(tensor)] = Buffer(hollow)
    return copy.deepcopy(model, twins)


class Rehearsal(backend.HostDevice):
    """A device like another, whose arrays have no memory: zeros that cannot be written. Kernels do nothing."""

    def __init__(self, of: backend.Device):
        super().__init__(of.name, Ledger(of.keeps_free_blocks))
        self.of = of
        self.computes_on_host, self.smallest_block = of.computes_on_host, of.smallest_block
        self.shared_scratch = SharedScratch() if of.shared_scratch else None
        self.feed_type = RehearsedFeed if of.feed_type is Feed else of.feed_type

    def __deepcopy__(self, _memo):
        return self

    def block_size(self, nbytes):
        return self.of.block_size(nbytes)

    def kernels_for(self, dtype):
        return RehearsedKernels(self, self.of.kernels_for(dtype))

    def empty(self, shape, dtype=np.float32):
        dtype = np.dtype(dtype)
        if np.prod(shape, dtype=np.int64) * dtype.itemsize < self.smallest_block:
            return np.zeros(shape, dtype)
        array = super().empty(shape, dtype)
        array.flags.writeable = False
        return array

    def array(self, values):
        return self.empty(np.shape(values), np.asarray(values).dtype)

    def write(self, array, values) -> None:
        """Nothing is written."""

    def copy(self, source, target) -> None:
        """Nothing is written."""

    def elementwise(self, work, *arrays) -> None:
        """Nothing is written."""

    def zero(self, array) -> None:
        """It is zero."""


class RehearsedFeed:
    """The places of a Feed on the device."""

    def __init__(self, device: Rehearsal):
        self.device, self.places = device, {}

    def push(self, arrays) -> list:
        kind = kind_of(arrays)
        if kind not in self.places:
            self.places[kind] = itertools.cycle(
                [[self.device.empty(*described) for described in kind] for _ in range(PLACES)]
            )
        return next(self.places[kind])


ELSEWHERE = ("conv2d_im2col", "conv2d_maxpool2d")  # kernels that NumPy's ops do not stand for


class RehearsedKernels:
    """Answers for the kernels of a device: what they ask for and what they fit are the real ones', the rest returns at once.

    Where NumPy computes (`of` is None) an op stands for its kernels. It keeps the same arrays; its scratch is what
    `numpy_workspaces` says, and a gradient that meets an earlier one is computed apart from it and then added.
    """

    def __init__(self, device: Rehearsal, of):
        self._device, self._of = device, of

    def __getattr__(self, name: str):
        if self._of is not None:
            function = getattr(self._of, name)  # AttributeError where that device has no such kernel
            return function if name.endswith(("_workspace", "_fits")) else _nothing
        if name.startswith(ELSEWHERE):
            raise AttributeError(name)
        if name.endswith("_workspace"):
            return numpy_workspaces.get(name, _no_workspace)
        return self._meet

    def _meet(self, *arguments) -> None:
        for array, accumulate in itertools.pairwise(arguments):
            if accumulate is Accumulate.add:
                self._device.empty(array.shape, array.dtype)


def _nothing(*_arguments) -> None:
    pass


def _no_workspace(*_arguments) -> int:
    return 0


class Ledger:
    """A rehearsal's memory: pages that are never touched, in a pool where the device has one; and who takes how much."""

    def __init__(self, keeps_free_blocks: bool):
        self.pages: dict[int, np.ndarray] = {}
        self.pool = Pool(self.map, self.pages.pop)
        self.keeps_free_blocks = keeps_free_blocks
        self.part = self.peak = ARENAS
        self.takers: dict[int, Part] = {}  # by address
        self.taken: Counter[Part] = Counter()  # bytes in use
        self.taken_at_peak: Counter[Part] = Counter()
        self.most_in_use: Counter[Part] = Counter()

    def map(self, nbytes: int) -> int:
        pages = _blank((max(nbytes, 1),))
        self.pages[pages.ctypes.data] = pages
        return pages.ctypes.data

    def take(self, nbytes: int) -> int:
        address = self.pool.take(nbytes)
        self.takers[address] = self.part
        self.taken[self.part] += nbytes
        if self.in_use > self.peak_bytes:
            self.peak, self.taken_at_peak = self.part, self.taken.copy()
        self.enter(self.part)
        return address

    def give_back(self, address: int, nbytes: int) -> None:
        self.pool.give_back(address, nbytes)
        self.taken[self.takers.pop(address)] -= nbytes
        if not self.keeps_free_blocks:
            self.pool.trim()

    def enter(self, part: Part) -> None:
        self.part = part
        self.most_in_use[part] = max(self.most_in_use[part], self.in_use)

    @property
    def in_use(self) -> int:
        return self.pool.used_bytes

    @property
    def peak_bytes(self) -> int:
        return self.taken_at_peak.total()

    def rows(self) -> list[Row]:
        """Of the parts of a step, in the order in which they were first entered; without modules that only call others."""
        backward = {part.path: most for part, most in self.most_in_use.items() if part.direction == "backward"}
        own = ({part.path for part in self.taken} | {OPTIMIZER.path}) - {ARENAS.path}
        forward = {part.path: most for part, most in self.most_in_use.items() if part.direction != "backward"}
        at_peak: Counter[str] = Counter()
        for part, nbytes in self.taken_at_peak.items():
            at_peak[part.path] += nbytes
        return [Row(path, most, backward.get(path, 0), at_peak[path]) for path, most in forward.items() if path in own]
