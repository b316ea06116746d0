"""Labelled images: datasets, augmentation, and the loader that feeds a training loop."""

from minicnn.data.catalogue import DEFAULT, NAMED, open
from minicnn.data.datasets import ArrayDataset, DataError, Dataset, Splits, Subset, split
from minicnn.data.folder import ImageFolder, Resized
from minicnn.data.idx import read_idx
from minicnn.data.images import read_image
from minicnn.data.loader import Loader
from minicnn.data.packed import PackedImages
from minicnn.data.packing import pack
from minicnn.data.scales import read_at, read_file_at
from minicnn.data.transforms import (
    Augment,
    CenterCrop,
    ChannelStatistics,
    ImageBatch,
    Prepare,
    Transform,
    colour_shift,
    grid_crops,
    ten_crops,
)
from minicnn.data.workers import WorkerError

__all__ = [
    "DEFAULT",
    "NAMED",
    "ArrayDataset",
    "Augment",
    "CenterCrop",
    "ChannelStatistics",
    "DataError",
    "Dataset",
    "ImageBatch",
    "ImageFolder",
    "Loader",
    "PackedImages",
    "Prepare",
    "Resized",
    "Splits",
    "Subset",
    "Transform",
    "WorkerError",
    "colour_shift",
    "grid_crops",
    "open",
    "pack",
    "read_at",
    "read_file_at",
    "read_idx",
    "read_image",
    "split",
    "ten_crops",
]
