"""Packing: a folder of image files, decoded once, becomes a folder of shards (minicnn/data/packed.py)."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from minicnn.data.catalogue import open as open_data
from minicnn.data.datasets import DataError, Dataset, Splits
from minicnn.data.loader import Loader
from minicnn.data.packed import FORMAT, MANIFEST, VERSION, sha256
from minicnn.data.transforms import ChannelSums

BATCH = 64  # images decoded at a time
PLAN, RECORD = "plan.json", ".shard.json"  # in an unfinished pack: what it is of, and what each whole shard holds


def pack(
    source,
    out,
    *,
    image_size: int = 256,
    shard_bytes: int = 1 << 30,
    skip_unreadable: bool = False,
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Pack the images of a folder into the new folder `out`, which `minicnn.data.open` reads; its path is returned.

    Each image becomes a square as Krizhevsky et al. (2012, section 2) made theirs: the short side rescaled to
    `image_size`, the central square cut out. Crops, mirror and colour are left to training. Shards have at most
    `shard_bytes`, but at least an image. The training images' mean and covariance are computed, exactly, and stored, and
    with them the eigenpairs of the PCA colour shift.

    Until it is whole the pack lies in `<out>.partial`, and is then renamed. Where that was interrupted, the same call goes
    on behind the last whole shard. `report` is called with the images done and in all.

    Raises DataError: `out` is there already, an unfinished pack of something else is, an image cannot be read (with
    `skip_unreadable` such are left out and listed in pack.json); OSError where the disk is full.
    """
    out = Path(out).expanduser()
    if out.exists():
        raise DataError(f"{out} is there already: choose another name, or remove it")
    if shard_bytes < 1:
        raise DataError(f"shard_bytes is {shard_bytes}: expected at least 1")
    splits = open_data(source, image_size=image_size, validation_fraction=0, skip_unreadable=skip_unreadable)
    parts = {name: part for name in ("train", "validation", "test") if (part := getattr(splits, name)) is not None}
    partial = out.with_name(out.name + ".partial")
    _begin(partial, _plan(parts, shard_bytes))
    total = sum(map(len, parts.values()))
    described, done = {}, 0
    for name, part in parts.items():
        packing = PartPacking(partial, name, part, shard_bytes, workers)
        described[name] = packing.run(lambda images, done=done: report(done + images, total))
        done += len(part)
    _finish(partial, out, _manifest(source, splits, image_size, described))
    return out


class PartPacking:
    """The packing of one part: shard after shard, each beside a record of what is in it, so that it can be gone on with."""

    def __init__(self, folder: Path, name: str, dataset: Dataset, shard_bytes: int, workers: int):
        self.folder, self.name, self.dataset = folder, name, dataset
        per_shard = max(1, shard_bytes // int(np.prod(dataset.image_shape)))
        self.batch = min(BATCH, per_shard)
        self.batches = per_shard // self.batch  # in a shard
        self.workers = workers

    def run(self, report: Callable[[int], None]) -> dict:
        """What pack.json says of the part."""
        records = self._whole_shards()
        loader = Loader(self.dataset, self.batch, shuffle=False, workers=self.workers)
        start = len(records) * self.batches
        images = (images for images, _ in loader.iterate(start_batch=start))
        while start < len(loader):
            done = start * self.batch
            records.append(self._write_shard(len(records), islice(images, self.batches), done, report))
            start += self.batches
        report(len(self.dataset))
        sums = functools.reduce(operator.add, (ChannelSums(**record.pop("sums")) for record in records))
        described = {"images": len(self.dataset), "labels": self._write_labels(), "shards": records}
        if self.name == "train":
            described["statistics"] = asdict(sums.statistics())
        return described

    def _record_path(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05}{RECORD}"

    def _whole_shards(self) -> list[dict]:
        """The records of those that an interrupted packing has left."""
        records: list[dict] = []
        while (path := self._record_path(len(records))).exists():
            records.append(json.loads(path.read_text()))
        return records

    def _write_shard(self, number: int, batches: Iterator[np.ndarray], done: int, report) -> dict:
        path = self.folder / f"{self.name}-{number:05}.npy"
        images = min(self.batches * self.batch, len(self.dataset) - done)
        sums, digest = ChannelSums.none(self.dataset.image_shape[2]), hashlib.sha256()
        header = {"descr": "|u1", "fortran_order": False, "shape": (images, *self.dataset.image_shape)}
        with open(path, "wb+") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.seek(0)
            digest.update(file.read())
            for batch in batches:
                file.write(batch)
                digest.update(batch)
                sums += ChannelSums.of(batch)
                done += len(batch)
                report(done)
            _sync(file)
        record = _describe(path, digest.hexdigest()) | {"images": images, "sums": asdict(sums)}
        write_json(self._record_path(number), record)
        return record

    def _write_labels(self) -> dict:
        path = self.folder / f"{self.name}-labels.npy"
        with open(path, "wb") as file:
            np.save(file, self.dataset.labels)
            _sync(file)
        return _describe(path, sha256(path))


def _plan(parts: dict[str, Dataset], shard_bytes: int) -> dict:
    """What must be the same for an unfinished pack to be gone on with."""
    listing = hashlib.sha256()
    for name, part in parts.items():
        for path, label in zip(getattr(part, "paths", ()), part.labels, strict=False):
            listing.update(f"{name} {label} {path} {os.stat(path).st_size}\n".encode())
    shapes = {name: [len(part), *part.image_shape] for name, part in parts.items()}
    return {"version": VERSION, "shapes": shapes, "files": listing.hexdigest(), "shard_bytes": shard_bytes}


def _begin(partial: Path, plan: dict) -> None:
    """A folder to write into: a new one, or one that was left with the same plan."""
    path = partial / PLAN
    if not partial.exists():
        partial.mkdir(parents=True)
        write_json(path, plan)
    elif not path.exists() or json.loads(path.read_text()) != plan:
        raise DataError(
            f"{partial} is an unfinished pack of other images, or in other shards: remove it, then pack again"
        )


def _manifest(source, splits: Splits, image_size: int, parts: dict) -> dict:
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": str(source),
        "image_size": image_size,
        "channels": splits.image_shape[2],
        "class_names": splits.class_names,
        "skipped": splits.skipped,
        "parts": parts,
    }


def _finish(partial: Path, out: Path, manifest: dict) -> None:
    write_json(partial / MANIFEST, manifest)
    _sync_folder(partial)
    partial.rename(out)
    _sync_folder(out.parent)
    for no_longer_needed in (out / PLAN, *out.glob(f"*{RECORD}")):
        no_longer_needed.unlink()


def write_json(path: Path, content: dict) -> None:
    """Whole or not at all."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "w") as file:
        json.dump(content, file, indent=1)
        _sync(file)
    beside.replace(path)


def _describe(path: Path, digest: str) -> dict:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """So that the names in it outlast a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
