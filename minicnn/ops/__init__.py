"""The operations, one file each: formula, shape check, NumPy reference and kernel calls side by side."""

from minicnn.ops.adaptive_avgpool2d import AdaptiveAvgPool2d
from minicnn.ops.avgpool2d import AvgPool2d
from minicnn.ops.linear import Linear
from minicnn.ops.lrn import LocalResponseNorm
from minicnn.ops.maxpool2d import MaxPool2d
from minicnn.ops.relu import ReLU

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "Linear", "LocalResponseNorm", "MaxPool2d", "ReLU"]
