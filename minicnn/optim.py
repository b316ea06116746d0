"""Optimizers: one launch over the arena a step."""

from __future__ import annotations

import itertools

import numpy as np

from minicnn.arena import Arena
from minicnn.ops.clip_grad_norm import clip_norm
from minicnn.ops.sgd import Segment, Segments, SgdRule, sgd_step
from minicnn.tensor import Tensor


class SGD:
    """Stochastic gradient descent with momentum and weight decay. Make it after `model.to(device)`.

    dialect "torch":  v <- momentum*v + g,     w <- w - lr*v          (nesterov: w <- w - lr*(g + momentum*v))
    dialect "paper":  v <- momentum*v - lr*g,  w <- w + v             (Krizhevsky et al. 2012, section 5)

    with g = gradient + weight_decay*w. The two agree until lr changes. `lr` may be set between steps.

    parameters   of one model (they are packed into one arena); those left out stay as they are
    multipliers  {parameter: (lr multiplier, weight decay multiplier)} for those that differ from (1, 1); lr 0 freezes

    Raises ValueError for a negative hyperparameter, an unknown dialect, or nesterov without torch's momentum.
    """

    def __init__(
        self, parameters, lr: float, momentum=0.0, weight_decay=0.0, nesterov=False, dialect="torch", multipliers=None
    ):
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"SGD: {name} must not be negative, got {value}")
        if dialect not in ("torch", "paper"):
            raise ValueError(f"SGD: dialect must be 'torch' or 'paper', got {dialect!r}")
        if nesterov and (dialect != "torch" or momentum == 0):
            raise ValueError("SGD: nesterov needs dialect='torch' and a momentum above 0")
        chosen, multipliers = list(parameters), multipliers or {}
        self.lr, self.grad_scale = lr, 1.0
        self.momentum, self.weight_decay = momentum, weight_decay
        self.rule = SgdRule.nesterov if nesterov else SgdRule[dialect]
        self.arena = Arena.of(chosen)
        self.chosen = set(chosen)
        self.device = device = self.arena.device
        self.segments = Segments(
            [
                Segment(start, stop, *multipliers.get(p, (1.0, 1.0)))
                for p, start, stop in self.arena.segments
                if p in self.chosen
            ],
            device,
        )
        self.velocity = device.empty(self.arena.data.shape, self.arena.data.dtype)
        device.zero(self.velocity)
        self.hyper = device.array(np.array([lr, 1.0], self.arena.data.dtype))

    def zero_grad(self) -> None:
        for parameter in self.chosen:
            parameter.zero_grad()

    def step(self) -> None:
        """Move every parameter against its gathered gradient, in place; gradients stay readable."""
        arena = self.arena
        if arena.device is not self.device or any(parameter.arena is not arena for parameter in self.chosen):
            raise RuntimeError("SGD: the model has moved since the optimizer was made; make it after model.to(device)")
        self.device.write(self.hyper, np.array([self.lr, self.grad_scale], arena.data.dtype))
        grads = arena.gather_gradients()
        arrays = (arena.data, grads, self.velocity)
        sgd_step(self.device, *arrays, self.segments, self.hyper, self.momentum, self.weight_decay, self.rule)
        for parameter in self.chosen:
            parameter.version += 1

    def state_dict(self) -> dict[str, np.ndarray]:
        """The velocity, flat as in the arena."""
        return {"velocity": self.device.to_numpy(self.velocity)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        velocity = state["velocity"]
        if velocity.shape != self.velocity.shape:
            raise ValueError(
                f"SGD: saved velocity has {velocity.shape[0]} elements, this model's arena {self.velocity.shape[0]}"
            )
        self.device.write(self.velocity, velocity)


def clip_grad_norm(parameters, max_norm: float) -> Tensor:
    """Scale the gradients of `parameters` in place, so that their joint 2-norm is at most `max_norm`.

    All are multiplied by min(1, max_norm / (norm + 1e-6)), as by PyTorch's clip_grad_norm_. Returns the norm before
    that: a tensor () on the device, which nobody has waited for.

    parameters   of one model whose optimizer exists (they share an arena); those left out neither count nor change

    Raises ValueError for a max_norm that is not above 0 and for parameters without a common arena.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be above 0, got {max_norm}")
    chosen = set(parameters)
    arenas = {parameter.arena for parameter in chosen}
    if len(arenas) != 1 or None in arenas:
        raise ValueError("clip_grad_norm: the parameters must share one arena; make the model's optimizer first")
    (arena,) = arenas
    grads, spans = arena.gather_gradients(), []
    for clipped, run in itertools.groupby(arena.segments, lambda segment: segment[0] in chosen):
        if clipped:  # neighbours in one span: the gaps between them hold zeros
            bounds = [bound for _, *bounds in run for bound in bounds]
            spans.append(grads[bounds[0] : bounds[-1]])
    return Tensor(clip_norm(arena.device, spans, max_norm), arena.device)
