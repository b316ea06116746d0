"""The operations, one file each: formula, shape check, NumPy reference and kernel calls side by side."""

from minicnn.ops.adaptive_avgpool2d import AdaptiveAvgPool2d
from minicnn.ops.add_relu import AddReLU
from minicnn.ops.arithmetic import Add, Div, Mul, Sub
from minicnn.ops.avgpool2d import AvgPool2d
from minicnn.ops.batch_norm import BatchNorm
from minicnn.ops.concatenate import Concatenate
from minicnn.ops.conv2d import Conv2d
from minicnn.ops.conv2d_maxpool2d import Conv2dMaxPool2d
from minicnn.ops.cross_entropy import CrossEntropy
from minicnn.ops.dropout import Dropout, DropoutKey, DropoutMask
from minicnn.ops.elementary import Exp, Log, Pow, Sqrt
from minicnn.ops.linear import Linear
from minicnn.ops.log_softmax import LogSoftmax
from minicnn.ops.lrn import LocalResponseNorm
from minicnn.ops.matmul import MatMul
from minicnn.ops.maxpool2d import MaxPool2d
from minicnn.ops.prepare_images import PrepareImages
from minicnn.ops.reductions import Max, Mean, Sum
from minicnn.ops.relu import ReLU
from minicnn.ops.reshape import Index, Permute, Reshape
from minicnn.ops.sigmoid import Sigmoid
from minicnn.ops.softmax import Softmax
from minicnn.ops.tanh import Tanh
from minicnn.ops.to_device import ToDevice

__all__ = [
    "AdaptiveAvgPool2d",
    "Add",
    "AddReLU",
    "AvgPool2d",
    "BatchNorm",
    "Concatenate",
    "Conv2d",
    "Conv2dMaxPool2d",
    "CrossEntropy",
    "Div",
    "Dropout",
    "DropoutKey",
    "DropoutMask",
    "Exp",
    "Index",
    "Linear",
    "LocalResponseNorm",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool2d",
    "Mean",
    "Mul",
    "Permute",
    "Pow",
    "PrepareImages",
    "ReLU",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "ToDevice",
]
