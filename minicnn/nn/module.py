"""Module: a part of a network that owns parameters, buffers and other modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minicnn import backend
from minicnn.arena import Arena, Parameter
from minicnn.errors import OpError
from minicnn.tensor import Tensor


class Buffer(Tensor):
    """State that is saved and moved with a module but not learned: running statistics, counters."""

    __slots__ = ()

    def __init__(self, values):
        place = backend.device("cpu")
        super().__init__(place.array(values), place)


def parameter(values) -> Parameter:
    """A parameter that takes over these host values (it copies them only if they are not contiguous); it moves to its
    device with the whole model."""
    return Parameter(np.ascontiguousarray(values), backend.device("cpu"))


class Module:
    """Base of layers and networks: set parameters, buffers and modules as attributes in __init__, compute in forward.

    Names follow the attributes: a `Conv2d` at `self.features` = Sequential(...), place 4, is `features.4`, and its weight
    `features.4.weight`.
    """

    training = True
    frozen = False  # where its own parameters do not learn: it stays as in evaluation

    def __init__(self):
        self._hooks: list[Callable] = []

    def forward(self, *inputs):
        raise NotImplementedError

    def __call__(self, *inputs):
        try:
            y = self.forward(*inputs)
        except OpError as error:
            error.modules.append(self)
            raise
        for hook in self._hooks:
            hook(self, inputs, y)
        return y

    def register_forward_hook(self, hook: Callable) -> Callable[[], None]:
        """Call hook(module, inputs, output) after every forward; returns the function that removes it."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    @property
    def has_hooks(self) -> bool:
        return bool(self._hooks)

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly inside this one, in order."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, depth first, with their paths; its own is ""."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(self, kind) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return self._named_tensors(Parameter)

    def parameters(self) -> list[Parameter]:
        return [p for _, p in self.named_parameters()]

    def own_parameters(self) -> list[Parameter]:
        """Without those of the modules inside."""
        return [value for value in vars(self).values() if isinstance(value, Parameter)]

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        return self._named_tensors(Buffer)

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.zero_grad()

    def train(self, mode: bool = True) -> Module:
        for _, module in self.named_modules():
            module.training = mode and not module.frozen
        return self

    def eval(self) -> Module:
        return self.train(False)

    def to(self, device) -> Module:
        """Move parameters (into one arena) and buffers to `device`, in place; the parameters stay the same objects."""
        place = backend.device(device)
        if self.parameters():
            Arena.of(self.parameters(), place)
        for _, buffer in self.named_buffers():
            buffer.data, buffer.device = place.array(buffer.numpy()), place
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer by its path, as host copies."""
        return {name: t.numpy() for named in (self.named_parameters(), self.named_buffers()) for name, t in named}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Write saved values in place. KeyError or ValueError names what is missing, unknown or of another shape; then
        nothing has been written."""
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise KeyError(f"state does not fit this {type(self).__name__}: missing {missing}, unknown {unknown}")
        for name, t in own.items():
            if state[name].shape != t.shape:
                raise ValueError(f"{name}: the model has {t.shape}, the saved state {state[name].shape}")
        for name, t in own.items():
            t.copy_(state[name])

    def extra_repr(self) -> str:
        """What stands first between the brackets of the repr."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{body})"
