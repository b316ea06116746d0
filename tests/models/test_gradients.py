"""Whole networks on the kernels: the loss against its own differences, and what a step of SGD makes of it.

The networks are the small forms with fewer filters, dropout and all: every evaluation draws the same mask, because the
counter is put back before it.
"""

import numpy as np
import pytest
import twins
from checks import leaf

import minicnn
from minicnn import functional, nn, optim

NETWORKS = {
    "alexnet": {"divisor": 8, "hidden": 12},  # normalisation, overlapping pooling, groups
    "alexnet_owt": {"divisor": 16, "hidden": 12},  # adaptive pooling, dropout first
    "vgg_a_lrn": {"divisor": 8, "hidden": 12},
}
STEP = (
    3e-5  # along a direction as long as the parameters: shorter, rounding takes over; longer, kinks of ReLU and maxima
)


class Problem:
    """The cross-entropy of one batch."""

    def __init__(self, name, device, rng):
        self.network = twins.network(name, 28, **NETWORKS[name], num_classes=4, in_channels=1)
        for dropout in self.network.layers(nn.Dropout):
            dropout.p = 0.25
        self.network.to(device)
        self.parameters = self.network.parameters()
        for p in self.parameters:
            deviation = np.sqrt(2 / np.prod(p.shape[1:])) if p.ndim > 1 else 0.1
            p.copy_(deviation * rng.standard_normal(p.shape))
        self.x = leaf(rng.standard_normal((3, 28, 28, 1)).astype(np.float32), device, requires_grad=False)
        self.target = leaf(np.array([2, 0, 3]), device)

    def loss(self):
        for dropout in self.network.layers(nn.Dropout):
            dropout.counter.copy_([0])
        return functional.cross_entropy(self.network(self.x), self.target)

    def gradients(self) -> list[np.ndarray]:
        for p in self.parameters:
            p.zero_grad()
        self.loss().backward()
        return [p.grad.numpy().astype(np.float64) for p in self.parameters]

    def loss_at(self, values) -> float:
        for p, value in zip(self.parameters, values, strict=True):
            p.copy_(value)
        with minicnn.no_grad():
            return self.loss().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_changes_as_backward_says(name, kernel_device, rng, direct_sums):
    """Along random directions over all parameters: each moves in proportion to its size. Errors are measured by the
    standard deviation of the derivative over such directions."""
    problem = Problem(name, kernel_device, rng)
    gradients, values = problem.gradients(), [p.numpy().astype(np.float64) for p in problem.parameters]
    sizes = [value.std() for value in values]
    deviation = np.sqrt(sum((size * np.linalg.norm(g)) ** 2 for size, g in zip(sizes, gradients, strict=True)))
    for _ in range(4):
        direction = [size * rng.standard_normal(value.shape) for size, value in zip(sizes, values, strict=True)]
        ends = [
            problem.loss_at([value + step * u for value, u in zip(values, direction, strict=True)])
            for step in (STEP, -STEP)
        ]
        analytical = sum(np.vdot(g, u) for g, u in zip(gradients, direction, strict=True))
        assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(analytical, rel=0, abs=0.01 * deviation)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_lowers_the_loss_by_lr_times_the_squared_gradient(name, kernel_device, rng):
    """To first order; lr is such that the loss falls by a thousandth."""
    problem = Problem(name, kernel_device, rng)
    before, squared = problem.loss().item(), sum(np.vdot(g, g) for g in problem.gradients())
    lr = 1e-3 * before / squared
    optimizer = optim.SGD(problem.parameters, lr=lr)
    problem.gradients()
    optimizer.step()
    assert before - problem.loss().item() == pytest.approx(lr * squared, rel=2e-3)
