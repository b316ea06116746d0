"""Optimizers: one launch over the arena a step."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from fnmatch import fnmatchcase

import numpy as np

from minicnn.arena import Arena, Parameter
from minicnn.autograd import ops_behind
from minicnn.ops.adam import AdamRule, adam_step
from minicnn.ops.clip_grad_norm import clip_norm
from minicnn.ops.precision import numbers_of
from minicnn.ops.segments import Segment, Segments
from minicnn.ops.sgd import SgdRule, WeightStep, sgd_step
from minicnn.tensor import Narrow, Tensor


class Optimizer:
    """What steps over an arena have in common: which parameters, in which segments, and what a step reads on the device.

    A subclass names its `state`, arrays as long as the arena, and defines `hyper_values` and `launch`.
    """

    state: tuple[str, ...] = ()

    def __init__(self, parameters, lr: float, multipliers: dict | None = None, **nonnegative):
        for name, value in {"lr": lr, **nonnegative}.items():
            if not value >= 0:
                raise ValueError(f"{self.name}: {name} must not be negative, got {value}")
        chosen, multipliers = [p for p in parameters if p.requires_grad], multipliers or {}
        self.lr, self.grad_scale = lr, 1.0
        self.arena = Arena.of(chosen)
        self.chosen = set(chosen)
        self.device = device = self.arena.device
        self.segment_of = {
            p: Segment(start, stop, *multipliers.get(p, (1.0, 1.0)))
            for p, start, stop in self.arena.segments
            if p in self.chosen
        }
        self.runs = {}  # by what is stepped elsewhere: spans of neighbours and their segments, on the device
        for name in self.state:
            setattr(self, name, device.empty(self.arena.data.shape, self.arena.data.dtype))
            device.zero(getattr(self, name))
        self.hyper = device.array(np.ones(len(self.hyper_values()), self.arena.data.dtype))

    @property
    def name(self) -> str:
        return type(self).__name__

    def hyper_values(self) -> tuple[float, ...]:
        """What the next step reads on the device, beside arrays."""
        raise NotImplementedError

    def launch(self, weights, copy, grads, span: slice, segments: Segments) -> None:
        """Move `weights`, the span of the arena, against `grads`; and `copy`, a Narrow, with them, unless that is None."""
        raise NotImplementedError

    def keep_copy(self) -> None:
        """Keep the weights also in 16 bits from here on, if that is what products read in the precision that is active: they
        need not convert them then, in every step anew. Else keep no copy."""
        self.arena.keep_copy(numbers_of(self.device, self.arena.data.dtype).narrow)

    def zero_grad(self) -> None:
        for parameter in self.chosen:
            parameter.zero_grad()

    def step(self) -> None:
        """Move every parameter against its gathered gradient, in place; gradients stay readable."""
        self.prepare()
        self.move()

    def prepare(self) -> None:
        """What a step needs of the host, `lr` and `grad_scale` among it, written to the device."""
        arena = self.arena
        if arena.device is not self.device or any(parameter.arena is not arena for parameter in self.chosen):
            raise RuntimeError(
                f"{self.name}: the model has moved since the optimizer was made; make it after model.to(device)"
            )
        self.device.write(self.hyper, np.array(self.hyper_values(), arena.data.dtype))
        arena.renew_copy()

    def move(self, but: frozenset[Parameter] = frozenset()) -> None:
        """The rest of `step()`, which takes nothing from the host: one launch a run of neighbours, which are all, but for
        those in `but`: these have been moved."""
        grads, copy = self.arena.gather_gradients(but), self.arena.copy
        for span, segments in self._runs(but):
            copy_there = None if copy is None else Narrow(copy.array[span], copy.numbers)
            self.launch(self.arena.data[span], copy_there, grads[span], span, segments)
        for parameter in self.chosen:
            parameter.count_step(with_copy=parameter not in but)

    def _runs(self, but: frozenset[Parameter]) -> list[tuple[slice, Segments]]:
        if but not in self.runs:
            self.runs[but] = []
            for is_moved_here, run in itertools.groupby(self.segment_of.items(), lambda item: item[0] not in but):
                if is_moved_here:
                    segments = [segment for _, segment in run]
                    first = segments[0].start
                    table = [s._replace(start=s.start - first, stop=s.stop - first) for s in segments]
                    self.runs[but].append((slice(first, segments[-1].stop), Segments(table, self.device)))
        return self.runs[but]

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays of the state, flat as in the arena."""
        return {name: self.device.to_numpy(getattr(self, name)) for name in self.state}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        missing = [name for name in self.state if name not in state]
        if missing:
            raise ValueError(f"{self.name}: the saved state is another optimizer's: it has no {missing[0]}")
        for name in self.state:
            if state[name].shape != getattr(self, name).shape:
                raise ValueError(
                    f"{self.name}: saved {name} has {state[name].shape[0]} elements, this model's arena "
                    f"{getattr(self, name).shape[0]}"
                )
        for name in self.state:
            self.device.write(getattr(self, name), state[name])


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay. Make it after `model.to(device)`.

    dialect "torch":  v <- momentum*v + g,     w <- w - lr*v          (nesterov: w <- w - lr*(g + momentum*v))
    dialect "paper":  v <- momentum*v - lr*g,  w <- w + v             (Krizhevsky et al. 2012, section 5)

    with g = gradient + weight_decay*w. The two agree until lr changes. `lr` may be set between steps.

    parameters   of one model (they are packed into one arena); those left out or frozen stay as they are
    multipliers  {parameter: (lr multiplier, weight decay multiplier)} for those that differ from (1, 1); lr 0 freezes

    Raises ValueError for a negative hyperparameter, an unknown dialect, or nesterov without torch's momentum.
    """

    state = ("velocity",)

    def __init__(
        self, parameters, lr: float, momentum=0.0, weight_decay=0.0, nesterov=False, dialect="torch", multipliers=None
    ):
        if dialect not in ("torch", "paper"):
            raise ValueError(f"SGD: dialect must be 'torch' or 'paper', got {dialect!r}")
        if nesterov and (dialect != "torch" or momentum == 0):
            raise ValueError("SGD: nesterov needs dialect='torch' and a momentum above 0")
        self.momentum, self.weight_decay = momentum, weight_decay
        self.rule = SgdRule.nesterov if nesterov else SgdRule[dialect]
        super().__init__(parameters, lr, multipliers, momentum=momentum, weight_decay=weight_decay)

    def hyper_values(self) -> tuple[float, ...]:
        return self.lr, self.grad_scale

    def launch(self, weights, copy, grads, span: slice, segments: Segments) -> None:
        constants = self.hyper, self.momentum, self.weight_decay, self.rule
        sgd_step(self.device, weights, grads, self.velocity[span], segments, *constants, copy)

    def backward_and_step(self, loss: Tensor, grad=None) -> None:
        """`loss.backward(grad)`, then `step()`; the same numbers but for rounding, with less traffic to memory.

        On "cuda" and "emulated" the kernel of a fully connected layer moves its weight in place of writing the gradient: 16
        bytes an element in place of 24. It does for a weight that one layer uses once, in float32, and whose gradient is
        not to be added to what an earlier backward left. Such a weight has no gradient afterwards: `grad` is as after
        `zero_grad`. To clip gradients, to add them up or to look at them, call `backward` and `step`.
        """
        self.prepare()
        self.backward_and_move(loss, grad)

    def backward_and_move(self, loss: Tensor, grad=None) -> None:
        """The rest of `backward_and_step()`, which takes nothing from the host."""
        fused = self._stepped_within(loss)
        try:
            for parameter in fused:
                parameter.slot.step = self._step_of(parameter)
            loss.backward(grad)
        finally:
            for parameter in fused:
                parameter.slot.step = None
        self.move(fused)

    def _stepped_within(self, loss: Tensor) -> frozenset[Parameter]:
        """The parameters that backward from `loss` can move."""
        ops = ops_behind(loss.op) if loss.op is not None else []
        readers = Counter(writes for op in ops for writes, *_ in op.seen)
        slots = {op.slots[1] for op in ops if op.steps_weight}
        return frozenset(
            p
            for p, segment in self.segment_of.items()
            if p.slot in slots and p.slot.stale and readers[p.writes] == 1 and segment.lr_multiplier > 0
        )

    def _step_of(self, parameter: Parameter) -> WeightStep:
        start, stop, lr_multiplier, decay_multiplier = self.segment_of[parameter]
        velocity = self.velocity[start:stop].reshape(parameter.shape)
        decay = self.weight_decay * decay_multiplier
        return WeightStep(velocity, self.hyper, lr_multiplier, self.momentum, decay, int(self.rule))


class Adam(Optimizer):
    """Adam with weight decay in the gradient, as PyTorch's. Make it after `model.to(device)`.

        g = gradient + weight_decay*w,  m <- beta1*m + (1 - beta1)*g,  v <- beta2*v + (1 - beta2)*g^2,
        w <- w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)    at step t = 1, 2, ...

    parameters, multipliers  as of SGD. A step that is left out, for gradients that are not finite, counts as one in t

    Raises ValueError for a negative hyperparameter and betas outside [0, 1). Source: Kingma and Ba 2015, algorithm 1.
    """

    state = ("mean", "square")

    def __init__(self, parameters, lr: float, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, multipliers=None):
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas must be two numbers in [0, 1), got {betas}")
        self.rule, self.steps = AdamRule(*betas, eps, weight_decay), 0
        super().__init__(parameters, lr, multipliers, eps=eps, weight_decay=weight_decay)

    def hyper_values(self) -> tuple[float, ...]:
        return self.rule.hyper(self.lr, self.grad_scale, self.steps + 1)

    def prepare(self) -> None:
        super().prepare()
        self.steps += 1

    def launch(self, weights, copy, grads, span: slice, segments: Segments) -> None:
        moments = self.mean[span], self.square[span]
        adam_step(self.device, weights, grads, *moments, segments, self.hyper, self.rule)
        if copy is not None:
            copy.numbers.round(weights, copy.array, weights.size)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The moments, flat as in the arena, and how many steps they hold."""
        return super().state_dict() | {"steps": np.array([self.steps])}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["steps"][0])


