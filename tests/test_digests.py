"""Digests of weights: every bit counts, and nothing else does."""

import hashlib

import numpy as np
import pytest

from minicnn import digests, nn
from minicnn.digests import PIECE, digest


def test_the_digest_is_a_hash_of_the_pieces_hashes(rng):
    array = rng.standard_normal(PIECE * 3 // 4 // 2).astype(np.float64)  # three pieces of bytes
    data = array.tobytes()
    pieces = [hashlib.sha256(data[start : start + PIECE]).digest() for start in range(0, len(data), PIECE)]
    assert len(pieces) == 3
    assert digest(array) == hashlib.sha256(b"".join(pieces)).hexdigest()[:16]


@pytest.mark.parametrize("place", [0, PIECE // 4 - 1, PIECE // 4, -1], ids=["first", "end_of_piece", "next", "last"])
def test_one_bit_changes_it(place):
    array = np.zeros(PIECE // 2 + 3, np.float32)
    before = digest(array)
    array[place] = -0.0
    assert digest(array) != before


def test_it_does_not_depend_on_the_threads(rng, monkeypatch):
    array, found = rng.standard_normal(PIECE), set()
    for threads in ("1", "2", "3", "7"):
        monkeypatch.setenv("MINICNN_THREADS", threads)
        found.add(digest(array))
    assert len(found) == 1


def test_arrays_of_every_form_have_one(rng):
    matrix = rng.standard_normal((6, 4))
    assert digest(matrix.T) == digest(np.ascontiguousarray(matrix.T)) != digest(matrix)
    assert len({digest(np.float32(1.0)), digest(np.float32(2.0)), digest(np.empty((0, 3)))}) == 3


def test_a_network_has_one_for_each_parameter_and_buffer(device):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(device)
    before = digests.of_network(network)
    assert list(before) == [
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        *(name for name in network.state_dict() if name.startswith("1.running_")),
    ]
    assert before == {name: digest(array) for name, array in network.state_dict().items()}
    network[1].weight.copy_(np.array([1.0, 2.0], np.float32))
    after = digests.of_network(network)
    assert [name for name in after if after[name] != before[name]] == ["1.weight"]
