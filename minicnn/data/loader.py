"""The loader: a dataset's batches, in a seeded order, prepared ahead of the training step by threads or processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import numpy as np

from minicnn.data.datasets import DataError, Dataset
from minicnn.data.transforms import Transform
from minicnn.data.workers import Workers
from minicnn.philox import permutation

ORDER_STREAM = 0x6F726472  # of the Philox counter: nothing else draws from it
WORKER_TYPES = ("auto", "thread", "process")


class Loader:
    """Batches (images, labels): what `transform` makes of a dataset's uint8 images, and int64 (B,). `transform` is a
    Transform, or a function called as `transform(images, indices, epoch, seed)`; without one, images are as they are.

    Order and augmentation are functions of (seed, epoch): the batches are the same for any `prefetch` and `workers`,
    and an epoch can be taken up at any batch. `prefetch` batches (at least `workers`) are prepared ahead by `workers`;
    with 0 of either by the caller's thread. Every batch is new memory, the caller's to keep or write into.

    `worker_type` says what workers are: "thread", NumPy and Pillow releasing the GIL where the work is; "process", which
    share no GIL at all, but the dataset must be picklable; "auto" takes processes where files are decoded in every epoch
    (`Dataset.decodes`), else threads.

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
        worker_type: str = "auto",
    ):
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0), ("workers", workers, 0)):
            if value < least:
                raise DataError(f"{name} is {value}: expected at least {least}")
        if worker_type not in WORKER_TYPES:
            raise DataError(f"worker_type is {worker_type!r}: expected one of {', '.join(WORKER_TYPES)}")
        if drop_last and batch_size > len(dataset):
            raise DataError(
                f"batch_size is {batch_size} but there are {len(dataset)} images: with drop_last no batch is left"
            )
        self.dataset, self.batch_size = dataset, batch_size
        self.transform = transform if isinstance(transform, Transform) else Applied(transform)
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.prefetch, self.workers = prefetch, workers
        if worker_type == "auto":
            worker_type = "process" if dataset.decodes(self.transform.resamples) else "thread"
        self.worker_type, self._idle = worker_type, None
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
        """The epoch's batches from `start_batch` on. Workers live no longer than the iterator: break, close() or an
        exception end them; only processes whose epoch was taken to its end stay for the next one, and end with the loader.
        What a worker raises is raised here, at that batch's turn; where a process dies, WorkerError.
        """
        if not 0 <= start_batch <= len(self):
            raise DataError(f"start_batch is {start_batch}: expected 0 to {len(self)}, the batches in an epoch")
        self.waited = 0.0
        order = self.order(epoch)
        starts = range(start_batch * self.batch_size, len(self) * self.batch_size, self.batch_size)
        batches = (order[start : start + self.batch_size] for start in starts)
        if not (self.prefetch and self.workers):
            return (self._timed(partial(self._load, indices, epoch)) for indices in batches)
        return self._prefetched(
            self._by_threads if self.worker_type == "thread" else self._by_processes, batches, epoch
        )

    @property
    def _ahead(self) -> int:
        return max(self.prefetch, self.workers)

    def _load(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return self._finish(self.transform.read(self.dataset, indices, epoch, self.seed), indices, epoch)

    def _finish(self, images: np.ndarray, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return self.transform(images, indices, epoch, self.seed), self.dataset.labels[indices]

    def _prefetched(self, by_workers, batches, epoch):
        pending: deque[Callable] = deque()
        with by_workers() as submit:
            for indices in batches:
                pending.append(submit(indices, epoch))
                if len(pending) > self._ahead:
                    yield self._timed(pending.popleft())
            while pending:
                yield self._timed(pending.popleft())

    @contextmanager
    def _by_threads(self):
        """Yields submit(indices, epoch), which returns a function that waits for the batch."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="minicnn-loader")
        try:
            yield lambda indices, epoch: pool.submit(self._load, indices, epoch).result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def _by_processes(self):
        """The same. In the processes images are read; the rest, which is little, is done by whoever waits."""
        workers, self._idle = self._idle or self._timed(self._start_processes), None

        def submit(indices, epoch):
            images = workers.submit(indices, epoch)
            return lambda: self._finish(images(), indices, epoch)

        try:
            yield submit
        except BaseException:
            workers.close()
            raise
        self._idle = workers  # they take another half a second to start: kept for the next epoch

    def _start_processes(self) -> Workers:
        shape = min(self.batch_size, len(self.dataset)), *self.transform.batch_shape(self.dataset)
        return Workers(self.workers, self.dataset, self.transform, self.seed, shape, self._ahead + 1)

    def _timed(self, get):
        start = perf_counter()
        try:
            return get()
        finally:
            self.waited += perf_counter() - start


class Applied(Transform):
    """A function (images, indices, epoch, seed) as a Transform. A worker process reads the images without it."""

    def __init__(self, function: Callable | None):
        self.function = function

    def __call__(self, images, indices, epoch, seed):
        return images if self.function is None else self.function(images, indices, epoch, seed)

    def __getstate__(self):
        return {}