class Average:
    """An exponential moving average of all weights of a model: after step t, a <- a + (1 - d) * (w - a), with
    d = min(decay, (1 + t) / (10 + t)), so that it leaves the initial values behind. Make it after the optimizer.

    A launch a step, of SGD's kernel: a step of size 1 - d against the gradient of |a - w|^2 / 2, which is a - w.

    Source: Polyak and Juditsky 1992; the decay that starts low is TensorFlow's (tf.train.ExponentialMovingAverage).
    """

    def __init__(self, arena: Arena, decay: float):
        self.arena, self.decay, self.device = arena, decay, arena.device
        self.values, self.velocity = (self.device.empty(arena.data.shape, arena.data.dtype) for _ in range(2))
        self.device.zero(self.velocity)
        self.device.copy(arena.data, self.values)
        self.segments = Segments([Segment(start, stop) for _, start, stop in arena.segments], self.device)
        self.hyper = self.device.array(np.zeros(2, arena.data.dtype))

    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        self.device.write(self.hyper, np.array([rate, -1.0], self.arena.data.dtype))
        arrays = (self.values, self.arena.data, self.velocity)
        sgd_step(self.device, *arrays, self.segments, self.hyper, 0.0, 1.0, SgdRule.torch)

    def restart(self) -> None:
        """The average is what the weights are now."""
        self.device.copy(self.arena.data, self.values)

    @contextlib.contextmanager
    def in_place(self):
        """Within it the model computes with the average; afterwards with its weights again."""
        weights = self.device.empty(self.arena.data.shape, self.arena.data.dtype)
        self.device.copy(self.arena.data, weights)
        try:
            self._put(self.values)
            yield
        finally:
            self._put(weights)

    def _put(self, values) -> None:
        self.device.copy(values, self.arena.data)
        for parameter in self.arena.parameters:
            parameter.version += 1


def of_settings(network, settings) -> Optimizer:
    """The optimizer of a network's parameters that minicnn.settings.Settings describe."""
    common = {
        "lr": settings.lr,
        "weight_decay": settings.weight_decay,
        "multipliers": multipliers_of(network, settings.multipliers),
    }
    if settings.optimizer == "adam":
        return Adam(network.parameters(), betas=settings.betas, eps=settings.eps, **common)
    return SGD(network.parameters(), momentum=settings.momentum, dialect=settings.dialect, **common)


def multipliers_of(network, table: dict[str, dict[str, float]]) -> dict[Parameter, tuple[float, float]]:
    """{pattern: {"lr": ..., "decay": ...}} by parameters: of patterns that match the same name, the last one counts.

    ValueError for a pattern that no parameter's name matches.
    """
    chosen = {}
    for pattern, multiplier in table.items():
        matching = [p for name, p in network.named_parameters() if fnmatchcase(name, pattern)]
        if not matching:
            names = ", ".join(name for name, _ in network.named_parameters())
            raise ValueError(f"multipliers: no parameter is called {pattern!r}; there are {names}")
        chosen |= dict.fromkeys(matching, (multiplier.get("lr", 1.0), multiplier.get("decay", 1.0)))
    return chosen


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
