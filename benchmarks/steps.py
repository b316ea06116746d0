"""The contenders of a race of training steps: forward, loss, backward, SGD with momentum. Ours, and PyTorch's.

Both get the same network, weights and batch. Dropout is off, so that the losses of their first steps can be compared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch_twin import twin

import minicnn
from minicnn import functional, models, nn
from minicnn.optim import SGD

LR, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
MEAN, DEVIATION = 127.5, 64.0  # of pixels: what images that are loaded are normalised by


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


def build(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """(network, shape of its images): with the same weights at each call, and no dropout."""
    minicnn.manual_seed(0)
    small = name == "lenet"
    network, image_shape = (lenet(), (28, 28, 1)) if small else (models.CONSTRUCTORS[name](), (224, 224, 3))
    for _, module in network.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network, image_shape


def classes(name: str) -> int:
    return 10 if name == "lenet" else 1000


def batch_of(name: str, image_shape: tuple[int, int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same (images, labels) at each call."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, *image_shape), np.float32), rng.integers(0, classes(name), count)


# Ours.


def our_optimizer(network: nn.Module, lr=LR) -> SGD:
    return SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def our_step(network, images, labels, device, lr=LR, precision="float32", how="eager"):
    """A function that makes one training step and returns its loss. `how` is "eager", "graph": replayed as one from the
    second step on, or "graph, step in backward": of which SGD is a part of the walk backward as far as it can be."""
    x, target = minicnn.tensor(images, device=device), minicnn.tensor(labels, device=device)
    optimizer, one = our_optimizer(network, lr), minicnn.tensor(np.float32(1), device=device)
    numbers = minicnn.precision(precision)
    with numbers:
        optimizer.keep_copy()

    def work():
        optimizer.zero_grad()
        with numbers:
            loss = functional.cross_entropy(network(x), target)
        if how.endswith("step in backward"):
            optimizer.backward_and_move(loss, one)
        else:
            loss.backward(one)
            optimizer.move()
        return loss

    def step():
        optimizer.prepare()
        return work()

    return step if how == "eager" else captured(step, work, device)


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


# PyTorch's.


class TorchStep:
    """Called, it makes one training step and returns its loss. x (N, C, H, W) and target (N,) are its batch, in memory of
    its own, which load() overwrites. `how` is "eager", "compiled", or "graph": of a GPU, captured after some steps that
    are undone."""

    def __init__(self, network, images, labels, place, layout, fused=None, lr=LR, precision="float32", how="eager"):
        self.x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout).to(place)
        self.target = torch.from_numpy(labels).to(place)
        self.network, self.place, self.how = network.to(place, memory_format=layout), place, how
        options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "fused": fused}
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr, **options)
        self.dtype = getattr(torch, precision) if precision in ("bfloat16", "float16") else torch.float32
        self.forward = torch.compile(self.network) if how == "compiled" else self.network
        self.graph = self.captured() if how == "graph" else None

    def __call__(self) -> torch.Tensor:
        if self.graph is None:
            return self.eager()
        self.graph.replay()
        return self.loss

    def eager(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=self.how != "graph")
        with torch.autocast(self.place, self.dtype, enabled=self.dtype is not torch.float32):
            loss = torch.nn.functional.cross_entropy(self.forward(self.x), self.target)
        loss.backward()
        self.optimizer.step()
        return loss

    def captured(self) -> torch.cuda.CUDAGraph:
        """As PyTorch's documentation has it; weights and velocities are then as they were before."""
        before = [p.detach().clone() for p in self.network.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self.eager()
        with torch.no_grad():
            for p, value in zip(self.network.parameters(), before, strict=True):
                p.copy_(value)
                self.optimizer.state[p]["momentum_buffer"].zero_()
        return graph

    def load(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """The batch from uint8 images (N, H, W, C), in pinned memory where there is a GPU, and labels."""
        images = images.to(self.place, non_blocking=True).permute(0, 3, 1, 2)
        self.x.copy_((images.float() - MEAN) / DEVIATION)
        self.target.copy_(labels, non_blocking=True)


def rival_of(network: nn.Module, image_shape: tuple[int, int, int]) -> torch.nn.Module:
    """The same network in PyTorch."""
    return twin(network, flattened(network, image_shape))


def flattened(network, image_shape) -> tuple[int, int, int] | None:
    """(H, W, C) of what the network's Flatten reads."""
    shapes = []
    for _, module in network.named_modules():
        if isinstance(module, nn.Flatten):
            module.register_forward_hook(lambda _m, inputs, _y: shapes.append(inputs[0].shape[1:]))
    with minicnn.no_grad():
        network(minicnn.tensor(np.zeros((1, *image_shape), np.float32), device=network.parameters()[0].device))
    return shapes[0]
