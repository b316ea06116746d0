"""Parameters live in one flat array, their gradients in another: an optimizer's step is one launch over both."""

from __future__ import annotations

import numpy as np

from minicnn.backend import Device
from minicnn.tensor import GradSlot, Narrow, Tensor, are_same

ALIGNMENT = 64  # elements; a segment starts on a 256-byte boundary, so that 16-byte accesses never straddle two


class Parameter(Tensor):
    """A tensor that is learned. Once packed, `data` and the gradient are permanent views of its arena's arrays.

    Where the arena keeps a copy in 16 bits, `copy` is its view of that, made of version `copied`: whoever writes in place, and
    counts it, makes the copy stale, and an optimizer makes it anew.
    """

    __slots__ = ("arena", "copied", "copy")

    def __init__(self, data, device: Device):
        super().__init__(data, device, requires_grad=True)
        self.arena: Arena | None = None
        self.copy: Narrow | None = None
        self.copied: int | None = None

    @property
    def copy_is_fresh(self) -> bool:
        return self.copied == self.version

    def read(self, numbers=None):
        if self.copy_is_fresh and are_same(numbers, self.copy.numbers):
            return self.copy.array
        return super().read(numbers)

    def count_step(self, with_copy: bool) -> None:
        """An optimizer has moved the values; `with_copy` those of the copy, too."""
        fresh = with_copy and self.copy_is_fresh
        self.version += 1
        if fresh:
            self.copied = self.version


class Arena:
    """The flat arrays `data` and `grad` (elements,), and where each parameter lies in them.

    segments  [(parameter, start, stop)], in order; the gaps between them hold zeros and stay so
    copy      Narrow (elements,), what products read in place of `data`; None where nobody keeps it
    """

    def __init__(self, parameters: list[Parameter], device: Device):
        self.parameters = parameters
        self.place(device)

    @classmethod
    def of(cls, parameters, device: Device | None = None) -> Arena:
        """The arena that holds all of `parameters`: the one they share already, or a new one into which they move."""
        parameters = list(dict.fromkeys(parameters))
        if not parameters:
            raise ValueError("an arena needs at least one parameter, got none")
        shared = parameters[0].arena
        if shared is None or any(p.arena is not shared for p in parameters):
            shared = cls(parameters, device or parameters[0].device)
        elif device is not None and shared.device is not device:
            shared.place(device)
        return shared

    def place(self, device: Device) -> None:
        """Move the parameters into fresh flat arrays on `device`; values travel, gradients are forgotten."""
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) != 1:
            raise TypeError(f"the parameters of one arena share one dtype, got {sorted(d.name for d in dtypes)}")
        self.segments, stop = [], 0
        for parameter in self.parameters:
            start = -(-stop // ALIGNMENT) * ALIGNMENT
            stop = start + parameter.size
            self.segments.append((parameter, start, stop))
        elements = -(-stop // ALIGNMENT) * ALIGNMENT
        self.device, dtype = device, dtypes.pop()
        self.data, self.grad = device.empty((elements,), dtype), device.empty((elements,), dtype)
        self.copy: Narrow | None = None
        device.zero(self.data)
        device.zero(self.grad)
        for parameter, start, stop in self.segments:
            values = parameter.device.on_host(parameter.data)
            parameter.data = self.data[start:stop].reshape(values.shape)
            device.write(parameter.data, values)
            parameter.slot = GradSlot(
                device, values.shape, np.dtype(dtype), self.grad[start:stop].reshape(values.shape)
            )
            parameter.device, parameter.arena = device, self
            parameter.copy = parameter.copied = None
            parameter.version += 1  # a graph recorded before holds the old array and the old slot

    def keep_copy(self, numbers) -> None:
        """From the next optimizer's step on keep all values also as `numbers` of 16 bits; None: no longer."""
        if self.copy is not None and are_same(numbers, self.copy.numbers):
            return
        self.copy = None if numbers is None else Narrow(self.device.empty(self.data.shape, numbers.dtype), numbers)
        for parameter, start, stop in self.segments:
            parameter.copied = parameter.copy = None
            if self.copy is not None:
                parameter.copy = Narrow(self.copy.array[start:stop].reshape(parameter.shape), numbers)

    def renew_copy(self) -> None:
        """Make the copy anew if somebody has written to a parameter since."""
        if self.copy is None or all(parameter.copy_is_fresh for parameter in self.parameters):
            return
        self.copy.numbers.round(self.data, self.copy.array, self.data.size)
        for parameter in self.parameters:
            parameter.copied = parameter.version

    def gather_gradients(self, but=()):
        """The flat gradient array, complete: zeros where backward wrote nothing since `zero_grad`. Of the parameters in
        `but`, whatever stands there."""
        for parameter, _, _ in self.segments:
            if parameter not in but:
                parameter.slot.read()
        return self.grad
