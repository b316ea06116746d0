"""The operations, one file each: formula, shape check, NumPy reference and kernel calls side by side."""

from minicnn.ops.arithmetic import Add, Div, Mul, Sub
from minicnn.ops.concatenate import Concatenate
from minicnn.ops.elementary import Exp, Log, Pow, Sqrt
from minicnn.ops.linear import Linear
from minicnn.ops.reductions import Max, Mean, Sum
from minicnn.ops.relu import ReLU
from minicnn.ops.reshape import Index, Permute, Reshape
from minicnn.ops.sigmoid import Sigmoid
from minicnn.ops.tanh import Tanh

__all__ = [
    "Add",
    "Concatenate",
    "Div",
    "Exp",
    "Index",
    "Linear",
    "Log",
    "Max",
    "Mean",
    "Mul",
    "Permute",
    "Pow",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
]
