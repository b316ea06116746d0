"""One training step: forward, loss, backward, clipping, the optimizer; whole, or in slices whose gradients add up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from minicnn import functional
from minicnn.data import ImageBatch
from minicnn.errors import DeviceError
from minicnn.loss_scale import LossScale
from minicnn.nn import Module
from minicnn.ops.precision import precision
from minicnn.optim import Optimizer, clip_grad_norm
from minicnn.tensor import Tensor


class Part(NamedTuple):
    """What a step leaves of one slice of its batch: mean loss (), logits (n, classes), labels (n,) on the host."""

    loss: Tensor
    logits: Tensor
    labels: np.ndarray


class HostSlice(NamedTuple):
    """What one slice of a batch brings to the device: the arrays of its ImageBatch, labels, and the weight () of its mean
    loss; size (height, width) of the images' windows."""

    arrays: tuple[np.ndarray, ...]
    size: tuple[int, int]


class DeviceSlice(NamedTuple):
    tensors: tuple[Tensor, ...]
    size: tuple[int, int]


class Results(NamedTuple):
    """parts: (loss, logits) of each slice; norm: of the gradients, () on the device, where it was asked for."""

    parts: list[tuple[Tensor, Tensor]]
    norm: Tensor | None


class Step:
    """step(images, labels) -> [Part, ...], one a slice.

    network, optimizer  on one device. The loss is the network's own `loss(outputs, target, label_smoothing)`, the mean
                        over its images, or cross-entropy
    clip_norm           the most that the joint 2-norm of the gradients may be; None leaves them
    micro_batch         images in a slice; the last one may be short. None: the batch whole
    numbers             the precision of the matrix products; "float16" has a loss_scale, by which a step is left out
                        whose gradients overflow
    step_in_backward    the optimizer steps as it can within the walk backward (optim.SGD.backward_and_step): the numbers of
                        the step behind it, but for rounding

    The gradient is that of the mean loss over the whole batch for any micro_batch, but for rounding: a slice of n of N
    images counts n / N. What a network computes across images is computed within each slice: batch normalisation takes
    the slice's statistics, and its running ones follow slice by slice. A dropout layer draws one mask a slice, in order.

    Raises ValueError for a micro_batch below 1, an unknown precision, and where check_step_in_backward does.
    """

    why_none = ""  # why there is no graph where one was asked for

    def __init__(
        self,
        network: Module,
        optimizer: Optimizer,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        micro_batch: int | None = None,
        numbers: str = "float32",
        step_in_backward: bool = False,
    ):
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {micro_batch}")
        if step_in_backward:
            check_step_in_backward(optimizer.name.lower(), clip_norm, micro_batch, numbers)
        self.network, self.optimizer = network, optimizer
        self.label_smoothing, self.clip_norm, self.micro_batch = label_smoothing, clip_norm, micro_batch
        self.step_in_backward = step_in_backward
        self.numbers, self.loss_scale = precision(numbers), LossScale() if numbers == "float16" else None
        with self.numbers:
            optimizer.keep_copy()
        self.feed = optimizer.device.new_feed()
        self.loss = getattr(network, "loss", functional.cross_entropy)  # a network may have one of its own

    def __call__(self, images: ImageBatch, labels: np.ndarray) -> list[Part]:
        shares = self.slices(len(labels))
        self.optimizer.grad_scale = 1 / self.scale
        self.optimizer.prepare()
        results = self.on_device([self.values(images.part(s), labels[s], len(labels)) for s in shares])
        if self.loss_scale:
            self.accept(results.norm)
        return [Part(*parts, labels[share]) for share, parts in zip(shares, results.parts, strict=True)]

    def slices(self, count: int) -> list[slice]:
        size = self.micro_batch or count
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def values(self, images: ImageBatch, labels: np.ndarray, count: int) -> HostSlice:
        """What a slice, some of `count` images, brings to the device."""
        weight = np.array(self.scale * len(labels) / count, np.float32)
        return HostSlice((*images[:-1], labels, weight), images.size)

    def prepare(self, *arguments) -> Tensor:
        """The network's input, of the tensors and the size of a batch."""
        return functional.prepare_images(*arguments)

    def on_device(self, slices: list[HostSlice]) -> Results:
        return self.compute(map(self.load, slices))

    def load(self, one: HostSlice) -> DeviceSlice:
        """On the device, to be read by what is queued before the next one is loaded."""
        device = self.optimizer.device
        return DeviceSlice(tuple(Tensor(array, device) for array in self.feed.push(one.arrays)), one.size)

    def compute(self, slices: Iterable[DeviceSlice]) -> Results:
        """The step, but for what the host decides: nothing of it depends on values of the host."""
        self.optimizer.zero_grad()
        parts = [self.backward(one) for one in slices]
        return Results(parts, self.update())

    def backward(self, one: DeviceSlice) -> tuple[Tensor, Tensor]:
        """Add to the gradients what a slice gives, or step with them; its mean loss and logits."""
        *batch, target, weight = one.tensors
        with self.numbers:
            outputs = self.network(self.prepare(*batch, one.size))
            loss = self.mean_loss(outputs, target)
        if self.step_in_backward:
            self.optimizer.backward_and_move(loss, weight)
        else:
            loss.backward(weight)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return loss.detach(), logits.detach()

    def mean_loss(self, outputs, target: Tensor) -> Tensor:
        return self.loss(outputs, target, label_smoothing=self.label_smoothing)

    @property
    def scale(self) -> float:
        return self.loss_scale.value if self.loss_scale else 1.0

    def update(self) -> Tensor | None:
        """Clip the gradients, and move the weights unless they have been, or the host must see the norm first; that norm."""
        norm = None
        if self.clip_norm is not None or self.loss_scale:
            norm = clip_grad_norm(self.optimizer.chosen, self.scale * (self.clip_norm or math.inf))
        if self.loss_scale is None and not self.step_in_backward:
            self.optimizer.move()
        return norm

    def accept(self, norm: Tensor) -> None:
        """Move the weights if the scaled gradients are finite; the loss scale follows."""
        if self.loss_scale.accept(norm.item()):
            self.optimizer.move()
        else:
            self.optimizer.device.zero(self.optimizer.arena.grad)  # also the gaps, multiplied by what is no number


