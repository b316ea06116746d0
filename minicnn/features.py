"""Features: what the frozen layers of a network make of images. They are computed once, and the rest is trained on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn import functional, nn
from minicnn.autograd import no_grad
from minicnn.creation import tensor
from minicnn.data import Dataset
from minicnn.models import Network


class FeatureBatch(NamedTuple):
    """Features (B, ...) float32 in the place of an ImageBatch: a network's input as it is."""

    features: np.ndarray
    size: None = None

    def part(self, share: slice) -> FeatureBatch:
        return FeatureBatch(self.features[share])


class Features(Dataset):
    """The images of `dataset` as features (N, ...) float32, and the layers behind: `rest` (features) -> logits.

    `image_shape` is still that of the images.
    """

    def __init__(self, dataset: Dataset, features: np.ndarray, rest: nn.Module):
        self.dataset, self.features, self.rest = dataset, features, rest
        self.labels, self.class_names = dataset.labels, dataset.class_names
        self.image_shape = dataset.image_shape

    def read(self, indices):
        return self.features[indices]

    @no_grad()
    def probabilities(self, indices: np.ndarray, device) -> np.ndarray:
        """Class probabilities (B, classes) of the images there."""
        return functional.softmax(self.rest(tensor(self.features[indices], device=device))).numpy()


def split_frozen(network: Network) -> tuple[nn.Sequential, nn.Sequential]:
    """(the first layers, which are frozen and compute the same at any time, the others): the network is the one behind the
    other. Layers without parameters go with those before them, but dropout, which is another at every step, does not.

    Raises ValueError where the first layer with parameters is not frozen, where all are, and for a network that is no chain.
    """
    layers = network.chain()
    count = next((i for i, layer in enumerate(layers) if not _is_fixed(layer)), None)
    if count is None:
        raise ValueError(f"every parameter of {network.name} is frozen: nothing is left to train")
    if not any(layer.parameters() for layer in layers[:count]):
        raise ValueError(
            f"there are no features to keep: the first layers of {network.name} are not frozen; freeze them, as with "
            "'features.*'"
        )
    return nn.Sequential(*layers[:count]), nn.Sequential(*layers[count:])


def _is_fixed(layer: nn.Module) -> bool:
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for _, module in layer.named_modules())
    return not drops and not any(p.requires_grad for p in layer.parameters())
