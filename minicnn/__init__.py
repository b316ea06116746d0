"""minicnn: hand-written CUDA kernels for convolutional networks, a tiny autograd engine, AlexNet and VGG."""

import importlib.util

if importlib.util.find_spec("minicnn._build_info"):  # which every installation has
    from minicnn import cuda, data, functional, models, nn, optim, random
    from minicnn._build_info import version as __version__
    from minicnn.autograd import backward, no_grad
    from minicnn.checkpoint import CheckpointError
    from minicnn.creation import tensor
    from minicnn.errors import DeviceError, GraphError, OpError, TrainingError
    from minicnn.evaluation import evaluate, predict
    from minicnn.gradcheck import gradcheck
    from minicnn.interchange import from_dlpack
    from minicnn.memory_plan import MemoryPlan, memory_plan
    from minicnn.onnx_export import ExportError, export_onnx
    from minicnn.onnx_import import load_onnx
    from minicnn.onnx_operators import OnnxImportError
    from minicnn.ops.precision import precision
    from minicnn.profile import profile
    from minicnn.random import manual_seed
    from minicnn.saving import load, save
    from minicnn.summary import summary
    from minicnn.tensor import Tensor
    from minicnn.torchvision import load_torchvision, save_torchvision
    from minicnn.training import train
    from minicnn.transfer import finetune
else:  # a bare checkout: `python3 -m minicnn` passes here on its way to install it (bootstrap.py)

    def __getattr__(name):
        raise AttributeError(f"no minicnn.{name}: this is the source folder; `python3 -m minicnn install` installs it")


__all__ = [
    "CheckpointError",
    "DeviceError",
    "ExportError",
    "GraphError",
    "MemoryPlan",
    "OnnxImportError",
    "OpError",
    "Tensor",
    "TrainingError",
    "__version__",
    "backward",
    "cuda",
    "data",
    "evaluate",
    "export_onnx",
    "finetune",
    "from_dlpack",
    "functional",
    "gradcheck",
    "load",
    "load_onnx",
    "load_torchvision",
    "manual_seed",
    "memory_plan",
    "models",
    "nn",
    "no_grad",
    "optim",
    "precision",
    "predict",
    "profile",
    "random",
    "save",
    "save_torchvision",
    "summary",
    "tensor",
    "train",
]
