"""Shared memory: the model of its banks on layouts whose cost is known, and then on every kernel as it runs."""

import numpy as np
import pytest

from gates import launches
from gates.banks import ACCESS, requests, sites, turns


def warp(offsets, width):
    """What a warp's lanes access at once: `width` bytes each, from these on."""
    return np.array([(0, lane, 0, offset, width, 0) for lane, offset in enumerate(offsets)], ACCESS)


LANE = np.arange(32)
PATTERNS = {
    "neighbours": (4 * LANE, 4, 1),
    "all_the_same": (0 * LANE, 4, 1),
    "every_second_word": (8 * LANE, 4, 2),
    "a_column_of_32": (128 * LANE, 4, 32),
    "a_column_of_33": (132 * LANE, 4, 1),
    "bytes_of_eight_words": (LANE, 1, 1),
    "halves_of_neighbours": (2 * LANE, 2, 1),
    "pairs": (8 * LANE, 8, 1),
    "every_second_pair": (16 * LANE, 8, 2),
    "quads": (16 * LANE, 16, 1),
    "every_second_quad": (32 * LANE, 16, 2),
    "a_quad_in_each_row_of_32": (128 * LANE, 16, 8),
    "a_quad_in_each_row_of_36": (144 * LANE, 16, 1),
    "eight_quads_that_all_share": (16 * (LANE % 8), 16, 1),
    "rows_of_64_bytes": (64 * LANE, 16, 4),
    "rows_of_64_bytes_swizzled": (64 * LANE + 16 * (LANE // 2 % 4), 16, 1),
}


@pytest.mark.parametrize("offsets, width, expected", PATTERNS.values(), ids=PATTERNS.keys())
def test_known_patterns(offsets, width, expected):
    accesses = warp(offsets, width)
    assert turns(accesses, requests(accesses)).tolist() == [expected]


def test_lanes_are_matched_by_how_often_they_came():
    """Two rounds, one after the other for each thread, as the emulation runs them; the second round conflicts."""
    rounds = np.stack([warp(4 * LANE, 4), warp(128 * LANE, 4)], axis=1).reshape(-1)
    assert sorted(turns(rounds, requests(rounds)).tolist()) == [1, 32]


@pytest.mark.parametrize("pitch, expected", [(32, 32), (33, 1)], ids=["unpadded", "padded"])
def test_a_transpose_through_shared_memory(pitch, expected, checked_device):
    """The fault that everybody makes once, found in a kernel that runs."""
    x, y = checked_device.array(np.arange(1024, dtype=np.float32)), checked_device.empty((32, 32))

    def run(device):
        device.module.probes.transpose(device.address(x), device.address(y), pitch, 0)

    recording = launches.record(checked_device, run)
    np.testing.assert_array_equal(y, np.arange(1024).reshape(32, 32).T)
    assert [(site.is_write, site.turns) for site in sites(checked_device.module, recording.accesses)] == [
        (True, 1),
        (False, expected),
    ]


@pytest.mark.parametrize(
    "pitch, next_matrix, expected",
    [(16, 128, 1), (64, 16, 4), (128, 16, 8)],
    ids=["packed", "of_64_bytes", "of_128_bytes"],
)
def test_rows_of_ldmatrix(pitch, next_matrix, expected, checked_device):
    rows = checked_device.array((LANE % 8 * pitch + LANE // 8 * next_matrix).astype(np.int32))
    x, y = checked_device.array(np.zeros((64, 8), np.uint16)), checked_device.empty((32, 4), np.uint32)

    def run(device):
        device.module.instructions.load_matrices(*map(device.address, (x, rows, y)), 4, 0, 0, 0)

    recording = launches.record(checked_device, run)
    (site,) = (s for s in sites(checked_device.module, recording.accesses) if s.bytes == 16)
    assert site.turns == expected


def test_no_kernel_waits_for_a_bank(checked_device, count):
    found = []
    for run in launches.RUNS:
        found += sites(checked_device.module, launches.record(checked_device, run).accesses)
    count("places in the sources where shared memory is accessed", len(found))
    assert len(found) > 50
    assert not [str(site) for site in found if site.turns > 1]
