"""One training step: forward, loss, backward, clipping, the optimizer; whole, or in slices whose gradients add up."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicnn import evaluation, functional
from minicnn.creation import tensor
from minicnn.data import ImageBatch
from minicnn.loss_scale import LossScale
from minicnn.nn import Module
from minicnn.ops.precision import precision
from minicnn.optim import SGD, clip_grad_norm
from minicnn.tensor import Tensor


class Part(NamedTuple):
    """What a step leaves of one slice of its batch: mean loss (), logits (n, classes), labels (n,) on the host."""

    loss: Tensor
    logits: Tensor
    labels: np.ndarray


class Step:
    """step(images, labels) -> [Part, ...], one a slice.

    network, optimizer  on one device. The loss is the network's own `loss(outputs, target, label_smoothing)`, the mean
                        over its images, or cross-entropy
    clip_norm           the most that the joint 2-norm of the gradients may be; None leaves them
    micro_batch         images in a slice; the last one may be short. None: the batch whole
    numbers             the precision of the matrix products; "float16" has a loss_scale, by which a step is left out
                        whose gradients overflow

    The gradient is that of the mean loss over the whole batch for any micro_batch, but for rounding: a slice of n of N
    images counts n / N. What a network computes across images is computed within each slice: batch normalisation takes
    the slice's statistics, and its running ones follow slice by slice. A dropout layer draws one mask a slice, in order.

    Raises ValueError for a micro_batch below 1 and an unknown precision.
    """

    def __init__(
        self,
        network: Module,
        optimizer: SGD,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        micro_batch: int | None = None,
        numbers: str = "float32",
    ):
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {micro_batch}")
        self.network, self.optimizer = network, optimizer
        self.label_smoothing, self.clip_norm, self.micro_batch = label_smoothing, clip_norm, micro_batch
        self.numbers, self.loss_scale = precision(numbers), LossScale() if numbers == "float16" else None
        self.loss = getattr(network, "loss", functional.cross_entropy)  # a network may have one of its own

    def __call__(self, images: ImageBatch, labels: np.ndarray) -> list[Part]:
        self.optimizer.zero_grad()
        parts = [self.backward(images.part(share), labels[share], len(labels)) for share in self.slices(len(labels))]
        self.update()
        return parts

    def slices(self, count: int) -> list[slice]:
        size = self.micro_batch or count
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def backward(self, images: ImageBatch, labels: np.ndarray, count: int) -> Part:
        """Add to the gradients what these images, some of `count`, give."""
        device = self.optimizer.device
        x, target = evaluation.network_input(images, device), tensor(labels, device=device)
        with self.numbers:
            outputs = self.network(x)
            loss = self.mean_loss(outputs, target)
        loss.backward(np.full(loss.shape, self.scale * len(labels) / count))
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return Part(loss.detach(), logits.detach(), labels)

    def mean_loss(self, outputs, target: Tensor) -> Tensor:
        return self.loss(outputs, target, label_smoothing=self.label_smoothing)

    @property
    def scale(self) -> float:
        return self.loss_scale.value if self.loss_scale else 1.0

    def update(self) -> None:
        optimizer = self.optimizer
        if self.clip_norm is not None or self.loss_scale:
            norm = clip_grad_norm(optimizer.chosen, self.scale * (self.clip_norm or math.inf))
        if self.loss_scale:
            optimizer.grad_scale = 1 / self.scale
            if not self.loss_scale.accept(norm.item()):
                optimizer.device.zero(optimizer.arena.grad)  # also the gaps, which were multiplied by what is no number
                return
        optimizer.step()
