"""The loader: a dataset's batches, in a seeded order, prepared ahead of the training step by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import perf_counter

import numpy as np

from minicnn.data.datasets import DataError, Dataset
from minicnn.philox import permutation

ORDER_STREAM = 0x6F726472  # of the Philox counter: nothing else draws from it


class Loader:
    """Batches (images, labels): `transform(images, indices, epoch, seed)` of a dataset's uint8 images, and int64 (B,).

    Order and augmentation are functions of (seed, epoch): the batches are the same for any `prefetch` and `workers`,
    and an epoch can be taken up at any batch. `prefetch` batches (at least `workers`) are prepared ahead by `workers`
    threads, NumPy and Pillow releasing the GIL where the work is; with `prefetch=0` by the caller's thread. Every
    batch is new memory, the caller's to keep or write into.

    `waited` is how many seconds the current epoch's consumer has waited for a batch.

    Example:
    >>> from minicnn.data import ArrayDataset
    >>> digits = ArrayDataset(np.zeros((10, 8, 8), np.uint8), np.arange(10))
    >>> loader = Loader(digits, batch_size=4, shuffle=False)
    >>> [labels.tolist() for images, labels in loader.iterate(epoch=0)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        transform=None,
        *,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
        workers: int = 1,
    ):
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0), ("workers", workers, 1)):
            if value < least:
                raise DataError(f"{name} is {value}: expected at least {least}")
        if drop_last and batch_size > len(dataset):
            raise DataError(
                f"batch_size is {batch_size} but there are {len(dataset)} images: with drop_last no batch is left"
            )
        self.dataset, self.batch_size, self.transform = dataset, batch_size, transform
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.prefetch, self.workers = prefetch, workers
        self.waited = 0.0

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def order(self, epoch: int) -> np.ndarray:
        """The sample numbers in the order in which the epoch takes them, (N,) int64."""
        count = len(self.dataset)
        return permutation(self.seed, epoch, count, ORDER_STREAM) if self.shuffle else np.arange(count)

    def iterate(self, epoch: int = 0, start_batch: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The epoch's batches from `start_batch` on. Threads live no longer than the iterator: break, close() or an
        exception end them, after the batch at hand. What a thread raises is raised here, at that batch's turn.
        """
        if not 0 <= start_batch <= len(self):
            raise DataError(f"start_batch is {start_batch}: expected 0 to {len(self)}, the batches in an epoch")
        self.waited = 0.0
        order = self.order(epoch)
        starts = range(start_batch * self.batch_size, len(self) * self.batch_size, self.batch_size)
        batches = (order[start : start + self.batch_size] for start in starts)
        return self._prefetched(batches, epoch) if self.prefetch else self._in_turn(batches, epoch)

    def _load(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self.dataset[indices]
        return (images if self.transform is None else self.transform(images, indices, epoch, self.seed)), labels

    def _in_turn(self, batches, epoch):
        for indices in batches:
            yield self._timed(partial(self._load, indices, epoch))

    def _prefetched(self, batches, epoch):
        ahead = max(self.prefetch, self.workers)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minicnn-loader")
        pending: deque[Future] = deque()
        try:
            for indices in batches:
                pending.append(pool.submit(self._load, indices, epoch))
                if len(pending) > ahead:
                    yield self._timed(pending.popleft().result)
            while pending:
                yield self._timed(pending.popleft().result)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, get):
        start = perf_counter()
        try:
            return get()
        finally:
            self.waited += perf_counter() - start
