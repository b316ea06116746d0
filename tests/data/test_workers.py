"""Worker processes: the same batches from any number of them, and nothing left when anything goes wrong. The processes are
real, and are really killed."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import write_folder
from PIL import Image
from worker_datasets import Numbered

from minicnn.data import (
    ArrayDataset,
    Augment,
    ChannelStatistics,
    DataError,
    ImageFolder,
    Loader,
    Prepare,
    Subset,
    WorkerError,
    workers,
)

TESTS = Path(__file__).parents[1]


@pytest.fixture
def started(monkeypatch):
    """The processes that the test starts; all must have ended, and been waited for, when it ends."""
    processes = []

    class Recorded(workers.Worker):
        def __init__(self, memory):
            super().__init__(memory)
            processes.append(self.process)

    monkeypatch.setattr(workers, "Worker", Recorded)
    yield processes
    assert processes and all(process.returncode is not None for process in processes)


def loader(dataset, count=2, batch_size=5, transform=None, **options):
    return Loader(dataset, batch_size, transform, shuffle=False, workers=count, worker_type="process", **options)


def images_of(batches):
    return [images.tolist() for images, _ in batches]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """18 JPEGs in two class folders, wide and high."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(9):
            noise = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            noise.resize((40 + 3 * i, 60 - 2 * i), Image.Resampling.BICUBIC).save(root / name / f"{i}.jpg")
    return root


@pytest.mark.parametrize("count", [1, 3])
def test_the_batches_do_not_depend_on_the_processes(photos, count, started):
    """With everything that can be drawn; and from any batch on."""
    dataset = ImageFolder(photos, 32, cache_bytes=0)
    augment = Augment(True, 24, 2, 0.1, scale=(28, 40), rotation=20, brightness=0.2, contrast=0.2, saturation=0.2)
    prepare = Prepare(ChannelStatistics.of(dataset), augment)
    alone = Loader(dataset, 7, prepare, shuffle=True, seed=3, workers=0)
    ahead = Loader(dataset, 7, prepare, shuffle=True, seed=3, workers=count)
    assert ahead.worker_type == "process"
    for start in (0, 2):
        expected, found = list(alone.iterate(5, start)), list(ahead.iterate(5, start))
        assert len(expected) == len(found) == 3 - start
        for one, other in zip(expected, found, strict=True):
            assert np.array_equal(one[1], other[1]) and one[0].size == other[0].size == (24, 24)
            assert all(np.array_equal(a, b) for a, b in zip(one[0][:4], other[0][:4], strict=True))
    assert len(started) == count  # the second time the same ones


def test_more_workers_than_images_in_a_batch(started):
    assert images_of(loader(Numbered(5), 3, 2).iterate()) == images_of(loader(Numbered(5), 0, 2).iterate())


