"""minicnn: hand-written CUDA kernels for convolutional networks, a tiny autograd engine, AlexNet and VGG."""

from minicnn import cuda, functional, nn, optim, random
from minicnn.autograd import backward, no_grad
from minicnn.creation import tensor
from minicnn.errors import DeviceError, GraphError, OpError
from minicnn.gradcheck import gradcheck
from minicnn.random import manual_seed
from minicnn.tensor import Tensor

__all__ = [
    "DeviceError",
    "GraphError",
    "OpError",
    "Tensor",
    "backward",
    "cuda",
    "functional",
    "gradcheck",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "random",
    "tensor",
]
