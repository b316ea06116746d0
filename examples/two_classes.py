"""Two classes, few images: a deep network that learns nothing, and the same images after fine-tuning.

    python examples/two_classes.py

The failure is one that a tutorial shows without noticing: VGG-16 for cats and dogs, with a slip in one layer (a window of 3x2,
138,332,968 parameters), a head for 1000 classes, weights by Glorot's rule, and images as they are. Its loss falls from ln 1000
to ln 2 while the head finds out that 998 classes never come, and its accuracy stays at a half.

Here it is in small: VGG-D for images of 28 pixels, sandals and ankle boots, 200 of each. What mends it is not the slip alone: the
right network is first trained on the eight other classes of the bundled images, then gets a head for the two; the features that
it has learned stay frozen and are computed only once.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

import minicnn
from minicnn import data, models, nn
from minicnn.trainer import History

PAIR = (5, 9)  # sandals and ankle boots


def pick(dataset: data.Dataset, classes, most: int | None = None) -> data.Dataset:
    """The images of some classes, labelled anew from 0, at most so many of each."""
    chosen = np.sort(np.concatenate([np.flatnonzero(dataset.labels == label)[:most] for label in classes]))
    labels = np.searchsorted(classes, dataset.labels[chosen])
    return data.ArrayDataset(dataset.read(chosen), labels, [dataset.class_names[label] for label in classes])


def splits_of(classes, most: int | None = None) -> data.Splits:
    bundled = data.open("fashion-mnist-12k")
    name = " and ".join(bundled.class_names[label] for label in classes) if len(classes) == 2 else "the others"
    return data.Splits(name, pick(bundled.train, classes, most), None, pick(bundled.test, classes, most))


def tutorial_network() -> models.Network:
    """VGG-D with 1000 outputs, a window of 3x2 in its third convolution, and Glorot's uniform weights."""
    network = models.vgg_d(1000, 28, 1, initialize=None)
    at = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)][2]
    filters, _, _, channels = network.features[at].weight.shape
    network.features.modules[at] = nn.Conv2d(channels, filters, (3, 2), padding=1)
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        outputs, *window, inputs = layer.weight.shape
        nn.init.uniform_(layer.weight, math.sqrt(6 / (math.prod(window) * (inputs + outputs))))
    return network


def fail(two: data.Splits, folder: Path, epochs: int, device: str) -> str:
    """Train the tutorial's network; what comes of it, in words."""
    try:
        minicnn.train(
            tutorial_network(),
            two,
            out=folder,
            epochs=epochs,
            lr=0.01,
            warmup_steps=10,
            augment="none",
            clip_norm=None,
            device=device,
            quiet=True,
        )
        said = ""
    except minicnn.TrainingError as error:
        said = f"; train() says: {error}"
    epochs_seen = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]
    return (
        f"loss {losses[0]:.2f} at the first step (ln 1000 = {math.log(1000):.2f}), {losses[-1]:.4f} at the last "
        f"(ln 2 = {math.log(2):.4f}), training accuracy {epochs_seen[-1]['train_top1']:.3f}{said}"
    )


def mend(two: data.Splits, others: data.Splits, folder: Path, epochs: int, few_epochs: int, device: str) -> History:
    """Train the right network on the other classes, then fine-tune a new head on the two."""
    minicnn.train(
        models.vgg_d, others, out=folder / "others", epochs=few_epochs, warmup_steps=20, device=device, quiet=True
    )
    return minicnn.finetune(
        folder / "others",
        two,
        frozen=["features.*"],
        cache_features=True,
        out=folder / "mended",
        epochs=epochs,
        batch_size=32,
        lr=0.01,
        warmup_steps=20,
        device=device,
        quiet=True,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="of each class, to learn from (200)")
    parser.add_argument("--epochs", type=int, default=15, help="on the two classes (15)")
    parser.add_argument("--pretraining-images", type=int, default=500, help="of each of the other classes (500)")
    parser.add_argument("--pretraining-epochs", type=int, default=2, help="on the other classes (2)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/two-classes"))
    chosen = parser.parse_args(arguments)
    two = splits_of(PAIR, chosen.images)
    others = splits_of([label for label in range(10) if label not in PAIR], chosen.pretraining_images)
    print(f"{two.name}, {chosen.images} of each")
    print(f"the tutorial's network: {fail(two, chosen.out / 'failed', chosen.epochs, chosen.device)}")
    history = mend(two, others, chosen.out, chosen.epochs, chosen.pretraining_epochs, chosen.device)
    score = history.test
    print(f"trained on {len(others.class_names)} other classes and fine-tuned: test accuracy {score.top1:.4f} ", end="")
    print(f"({score.correct} of {score.count}); a linear classifier {history.linear_test_top1:.4f}")


if __name__ == "__main__":
    main()
