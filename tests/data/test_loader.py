"""The loader: order, resuming, threads that prepare ahead and go away, and what they raise. Processes: test_workers.py."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minicnn.data import ArrayDataset, Augment, ChannelStatistics, DataError, Dataset, Loader, Prepare


@pytest.fixture
def dataset():
    """23 images, image i filled with i, labelled i."""
    images = np.broadcast_to(np.arange(23, dtype=np.uint8).reshape(-1, 1, 1, 1), (23, 6, 6, 1))
    return ArrayDataset(images, np.arange(23))


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("minicnn-loader")]


def arrays(batch):
    images, labels = batch
    return (*images, labels) if isinstance(images, tuple) else batch


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(arrays(one), arrays(other), strict=True)
    )


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_in_order(dataset, prefetch):
    loader = Loader(dataset, 10, shuffle=False, prefetch=prefetch)
    batches = list(loader.iterate())
    assert labels_of(batches) == [list(range(10)), list(range(10, 20)), [20, 21, 22]] and len(loader) == 3
    for images, labels in batches:
        assert images.dtype == np.uint8 and labels.dtype == np.int64 and images[:, 0, 0, 0].tolist() == labels.tolist()


def test_the_last_batch_is_dropped_only_if_asked(dataset):
    assert labels_of(Loader(dataset, 10, shuffle=False, drop_last=True).iterate())[-1] == list(range(10, 20))
    assert len(Loader(dataset, 23, shuffle=False)) == len(Loader(dataset, 12, shuffle=False, drop_last=True)) == 1


def test_an_epoch_is_a_permutation_by_seed_and_epoch(dataset):
    def order(seed, epoch):
        return [
            label for batch in labels_of(Loader(dataset, 5, shuffle=True, seed=seed).iterate(epoch)) for label in batch
        ]

    assert sorted(order(0, 0)) == list(range(23))
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize(("prefetch", "workers"), [(1, 1), (2, 0), (2, 1), (3, 4), (50, 2)])
def test_the_batches_do_not_depend_on_the_threads(dataset, prefetch, workers):
    prepare = Prepare(ChannelStatistics.of(dataset), Augment(mirror=True, padding=2, colour=0.1))
    alone = Loader(dataset, 4, prepare, shuffle=True, seed=3, prefetch=0)
    ahead = Loader(dataset, 4, prepare, shuffle=True, seed=3, prefetch=prefetch, workers=workers)
    assert same(alone.iterate(7), ahead.iterate(7))
    images, labels = next(ahead.iterate(7))
    assert images.images.dtype == np.uint8 and images.images.shape == (4, 6, 6, 1) and labels.dtype == np.int64
    assert images.size == (6, 6) and images.windows.shape == (4, 4) and images.offset.dtype == np.float32


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_transform_is_told_which_samples_epoch_and_seed(dataset, prefetch):
    def told(images, indices, epoch, seed):
        return images, indices, epoch, seed

    loader = Loader(dataset, 23, told, shuffle=True, seed=3, prefetch=prefetch)
    ((images, indices, epoch, seed), labels) = next(loader.iterate(7))
    assert (epoch, seed) == (7, 3) and np.array_equal(indices, loader.order(7)) and np.array_equal(indices, labels)
    assert np.array_equal(images[:, 0, 0, 0], indices)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_epoch_can_be_taken_up_at_any_batch(dataset, prefetch):
    prepare = Prepare(ChannelStatistics.of(dataset), Augment(mirror=True, padding=2))
    loader = Loader(dataset, 4, prepare, shuffle=True, seed=1, prefetch=prefetch)
    whole = list(loader.iterate(2))
    for start in range(len(loader) + 1):
        assert same(loader.iterate(2, start), whole[start:])


class Breaking(Dataset):
    """Raises at the image with label `bad`."""

    def __init__(self, dataset, bad):
        self.dataset, self.bad = dataset, bad
        self.labels, self.class_names, self.image_shape = dataset.labels, dataset.class_names, dataset.image_shape

    def read(self, indices):
        if self.bad in indices:
            raise DataError(f"image {self.bad} is broken")
        return self.dataset.read(indices)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_a_thread_raises_arrives_at_that_batch(dataset, prefetch):
    batches = Loader(Breaking(dataset, 11), 5, shuffle=False, prefetch=prefetch).iterate()
    assert labels_of([next(batches), next(batches)]) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(DataError, match=r"^image 11 is broken$"):
        next(batches)
    assert not loader_threads()
    with pytest.raises(StopIteration):
        next(batches)


def test_threads_work_ahead_and_end_with_the_epoch(dataset):
    batches = Loader(dataset, 5, shuffle=False).iterate()
    assert not loader_threads()
    next(batches)
    assert len(loader_threads()) == 1 and not loader_threads()[0].daemon
    list(batches)
    assert not loader_threads()


def test_threads_end_when_the_consumer_leaves_early(dataset):
    for _ in Loader(dataset, 2, shuffle=False, workers=3).iterate():
        break
    assert not loader_threads()
    batches = Loader(dataset, 2, shuffle=False, workers=3).iterate()
    next(batches)
    batches.close()
    assert not loader_threads()


def test_batches_that_wait_are_dropped_when_the_consumer_leaves(dataset, monkeypatch):
    started, leaving = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait, cancel_futures):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            leaving.set()
            super().shutdown(wait=wait)

    def slow_after_the_first(images, indices, epoch, seed):
        started.append(indices[0])
        assert indices[0] == 0 or leaving.wait(10)
        return images

    monkeypatch.setattr("minicnn.data.loader.ThreadPoolExecutor", Pool)
    batches = Loader(dataset, 5, slow_after_the_first, shuffle=False, prefetch=3).iterate()
    next(batches)
    batches.close()
    assert set(started) <= {0, 5}


def test_threads_end_when_the_consumer_is_interrupted(dataset):
    def train():
        for _ in Loader(dataset, 2, shuffle=False).iterate():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert not loader_threads()


def test_ctrl_c_ends_the_threads(dataset):
    """The signal comes while the second batch is being prepared, wherever the consumer is then."""

    def interrupting(images, indices, epoch, seed):
        if indices[0] == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return images

    def train():
        for _ in Loader(dataset, 10, interrupting, shuffle=False).iterate():
            pass

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not loader_threads()


class Counting(Dataset):
    def __init__(self, dataset):
        self.dataset, self.reads, self.is_ahead = dataset, 0, threading.Event()
        self.labels, self.class_names, self.image_shape = dataset.labels, dataset.class_names, dataset.image_shape

    def read(self, indices):
        self.reads += 1
        if self.reads == 4:
            self.is_ahead.set()
        return self.dataset.read(indices)


def test_no_more_than_prefetch_batches_are_held(dataset):
    counting = Counting(dataset)
    batches = Loader(counting, 1, shuffle=False, prefetch=3).iterate()
    next(batches)
    assert counting.is_ahead.wait(10)  # the one at hand and three ahead
    batches.close()
    assert counting.reads == 4


def test_every_batch_is_new_memory(dataset):
    batches = [images for images, _ in Loader(dataset, 5, shuffle=False).iterate()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(batches) for b in batches[:i])


@pytest.mark.parametrize("prefetch", [0, 2])
def test_waiting_is_counted_from_the_start_of_the_epoch(dataset, prefetch, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("minicnn.data.loader.perf_counter", lambda: float(next(clock)))
    loader = Loader(dataset, 5, shuffle=False, prefetch=prefetch)
    for _ in range(2):
        list(loader.iterate())
        assert loader.waited == 5  # five batches, one tick of the clock in each


def test_arguments_that_are_refused(dataset):
    for arguments, message in (
        ({"batch_size": 0}, "batch_size is 0: expected at least 1"),
        ({"batch_size": 1, "prefetch": -1}, "prefetch is -1: expected at least 0"),
        ({"batch_size": 1, "workers": -1}, "workers is -1: expected at least 0"),
        ({"batch_size": 1, "worker_type": "fibre"}, "worker_type is 'fibre': expected one of auto, thread, process"),
        (
            {"batch_size": 24, "drop_last": True},
            "batch_size is 24 but there are 23 images: with drop_last no batch is left",
        ),
    ):
        with pytest.raises(DataError) as error:
            Loader(dataset, shuffle=False, **arguments)
        assert str(error.value) == message
    with pytest.raises(DataError) as error:
        Loader(dataset, 5, shuffle=False).iterate(start_batch=6)
    assert str(error.value) == "start_batch is 6: expected 0 to 5, the batches in an epoch"
