"""Weights from torchvision's networks and back: the same parameter names, another layout."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from minicnn import checkpoint, models, nn, pth
from minicnn.checkpoint import CheckpointError
from minicnn.data import ChannelStatistics

# torchvision's name -> the constructor of the same network.
CONSTRUCTORS: dict[str, Callable[..., models.Network]] = {
    "alexnet": models.alexnet_owt,
    **{name: models.find(name) for depth in (11, 13, 16, 19) for name in (f"vgg{depth}", f"vgg{depth}_bn")},
    **{name: models.find(name) for name in ("resnet18", "resnet34", "resnet50")},
    "googlenet": models.googlenet_bn,
}

# What torchvision's weights expect of images: RGB / 255, from which the mean is taken, divided by the standard deviation.
STATISTICS = ChannelStatistics(
    (0.485, 0.456, 0.406), tuple(map(tuple, np.diag([0.229**2, 0.224**2, 0.225**2]).tolist()))
)
# What the weights of its googlenet expect: torchvision turns the images above into these itself, by `transform_input`.
GOOGLENET_STATISTICS = ChannelStatistics((0.5, 0.5, 0.5), tuple(map(tuple, np.diag([0.5**2] * 3).tolist())))

UNTOLD = 0  # channels of a concatenation


def load_torchvision(name: str, path: str | Path) -> models.Network:
    """The network that torchvision calls `name`, with the weights of a state dict in .safetensors or .pth.

    name  "alexnet" (our alexnet_owt), "vgg11" ... "vgg19", "vgg11_bn" ... "vgg19_bn", "resnet18", "resnet34", "resnet50",
          "googlenet" (our googlenet_bn, with auxiliary heads where the file has them)

    The class count is that of the weights; the images are 224x224x3, normalised by `minicnn.torchvision.STATISTICS`, those of
    googlenet by GOOGLENET_STATISTICS. A .pth file is read without building anything but tensors. Raises ValueError for
    another name, CheckpointError for a file that cannot be read or does not fit.
    """
    if name not in CONSTRUCTORS:
        nearest = difflib.get_close_matches(name, CONSTRUCTORS) or CONSTRUCTORS
        raise ValueError(f"unknown torchvision network {name!r}; did you mean {', '.join(nearest)}?")
    state = _read(Path(path))
    logits = "fc.bias" if name.startswith(("resnet", "googlenet")) else "classifier.6.bias"
    if logits not in state:
        raise CheckpointError(f"{path} has no {logits}: it is no state dict of {name}")
    options = {"auxiliary": any(key.startswith("aux") for key in state)} if name == "googlenet" else {}
    network = CONSTRUCTORS[name](num_classes=len(state[logits]), initialize=None, **options)
    try:
        network.load_state_dict(from_torch(network, state))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no state dict of {name}: {error.args[0]}") from error
    return network


def save_torchvision(network: models.Network, path: str | Path) -> None:
    """Write a network's weights as PyTorch has them: `safetensors.torch.load_file(path)` is a state dict for the module of
    the same layer names. Raises CheckpointError for a path that does not end in .safetensors, or that cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are written as .safetensors, which PyTorch reads by safetensors.torch")
    checkpoint.write_safetensors(path, to_torch(network), {"format": "pt"})


def from_torch(network: nn.Module, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict in PyTorch's layout, as our `load_state_dict` wants it: convolutions (K, C, R, S) -> (K, R, S, C), and
    what reads a flattened map (C, H, W) -> (H, W, C). BatchNorm's count of batches, which we do not keep, is left out, and
    Dropout's own state, which PyTorch has not, stays."""
    channels, converted = _flattened_channels(network), _dropout_state(network)
    for name, array in state.items():
        if name.endswith(".num_batches_tracked"):
            continue
        if array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        elif name in channels and array.size % (len(array) * channels[name]) == 0:
            array = array.reshape(len(array), channels[name], -1).swapaxes(1, 2).reshape(array.shape)
        converted[name] = np.ascontiguousarray(array)
    return converted


def to_torch(network: nn.Module) -> dict[str, np.ndarray]:
    """The network's state dict in PyTorch's layout: from_torch's inverse."""
    channels, own, converted = _flattened_channels(network), _dropout_state(network), {}
    for name, array in network.state_dict().items():
        if name in own:
            continue
        if array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
        elif name in channels:
            array = array.reshape(len(array), -1, channels[name]).swapaxes(1, 2).reshape(array.shape)
        converted[name] = np.ascontiguousarray(array)
    return converted


def _flattened_channels(network: nn.Module) -> dict[str, int]:
    """The weights of the fully connected layers that read a flattened map of several pixels -> how many channels it has.

    Raises ValueError where that map is a concatenation, whose channels no layer tells.
    """
    found, channels, flattened = {}, None, False
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            channels = module.weight.shape[0]
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            channels = None
        elif isinstance(module, nn.Concatenate):
            channels = UNTOLD
        elif isinstance(module, nn.Flatten):
            flattened = channels is not None
        elif isinstance(module, nn.Linear) and flattened:
            if channels is UNTOLD:
                raise ValueError(
                    f"{path} reads a flattened concatenation, whose channels are told by no layer; PyTorch's order of its "
                    "weights is unknown: put a convolution or a global average pooling before the Flatten"
                )
            found[f"{path}.weight"], flattened = channels, False
    return found


def _dropout_state(network: nn.Module) -> dict[str, np.ndarray]:
    """What the masks of the network's dropout are functions of."""
    layers = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Dropout)]
    return {f"{path}.{name}": buffer.numpy() for path, layer in layers for name, buffer in layer.named_buffers()}


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        return pth.read(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
