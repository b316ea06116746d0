"""How fast batches come: from packed images, and from JPEG files beside PyTorch's DataLoader with the same decoder.

    python benchmarks/bench_loader.py packed
    python benchmarks/bench_loader.py jpeg --decoder simplejpeg --workers 0 2 4

Packed: 256-pixel images to cropped, mirrored uint8 batches of 224. Floor: what is read and written of each image, at the
speed at which as many threads copy memory. JPEG: 500 x 375 pixels, quality 90, short side rescaled to 256, cropped and
mirrored. Both loaders call the same function for a sample; they and the bare decoder run in turn; speeds are medians over
the rounds, with the quartiles, of an epoch but for its first batches. Both keep their workers; the wait for the first batch
of the first epoch, in which they start, is told apart. The bare decoder makes an array of a file's bytes in one thread, and
nothing else.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from photos import DECODERS, INSTALLED, Photos, make_photos
from PIL import Image
from report import write_rows

from minicnn import data
from minicnn.data import Augment, Loader, Subset
from minicnn.threads import thread_count

CROP, SIZE, BATCH = 224, 256, 64
BYTES = CROP * CROP * 3
SKIPPED = 4  # batches of an epoch before its speed is taken: the workers have started then
COPIED = 1 << 26  # bytes of the copy that measures memory


def epoch(batches: Iterable) -> tuple[float, float]:
    """Seconds to the first batch, and images a second behind the first SKIPPED."""
    started, moments, images = perf_counter(), [], []
    for batch, _ in batches:
        moments.append(perf_counter())
        images.append(len(batch))
    return moments[0] - started, sum(images[SKIPPED:]) / (moments[-1] - moments[SKIPPED - 1])


def median_epochs(contenders: dict[str, Callable[[], Iterable]], rounds: int) -> dict[str, dict]:
    """Each contender's figures over `rounds` rounds, in turn and in reverse turn."""
    samples: dict[str, list] = {name: [] for name in contenders}
    for i in range(rounds):
        for name in list(contenders) if i % 2 == 0 else reversed(contenders):
            samples[name].append(epoch(contenders[name]()))
    figures = {}
    for name, taken in samples.items():
        starts, speeds = zip(*taken, strict=True)
        low, middle, high = np.percentile(speeds, (25, 50, 75)).tolist()
        figures[name] = {"images_per_second": middle, "low": low, "high": high, "start_s": starts[0]}
    return figures


def memory_speed(threads: int, rounds: int) -> float:
    """Bytes a second, read and written, of copies by so many threads: the median."""
    pairs = [(np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)) for _ in range(threads)]
    speeds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            started = perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            speeds.append(2 * COPIED * threads / (perf_counter() - started))
    return float(np.median(speeds))


def packed_rows(folder: Path, rounds: int, workers: list[int]) -> list[dict]:
    packed = folder / "packed"
    if not packed.exists():
        data.pack(folder / "photos", packed, image_size=SIZE)
    images = data.open(packed, validation_fraction=0).train
    images = Subset(images, np.arange(8 * len(images)) % len(images))  # a longer epoch
    rows = []
    for count in workers:
        floor = memory_speed(max(count, 1), rounds) / (2 * BYTES)
        augments = {"crop": Augment(crop=CROP), "crop, mirror": Augment(crop=CROP, mirror=True)}
        contenders = {
            name: Loader(images, BATCH, augment, shuffle=True, workers=count).iterate
            for name, augment in augments.items()
        }
        for name, figures in median_epochs(contenders, rounds).items():
            of_floor = figures["images_per_second"] / floor
            rows.append(
                {"case": f"packed, {name}", "workers": count} | figures | {"floor": floor, "of_floor": of_floor}
            )
    return rows


class Samples(torch.utils.data.Dataset):
    """For PyTorch's loader: what ours reads, an image at a time."""

    def __init__(self, photos: Photos, augment: Augment):
        self.photos, self.augment = photos, augment

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return torch.from_numpy(self.augment.read(self.photos, [index], 0, 0)[0]), self.photos.labels[index]


def decode(content: bytes, decoder: str) -> np.ndarray:
    if decoder == "pillow":
        return np.asarray(Image.open(io.BytesIO(content)))
    return INSTALLED.decode_jpeg(content, "RGB")


def bare_decoder(contents: list[bytes], decoder: str) -> Iterator[tuple[list, None]]:
    """An epoch of decoding alone, in this thread."""
    for start in range(0, len(contents), BATCH):
        yield [decode(content, decoder) for content in contents[start : start + BATCH]], None


def loaders(photos: Photos, count: int) -> dict[str, Callable[[], Iterable]]:
    """Ours and PyTorch's, over the same samples in the same order, with `count` workers: functions that start an epoch."""
    augment = Augment(crop=CROP, mirror=True, scale=SIZE)
    ours = Loader(photos, BATCH, augment, shuffle=True, workers=count)
    samples, order = Samples(photos, augment), ours.order(0).tolist()
    theirs = torch.utils.data.DataLoader(samples, BATCH, sampler=order, num_workers=count, persistent_workers=count > 0)
    return {"ours": ours.iterate, "torch": theirs.__iter__}


def jpeg_rows(folder: Path, rounds: int, workers: list[int], decoder: str) -> list[dict]:
    photos = Photos(folder / "photos", decoder)
    check(*(next(iter(batches())) for batches in loaders(photos, 0).values()))
    contents = [Path(path).read_bytes() for path in photos.paths]
    rows = []
    for count in workers:
        contenders = loaders(photos, count) | {"bare": lambda: bare_decoder(contents, decoder)}
        mine, rival, bare = median_epochs(contenders, rounds).values()
        cores = min(max(count, 1), thread_count())
        rows.append(
            {"case": f"jpeg, {decoder}", "workers": count}
            | mine
            | {f"torch_{name}": value for name, value in rival.items()}
            | {f"bare_{name}": value for name, value in bare.items() if name != "start_s"}
            | {"of_torch": mine["images_per_second"] / rival["images_per_second"]}
            | {"of_bare_a_core": mine["images_per_second"] / cores / bare["images_per_second"]}
        )
    return rows


def check(ours, theirs) -> None:
    """That two batches are the same."""
    if not all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True)):
        raise SystemExit("the two loaders' first batches differ; not timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", choices=("packed", "jpeg"))
    parser.add_argument(
        "--decoder", choices=[name for name in DECODERS if name == "pillow" or INSTALLED], default="pillow"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps the images for another time; made where they are not there")
    parser.add_argument("--csv", help="a file to write (benchmarks/results/...)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "photos").exists():
            make_photos(folder / "photos", arguments.images)
        measured = (folder, arguments.rounds, arguments.workers)
        rows = packed_rows(*measured) if arguments.source == "packed" else jpeg_rows(*measured, arguments.decoder)
    for row in rows:
        print(
            "  ".join(f"{name} {value:,.4g}" if isinstance(value, float) else f"{value}" for name, value in row.items())
        )
    if arguments.csv:
        write_rows(arguments.csv, rows)


if __name__ == "__main__":
    main()
