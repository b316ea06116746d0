"""What a trained network sees in one image: the maps of its layers, and which pixels its answer hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import data as datasets
from minicnn import evaluation, functional, nn, saving
from minicnn.autograd import no_grad
from minicnn.creation import tensor
from minicnn.saving import TrainedNetwork

LAYERS_SHOWN = 6
WINDOWS_ACROSS = 4  # an occluding window is a quarter of the image wide


@dataclass(frozen=True)
class Features:
    """maps: of each layer what it makes of the image, (H, W, C), by its path. image (H, W, C) uint8, as the network has it."""

    image: np.ndarray
    maps: dict[str, np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """Why an image (H, W, C) is of a class.

    probability  of that class
    occlusion    (H, W): how much of it is lost, on average, where a grey window hides the pixel; below 0 where it rises
    saliency     (H, W): the largest |d logit / d pixel| over the channels
    ranking      the classes with their probabilities, best first
    """

    image: np.ndarray
    class_name: str
    probability: float
    occlusion: np.ndarray
    saliency: np.ndarray
    ranking: list[tuple[str, float]]


def read_image(saved: TrainedNetwork, image: str | Path | int, data_dir=None) -> np.ndarray:
    """(H, W, C) uint8 as the network has it: of a file, or the run's own test image of that number. DataError for neither."""
    size, channels = saved.image_shape[1:]
    if Path(str(image)).exists() or not str(image).isdecimal():
        return datasets.read_image(image, size, channels)
    splits = datasets.open(saved.data, data_dir=data_dir, image_size=size)
    split = splits.test or splits.validation or splits.train
    if int(image) >= len(split):
        raise datasets.DataError(f"{splits.name} has {len(split):,} images to show, from 0 on: there is no {image}")
    return split[np.array([int(image)])][0][0]


def filters(run, *, device="auto") -> tuple[str, np.ndarray]:
    """The path of the first convolution of a run, and its weight (K, R, S, C). ValueError where there is none."""
    network = saving.load_run(run, device).network
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module.weight.numpy()
        if isinstance(module, nn.PartialConv2d):
            return path, module.dense_weight().numpy()
    raise ValueError(f"{run} holds a network without a convolution: there are no filters to see")


@no_grad()
def features(run, image, layers: Sequence[str] | None = None, *, device="auto", data_dir=None) -> Features:
    """The maps that layers of a run make of one image: a file, or a number among the run's test images.

    layers  paths such as "features.3"; by default up to six of the nonlinearities behind convolutions, evenly chosen

    Raises ValueError that names the layers there are for an unknown one, DataError for what is no image.
    """
    saved = saving.load_run(run, device)
    picture = read_image(saved, image, data_dir)
    maps = _maps(saved, picture)
    kinds = {path: type(module) for path, module in saved.network.named_modules()}
    if layers is None:
        last = [path for path in maps if kinds[path] in (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ScaledTanh)] or list(maps)
        layers = [last[i] for i in np.unique(np.linspace(0, len(last) - 1, LAYERS_SHOWN).round().astype(int))]
    for layer in layers:
        if layer not in maps:
            raise ValueError(f"no layer {layer!r} makes maps; those that do are {', '.join(maps)}")
    return Features(picture, {layer: maps[layer] for layer in layers})


def _maps(saved: TrainedNetwork, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Of every layer with an output (1, H, W, C), by its path; what has parts of its own is not a layer."""
    maps, removers = {}, []

    def keep(path):
        def hook(_module, _inputs, y):
            if y.ndim == 4:
                maps[path] = y.numpy()[0]

        return hook

    for path, module in saved.network.named_modules():
        if not any(True for _ in module.children()):
            removers.append(module.register_forward_hook(keep(path)))
    saved.network(_input(saved, picture))
    for remove in removers:
        remove()
    return maps


def _input(saved: TrainedNetwork, picture: np.ndarray):
    """(1, H, W, C) float32, normalised as in training."""
    batch = datasets.Prepare(saved.statistics)(picture[None], range(1), epoch=0, seed=0)
    return evaluation.network_input(batch, saved.device)


def explain(
    run, image, class_name: str | None = None, *, window: int | None = None, device="auto", data_dir=None
) -> Explanation:
    """Which pixels of an image, a file or a number among the run's test images, speak for a class.

    class_name  by default the class that the network names
    window      side of the occluding square in pixels; by default a quarter of the image's. It moves by a quarter of itself

    Occlusion is that of Zeiler and Fergus 2013 (arXiv 1311.2901), section 4.2, by the mean of the training images; saliency
    that of Simonyan, Vedaldi and Zisserman 2013 (arXiv 1312.6034), section 3.1.

    Raises ValueError for an unknown class and for a window that does not fit, DataError for what is no image.
    """
    saved = saving.load_run(run, device)
    picture = read_image(saved, image, data_dir)
    window = max(1, picture.shape[0] // WINDOWS_ACROSS) if window is None else window
    if not 1 <= window <= min(picture.shape[:2]):
        raise ValueError(f"window must be from 1 to {min(picture.shape[:2])} pixels, got {window}")
    x = _input(saved, picture).numpy()
    chances = _chances(saved, x)[0]
    order = np.argsort(-chances, kind="stable")
    if class_name is not None and class_name not in saved.class_names:
        raise ValueError(f"{run} knows no class {class_name!r}: choose one of {', '.join(saved.class_names)}")
    chosen = order[0] if class_name is None else saved.class_names.index(class_name)
    return Explanation(
        picture,
        saved.class_names[chosen],
        float(chances[chosen]),
        _occlusion(saved, x, chosen, chances[chosen], window),
        _saliency(saved, x, chosen),
        [(saved.class_names[i], float(chances[i])) for i in order],
    )


@no_grad()
def _chances(saved: TrainedNetwork, x: np.ndarray) -> np.ndarray:
    """Class probabilities (N, classes) of normalised images (N, H, W, C)."""
    parts = (x[start : start + evaluation.BATCH] for start in range(0, len(x), evaluation.BATCH))
    logits = (saved.network(tensor(part, device=saved.device)) for part in parts)
    return np.concatenate([functional.softmax(each).numpy() for each in logits])


def _occlusion(saved: TrainedNetwork, x: np.ndarray, chosen: int, whole: float, window: int) -> np.ndarray:
    """x (1, H, W, C); normalised, the mean of the training images is 0."""
    _, h, w, _ = x.shape
    corners = [(top, left) for top in _starts(h, window) for left in _starts(w, window)]
    hidden = np.repeat(x, len(corners), axis=0)
    for image, (top, left) in zip(hidden, corners, strict=True):
        image[top : top + window, left : left + window] = 0
    lost = whole - _chances(saved, hidden)[:, chosen]
    sums, counts = np.zeros((h, w)), np.zeros((h, w))
    for (top, left), loss in zip(corners, lost, strict=True):
        sums[top : top + window, left : left + window] += loss
        counts[top : top + window, left : left + window] += 1
    return sums / counts


def _starts(extent: int, window: int) -> list[int]:
    """Where windows begin; the last one ends at the edge."""
    return sorted({*range(0, extent - window, max(1, window // 4)), extent - window})


def _saliency(saved: TrainedNetwork, x: np.ndarray, chosen: int) -> np.ndarray:
    pixels = tensor(x, device=saved.device, requires_grad=True)
    logits = saved.network(pixels)
    one = np.zeros(logits.shape, np.float32)
    one[0, chosen] = 1
    logits.backward(one)
    return np.abs(pixels.grad.numpy())[0].max(axis=2)
