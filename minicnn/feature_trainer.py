"""A training run whose frozen layers compute only once: their features of every image stay in memory."""

from __future__ import annotations

import numpy as np

from minicnn import data as datasets
from minicnn import evaluation, nn
from minicnn.autograd import no_grad
from minicnn.features import FeatureBatch, Features, split_frozen
from minicnn.summary import memory
from minicnn.trainer import Trainer


class FeatureTrainer(Trainer):
    """A Trainer that reads images once. Its steps, scores and files are those of a Trainer without augmentation: where the
    kernels give an image the same features in any batch, byte for byte.

    Raises ValueError where images are augmented, which makes others of them in every epoch, and what split_frozen does.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if self.loader.transform.augment != datasets.Augment():
            raise ValueError("features are kept of images as they are: with cache_features, augment must be 'none'")
        self.prefix, self.rest = split_frozen(self.network)
        self.features: dict[datasets.Dataset, Features] = {}

    def introduce(self) -> None:
        super().introduce()
        parts = [part for part in (self.splits.train, self.splits.validation, self.splits.test) if part is not None]
        self.progress.start(sum(map(len, parts)), 0)
        try:
            for part in parts:
                self.features[part] = self.features_of(part)
        finally:
            self.progress.stop()
        arrays = [features.features for features in self.features.values()]
        shape = "x".join(map(str, arrays[0].shape[1:]))
        self.progress.say(
            f"features: {sum(map(len, arrays)):,} of {shape}, {memory(sum(array.nbytes for array in arrays))}; "
            f"{_count(self.prefix):,} frozen parameters before them, {_count(self.rest):,} behind them"
        )
        self.step.network, self.step.prepare = self.rest, lambda features, _size: features
        self.loader = datasets.Loader(
            self.features[self.splits.train],
            self.loader.batch_size,
            lambda features, *_: FeatureBatch(features),
            shuffle=True,
            drop_last=True,
            seed=self.loader.seed,
            prefetch=self.loader.prefetch,
            workers=self.loader.workers,
        )

    @no_grad()
    def features_of(self, dataset: datasets.Dataset) -> Features:
        self.network.eval()
        prepare, done, parts = datasets.Prepare(self.statistics), sum(map(len, self.features)), []
        for start in range(0, len(dataset), self.loader.batch_size):
            indices = np.arange(start, min(start + self.loader.batch_size, len(dataset)))
            batch = prepare(dataset.read(indices), indices, epoch=0, seed=0)
            with self.step.numbers:
                parts.append(self.prefix(evaluation.network_input(batch, self.device)).numpy())
            self.progress.advance(done + start + len(indices), "features")
        return Features(dataset, np.concatenate(parts), self.rest)

    def score(self, split: datasets.Dataset) -> evaluation.Score:
        return super().score(self.features[split])


def _count(module: nn.Module) -> int:
    return sum(p.size for p in module.parameters())
