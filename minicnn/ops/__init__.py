"""The operations, one file each: formula, shape check, NumPy reference and kernel calls side by side."""

from minicnn.ops.linear import Linear
from minicnn.ops.relu import ReLU

__all__ = ["Linear", "ReLU"]
