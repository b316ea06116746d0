"""How good a network is: scores on a data set, evaluation and prediction with a saved run, and the linear yardstick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import backend, checkpoint, data, functional, nn
from minicnn.autograd import no_grad
from minicnn.creation import tensor
from minicnn.models.build import build
from minicnn.optim import SGD
from minicnn.run_folder import LAST

BATCH = 128
PROTOCOLS = ("center", "ten-crop")
TEN_CROP_MARGIN = 8 / 7  # images are read 256/224 times the size that the network sees


@dataclass(frozen=True)
class Score:
    """Of `count` images, `correct` had the right class first, `correct5` among the first five; `loss` is the mean."""

    count: int
    correct: int
    correct5: int
    loss: float

    @property
    def top1(self) -> float:
        return self.correct / self.count

    @property
    def top5(self) -> float:
        return self.correct5 / self.count


@no_grad()
def probabilities(network: nn.Module, images: np.ndarray, normalise, device, views=None) -> np.ndarray:
    """Class probabilities (N, classes) of uint8 images (N, H, W, C): the mean of the softmax over the views of each.

    views  (uint8 batch) -> list of uint8 batches; default the images as they are
    """
    outputs = [
        functional.softmax(network(tensor(normalise(view), device=device))).numpy()
        for view in (views(images) if views else [images])
    ]
    return np.mean(outputs, axis=0)


def score(network: nn.Module, dataset, normalise, device, views=None) -> Score:
    """The network's Score on a data set, in evaluation mode; its mode is put back."""
    training, correct, correct5, loss = network.training, 0, 0, 0.0
    network.eval()
    for start in range(0, len(dataset), BATCH):
        images, labels = dataset[np.arange(start, min(start + BATCH, len(dataset)))]
        chances = probabilities(network, images, normalise, device, views).astype(np.float64)
        of_label = chances[np.arange(len(labels)), labels]
        above = (chances > of_label[:, None]).sum(axis=1)
        correct += int((above == 0).sum())
        correct5 += int((above < 5).sum())
        loss -= np.log(np.maximum(of_label, 1e-300)).sum()
    network.train(training)
    return Score(len(dataset), correct, correct5, float(loss / len(dataset)))


def linear_classifier(splits, split, epochs: int = 10) -> float:
    """Top-1 accuracy on `split` of a linear classifier trained on the same training images: the yardstick of a network.

    Softmax regression on normalised pixels (images above 32 pixels are averaged down to that), SGD with momentum.
    """
    normalise, (h, w, c) = data.Normalise.of(splits.train), splits.image_shape
    step = -(-max(h, w) // 32)
    flatten = nn.Sequential(nn.AvgPool2d(step, step) if step > 1 else nn.Sequential(), nn.Flatten())
    features = (h // step) * (w // step) * c if step > 1 else h * w * c
    network = nn.Sequential(flatten, nn.Linear(features, len(splits.class_names))).to("cpu")
    loader = data.Loader(splits.train, BATCH, normalise=normalise, shuffle=True, seed=0)
    optimizer = SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
    place, steps = backend.device("cpu"), epochs * len(loader)
    for epoch in range(epochs):
        for i, (images, labels) in enumerate(loader.iterate(epoch)):
            optimizer.lr = 0.01 * (1 - (epoch * len(loader) + i) / steps)
            optimizer.zero_grad()
            functional.cross_entropy(network(tensor(images)), tensor(labels)).backward()
            optimizer.step()
    return score(network, split, normalise, place).top1


def description(built_by, splits, normalise) -> dict:
    """What a checkpoint must say for its weights to mean something."""
    return {
        "model": built_by,
        "data": splits.name,
        "class_names": list(splits.class_names),
        "image_shape": list(splits.image_shape),
        "mean": np.asarray(normalise.mean).tolist(),
        "std": np.asarray(normalise.std).tolist(),
    }


def check_fits(saved: dict, built_by, splits, path: Path) -> None:
    """CheckpointError where a checkpoint belongs to another network or other classes."""
    if saved["model"] != built_by:
        raise checkpoint.CheckpointError(f"{path} holds {saved['model']}, this run builds {built_by}")
    if saved["class_names"] != list(splits.class_names):
        raise checkpoint.CheckpointError(
            f"{path} knows {len(saved['class_names'])} classes, the data has {len(splits.class_names)}: "
            "evaluate and resume with the data that it was trained on"
        )


@dataclass(frozen=True)
class SavedNetwork:
    """A trained network with what it takes to use it."""

    network: nn.Module
    normalise: object
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    data: str
    device: backend.Device


def load_run(run: str | Path, device="auto") -> SavedNetwork:
    """The network of a run folder (its last checkpoint) or of one checkpoint file. Raises CheckpointError."""
    path = Path(run) / LAST if Path(run).is_dir() else Path(run)
    arrays, saved = checkpoint.read(path)
    if saved["model"] is None:
        raise checkpoint.CheckpointError(
            f"{path} was trained from a Module of your own: build it and use load_state_dict"
        )
    place = backend.device(device)
    network = build(**saved["model"])
    network.load_state_dict(checkpoint.without_prefix("model.", arrays))
    normalise = data.Normalise(np.asarray(saved["mean"]), np.asarray(saved["std"]))
    return SavedNetwork(
        network.to(place).eval(),
        normalise,
        tuple(saved["class_names"]),
        tuple(saved["image_shape"]),
        saved["data"],
        place,
    )


def evaluate(run, data_source=None, *, protocol: str = "center", device="auto", data_dir=None) -> Score:
    """Score a run folder or checkpoint file on the test images (else the validation images) of a data source.

    protocol  "center": each image once, centre-cropped to what the network sees. "ten-crop": the mean softmax of five
              crops and their mirror images (Krizhevsky et al. 2012, section 4.1), of images read 8/7 times as large

    Raises ValueError for another protocol, CheckpointError where the classes do not match.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    saved = load_run(run, device)
    size, views = saved.image_shape[0], None
    if protocol == "ten-crop":
        views, size = (lambda batch: data.ten_crops(batch, saved.image_shape[0])), round(size * TEN_CROP_MARGIN)
    splits = data.open(data_source or saved.data, data_dir=data_dir, image_size=size)
    if splits.class_names != saved.class_names:
        raise checkpoint.CheckpointError(
            f"{run} knows the classes {', '.join(saved.class_names)}; {splits.name} has {', '.join(splits.class_names)}"
        )
    split = splits.test or splits.validation or splits.train
    return score(saved.network, split, saved.normalise, saved.device, views)


def predict(run, paths, *, device="auto", top: int = 5) -> list[list[tuple[str, float]]]:
    """For each image file the `top` classes with their probabilities, best first. Raises data.DataError for no image."""
    saved = load_run(run, device)
    images = np.stack([data.read_image(path, saved.image_shape) for path in paths])
    return [
        [(saved.class_names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]]
        for row in probabilities(saved.network, images, saved.normalise, saved.device)
    ]
