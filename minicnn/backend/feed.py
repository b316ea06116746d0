"""Batches on their way from the host to a device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

PLACES = 2  # for batches of a kind: one is read while another is filled


class HostFeed:
    """Of a device in the host's memory: its own processors would copy, so nothing is won by copying ahead."""

    def __init__(self, device):
        self.device = device

    def push(self, arrays) -> list:
        return [self.device.array(values) for values in arrays]


class Feed:
    """Copies on a stream of their own, from pinned memory, while kernels compute.

    `push(arrays)` returns host arrays as arrays of the device, for the work that is queued before the next push. Three
    waits keep the streams apart: kernels wait for the copies of what they read, copies for the kernels that read what
    they overwrite, and the host for the copies out of the pinned memory that it fills.

    Batches of a kind, of the same shapes and dtypes, have PLACES that take turns, and live as long as the feed.
    """

    def __init__(self, device):
        self.device, self.stream = device, device.new_stream()
        self.places: dict[tuple, Iterator[Place]] = {}
        self.latest: Place | None = None

    def push(self, arrays) -> list:
        if self.latest is not None:
            self.latest.read = self.device.stream.record()
        place = self.latest = self.place_for(arrays)
        place.fill(arrays)
        self.stream.wait_event(place.read)
        for values, array in zip(place.pinned, place.arrays, strict=True):
            self.device.copy_from_host(values, array, self.stream)
        place.copied = self.stream.record()
        self.device.stream.wait_event(place.copied)
        return place.arrays

    def place_for(self, arrays) -> Place:
        kind = kind_of(arrays)
        if kind not in self.places:
            self.places[kind] = itertools.cycle([Place(self.device, arrays) for _ in range(PLACES)])
        return next(self.places[kind])


class Place:
    """Where batches of a kind pass through: pinned memory of the host, and arrays of the device.

    read    the event behind which `arrays` may be overwritten: at first, when the memory's last owner is done with it
    copied  the event behind which `pinned` may be
    """

    def __init__(self, device, arrays):
        self.pinned = [device.pinned(values.shape, values.dtype) for values in arrays]
        self.arrays = [device.empty(values.shape, values.dtype) for values in arrays]
        self.read, self.copied = device.stream.record(), None

    def fill(self, arrays) -> None:
        if self.copied is not None:
            self.copied.synchronize()
        for values, pinned in zip(arrays, self.pinned, strict=True):
            pinned[...] = values


def kind_of(arrays: tuple[np.ndarray, ...]) -> tuple:
    return tuple((values.shape, values.dtype) for values in arrays)
