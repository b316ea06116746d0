"""The same network in PyTorch, with the same weights: the rival of whole-step benchmarks and a second opinion for tests."""

from __future__ import annotations

import numpy as np
import torch

from minicnn import nn


def twin(module: nn.Module, first_features: tuple[int, int, int] | None = None) -> torch.nn.Module:
    """`module` (layers and Sequentials in the order in which they run) as a torch.nn.Sequential with copied weights.

    first_features  (H, W, C) of the image that the first linear layer reads flattened: its columns are reordered from
                    channels-last to PyTorch's channels-first
    """
    layers: list[torch.nn.Module] = []
    for _, leaf in module.named_modules():
        if list(leaf.children()):
            continue
        layer = _layer(leaf)
        if isinstance(leaf, nn.Linear) and first_features is not None:
            h, w, c = first_features
            columns = leaf.weight.numpy().reshape(-1, h, w, c).transpose(0, 3, 1, 2)
            layer.weight.data = torch.from_numpy(np.ascontiguousarray(columns).reshape(leaf.weight.shape))
            first_features = None
        layers.append(layer)
    return torch.nn.Sequential(*layers)


def _layer(leaf: nn.Module) -> torch.nn.Module:
    match leaf:
        case nn.Conv2d():
            k, _, _, c = leaf.weight.shape
            options = {"stride": leaf.stride, "padding": leaf.padding, "dilation": leaf.dilation, "groups": leaf.groups}
            layer = torch.nn.Conv2d(c * leaf.groups, k, leaf.weight.shape[1:3], **options)
            layer.weight.data = torch.from_numpy(np.ascontiguousarray(leaf.weight.numpy().transpose(0, 3, 1, 2)))
            layer.bias.data = torch.from_numpy(leaf.bias.numpy())
            return layer
        case nn.Linear():
            layer = torch.nn.Linear(*reversed(leaf.weight.shape))
            layer.weight.data, layer.bias.data = (
                torch.from_numpy(leaf.weight.numpy()),
                torch.from_numpy(leaf.bias.numpy()),
            )
            return layer
        case nn.MaxPool2d():
            return torch.nn.MaxPool2d(leaf.kernel_size, leaf.stride, leaf.padding, ceil_mode=leaf.ceil_mode)
        case nn.AvgPool2d():
            return torch.nn.AvgPool2d(leaf.kernel_size, leaf.stride, leaf.padding)
        case nn.AdaptiveAvgPool2d():
            return torch.nn.AdaptiveAvgPool2d(leaf.output_size)
        case nn.LocalResponseNorm():
            return torch.nn.LocalResponseNorm(
                leaf.size, leaf.alpha * (leaf.size if leaf.dialect == "sum" else 1), leaf.beta, leaf.k
            )
        case nn.ReLU():
            return torch.nn.ReLU(inplace=True)
        case nn.Tanh():
            return torch.nn.Tanh()
        case nn.Dropout():
            return torch.nn.Dropout(leaf.p) if leaf.p else torch.nn.Identity()
        case nn.Flatten():
            return torch.nn.Flatten()
    raise TypeError(f"no PyTorch twin is known for {type(leaf).__name__}")