def test_the_consumers_part(started):
    """Every batch is new memory, made there by a function that need not be picklable; and waiting is counted there."""
    own, before = os.getpid(), time.monotonic()

    def function(images, indices, epoch, seed):
        return images, os.getpid()

    numbered = loader(Numbered(), 1, transform=function)
    batches = []
    for (images, pid), _ in numbered.iterate():
        assert pid == own and 0 < numbered.waited <= time.monotonic() - before
        batches.append(images)
    batches[0][...] = 77  # writable
    assert not any(np.shares_memory(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_what_a_worker_raises_arrives_at_that_batch(started):
    batches = loader(Numbered(what="broken", at=11)).iterate()
    assert [next(batches)[0][0, 0, 0, 0] for _ in range(2)] == [0, 5]
    with pytest.raises(DataError, match=r"^image 11 is broken$") as error:
        next(batches)
    assert "in broken" in str(error.value.__cause__)  # the worker's own traceback
    assert all(process.returncode is not None for process in started)
    with pytest.raises(StopIteration):
        next(batches)


def test_an_exception_that_cannot_be_sent_is_told(started):
    with pytest.raises(RuntimeError, match=r"^Peculiar: two parts$"):
        list(loader(Numbered(what="peculiar", at=3), 1).iterate())


@pytest.mark.parametrize(
    ("what", "how"),
    [
        (
            "killed",
            "was killed by SIGKILL (the system does so where memory runs out: take fewer workers, or smaller batches)",
        ),
        ("exits", "ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_is_told(what, how, started):
    with pytest.raises(WorkerError) as error:
        list(loader(Numbered(what=what, at=8), 1).iterate())
    assert str(error.value) == f"the worker process {started[0].pid}, which decodes images, {how}"


def test_a_worker_that_is_killed_between_two_epochs(started):
    numbered = loader(Numbered(), 1)
    list(numbered.iterate())
    started[0].kill()
    started[0].wait()
    with pytest.raises(WorkerError, match="was killed by SIGKILL"):
        list(numbered.iterate())
    assert len(images_of(numbered.iterate())) == 5 and len(started) == 2  # and starts anew


def test_processes_end_with_their_consumer(started):
    batches = loader(Numbered()).iterate()
    assert not started
    next(batches)
    assert len(started) == 2 and all(process.poll() is None for process in started)
    batches.close()
    assert all(process.returncode is not None for process in started)

    def train():
        for _ in loader(Numbered(), 1).iterate():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(started) == 3 and all(process.returncode is not None for process in started)


def test_processes_stay_for_the_next_epoch_and_end_with_the_loader(started):
    numbered = loader(Numbered(), 1)
    first, second = (images_of(numbered.iterate(epoch)) for epoch in (0, 1))
    assert first == second and len(started) == 1 and started[0].poll() is None
    at_once = [numbered.iterate(), numbered.iterate()]
    assert [next(batches)[0].tolist() for batches in at_once] == [first[0]] * 2 and len(started) == 2
    del at_once, numbered
    assert all(process.returncode is not None for process in started)


def test_a_worker_in_the_middle_of_an_image_is_not_waited_for(started):
    batches = loader(Numbered(what="sleeps", at=8)).iterate()
    next(batches)
    before = time.monotonic()
    batches.close()
    assert time.monotonic() - before < 60


def test_what_cannot_be_sent(started):
    dataset = Numbered()
    dataset.what = lambda: None
    with pytest.raises(TypeError) as error:
        next(loader(dataset).iterate())
    assert str(error.value).startswith("Numbered and Applied cannot be sent to worker processes (")
    assert str(error.value).endswith('): use worker_type="thread"')
    started += [subprocess.run([sys.executable, "-c", ""])]  # none of the loader's


def test_who_reads(photos):
    """Processes where files are decoded in every epoch, threads where images lie in memory."""
    arrays = ArrayDataset(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
    small, large = ImageFolder(photos, 32), ImageFolder(photos, 32, cache_bytes=0)
    scaled = Augment(crop=16, scale=32)
    for dataset, transform, expected in (
        (arrays, None, "thread"),
        (arrays, scaled, "thread"),
        (small, None, "thread"),
        (small, Augment(crop=16), "thread"),
        (small, scaled, "process"),
        (Subset(large, [1, 2]), None, "process"),
        (large, Prepare(ChannelStatistics.of(arrays), scaled), "process"),
    ):
        assert Loader(dataset, 2, transform, shuffle=False).worker_type == expected
    assert Loader(large, 2, shuffle=False, worker_type="thread").worker_type == "thread"


def script(tmp_path, body):
    """A training script of a user's own, without `if __name__ == "__main__"`, in a process group of its own."""
    path = tmp_path / "train.py"
    path.write_text(
        f"import sys\nsys.path.append({str(TESTS)!r})\n"
        "from minicnn.data import Augment, Dataset, ImageFolder, Loader, workers\n"
        "from worker_datasets import Numbered\n" + textwrap.dedent(body)
    )
    return subprocess.Popen(
        [sys.executable, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # which a caller may ignore
    )


def finish(process):
    with process:
        try:
            return process.communicate(timeout=120)
        finally:
            process.kill()


def test_a_script_needs_no_guard(tmp_path):
    write_folder(tmp_path / "images", ["cat", "dog"])
    process = script(
        tmp_path,
        f"""
        dataset = ImageFolder({str(tmp_path / "images")!r}, 8)
        for images, labels in Loader(dataset, 6, Augment(crop=8, scale=8), shuffle=False, workers=2).iterate():
            print(images[:, 0, 0].tolist())
        """,
    )
    output, errors = finish(process)
    assert (output, errors) == ("[[0, 0, 0], [0, 1, 0], [0, 2, 0], [10, 0, 0], [10, 1, 0], [10, 2, 0]]\n", "")


def test_a_class_of_the_script_is_refused_with_advice(tmp_path):
    process = script(
        tmp_path,
        """
        class Mine(Numbered):
            pass
        try:
            next(Loader(Mine(), 4, shuffle=False, worker_type="process").iterate())
        except TypeError as error:
            print(error)
        """,
    )
    output, errors = finish(process)
    assert errors == "" and output.startswith("the dataset or its transform cannot be had in a worker process (")
    assert output.endswith('in a module that can be imported, or use worker_type="thread"\n')


SLEEPY = """
    started = []
    class Recorded(workers.Worker):
        def __init__(self, memory):
            super().__init__(memory)
            started.append(self.process.pid)
    workers.Worker = Recorded
    for images, labels in Loader(Numbered(what="sleeps", at=8), 4, shuffle=False, worker_type="process").iterate():
        print(*started, flush=True)
"""


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks the processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_trainer_is_stopped(tmp_path, how):
    """In the middle of a batch, from outside, as Ctrl-C on the terminal does it: to the whole process group."""
    shared = set(Path("/dev/shm").iterdir())
    process = script(tmp_path, SLEEPY)
    pids = process.stdout.readline().split()
    assert len(pids) == 1 and not any(map(ended, pids))
    os.killpg(process.pid, how)
    _, errors = finish(process)
    assert process.returncode == -how and errors.count("Traceback") == (how == signal.SIGINT)  # the trainer's own
    deadline = time.monotonic() + 60
    while not all(map(ended, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(ended, pids)) and set(Path("/dev/shm").iterdir()) == shared
