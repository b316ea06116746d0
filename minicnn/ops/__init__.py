"""The operations, one file each: formula, shape check, NumPy reference and kernel calls side by side."""

from minicnn.ops.batch_norm import BatchNorm
from minicnn.ops.cross_entropy import CrossEntropy
from minicnn.ops.dropout import Dropout, DropoutKey
from minicnn.ops.linear import Linear
from minicnn.ops.log_softmax import LogSoftmax
from minicnn.ops.relu import ReLU
from minicnn.ops.softmax import Softmax

__all__ = ["BatchNorm", "CrossEntropy", "Dropout", "DropoutKey", "Linear", "LogSoftmax", "ReLU", "Softmax"]