def check_step_in_backward(optimizer: str, clip_norm: float | None, micro_batch: int | None, numbers: str) -> None:
    """ValueError where no weight can be moved before all gradients are there, or where no kernel moves it."""
    if clip_norm is not None:
        raise ValueError(
            f"step_in_backward excludes clip_norm, which is {clip_norm}: the norm is that of all gradients, which are not kept. "
            "Leave the one out, or the other (clip_norm=False; --set clip_norm=false)"
        )
    if micro_batch is not None:
        raise ValueError(
            f"step_in_backward excludes micro_batch, which is {micro_batch}: gradients of slices add up before the step. "
            "Leave one of them out"
        )
    if numbers != "float32":
        raise ValueError(
            f"step_in_backward excludes precision={numbers!r}: the kernels that step within the walk compute in float32. "
            "Leave one of them out"
        )
    if optimizer != "sgd":
        raise ValueError(
            f"step_in_backward excludes optimizer={optimizer!r}: there are kernels for the step of 'sgd' alone"
        )


class GraphedStep(Step):
    """The same step as one graph: the first of a batch's shape is an ordinary one, and captured, the others are replays.

    Same numbers, to the bit, without the host's work between two kernels. The device gets nothing but the batch, the learning
    rate and the loss's weight; no memory is taken after the first step. A replay's losses and logits stand in `kept`
    places that take turns: read them before so many steps more. A loss scale is part of the graph, which is captured anew
    when it changes.

    Where the network's own code takes values from the host while it computes, there is no graph: `why_none` says why, and
    every step is an ordinary one.
    """

    def __init__(self, *arguments, kept: int = 1, **options):
        super().__init__(*arguments, **options)
        self.kept = kept
        self.key = None  # what the graph was captured for

    def on_device(self, slices: list[HostSlice]) -> Results:
        if self.why_none:
            return super().on_device(slices)
        key = (self.scale, self.optimizer.arena.copy, [[array.shape for array in one.arrays] for one in slices])
        return self.replay(slices) if key == self.key else self.first(slices, key)

    def first(self, slices: list[HostSlice], key) -> Results:
        device = self.optimizer.device
        self.key = self.graph = self.results = None  # gives back the memory of another shape's
        graph = device.new_graph()
        with graph.memory():
            inputs = [DeviceSlice(_like(one.arrays, device), one.size) for one in slices]
        self.fill(inputs, slices)
        with graph.memory():
            results = self.compute(inputs)
            places = [[_like(tensors, device) for tensors in results.parts] for _ in range(self.kept)]
        try:
            self.results = graph.capture(lambda: self.compute(inputs))
        except DeviceError as error:
            self.why_none = str(error)
            return results
        self.key, self.graph, self.inputs, self.places = key, graph, inputs, itertools.cycle(places)
        return results

    def replay(self, slices: list[HostSlice]) -> Results:
        self.fill(self.inputs, slices)
        self.graph.replay()
        place = next(self.places)
        for results, copies in zip(self.results.parts, place, strict=True):
            _copy(results, copies)
        return Results(place, self.results.norm)

    def fill(self, inputs: list[DeviceSlice], slices: list[HostSlice]) -> None:
        """What the graph reads: the feed's own places change from step to step."""
        for there, one in zip(inputs, slices, strict=True):
            _copy(self.load(one).tensors, there.tensors)


def _like(arrays: Iterable, device) -> tuple[Tensor, ...]:
    return tuple(Tensor(device.empty(array.shape, array.dtype), device) for array in arrays)


def _copy(tensors: tuple[Tensor, ...], copies: tuple[Tensor, ...]) -> None:
    for one, copy in zip(tensors, copies, strict=True):
        one.device.copy(one.data, copy.data)
