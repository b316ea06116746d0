"""What minicnn raises. Bad values are ValueErrors, a misused graph or device a RuntimeError."""

from __future__ import annotations


class OpError(ValueError):
    """An op refuses its inputs. Raised inside a model, the message starts with the layer's path."""

    def __init__(self, message: str):
        super().__init__(message)
        self.modules: list = []  # innermost first; filled by nn.Module.__call__ as the error passes through

    def __str__(self) -> str:
        message = super().__str__()
        if not self.modules:
            return message
        paths = {id(module): name for name, module in self.modules[-1].named_modules()}
        path = paths.get(id(self.modules[0]))
        return f"{path} {message}" if path else message


class GraphError(RuntimeError):
    """The graph cannot be walked backward: used twice, changed in place, or without a gradient to start from."""


class DeviceError(RuntimeError):
    """A device that was asked for is not there, or cannot do what was asked of it."""


class TrainingError(RuntimeError):
    """Training went wrong: the loss is not a number any more, or the network has learned nothing."""
