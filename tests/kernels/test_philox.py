"""Philox4x32-10 on the device (csrc/device/philox.h) against its known answers and its twin in Python."""

import numpy as np
import pytest

from minicnn.philox import random_words

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = {  # kat_vectors of Random123
    "zeros": ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    "ones": ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    "digits_of_pi": (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
}


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers(emulated, on_device, run, name):
    counter, key, expected = (on_device(np.array(words, np.uint32)) for words in KNOWN_ANSWERS[name])
    words = on_device(np.zeros(4, np.uint32))
    run(emulated.probes.philox_known_answer, counter, key, words)
    assert [hex(word) for word in words] == [hex(word) for word in expected]


def draw(emulated, on_device, run, seed=1, step=2, layer=3, first_quad=0, quads=64, p=0.5):
    words, kept = on_device(np.zeros((quads, 4), np.uint32)), on_device(np.zeros((quads, 4), np.uint8))
    run(emulated.probes.philox, words, kept, seed, step, layer, first_quad, quads, p)
    return words, kept


@pytest.mark.parametrize(
    "name",
    [
        {"seed": 1, "step": 2, "layer": 3},
        {"seed": 2**32 + 1},
        {"seed": 2**63 - 1},
        {"step": 2**32 - 1, "layer": 2**32 - 1},
        {"first_quad": 2**32 - 10},
    ],
    ids=str,
)
def test_words_are_those_of_the_python_twin(emulated, on_device, run, name):
    words, _ = draw(emulated, on_device, run, **name)
    name = {"seed": 1, "step": 2, "layer": 3, "first_quad": 0} | name
    quads = name["first_quad"] + np.arange(64)
    assert np.array_equal(words, np.stack(random_words(name["seed"], name["step"], quads, name["layer"]), 1))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_a_unit_stays_where_its_uniform_number_reaches_p(emulated, on_device, run, p):
    words, kept = draw(emulated, on_device, run, p=p, quads=1000)
    uniform = (words >> 8).astype(np.float32) * np.float32(2**-24)
    assert np.array_equal(kept, uniform >= np.float32(p))
    assert abs(kept.mean() - (1 - p)) < 0.04  # five standard deviations of 4000 draws at p = 0.5


def test_a_unit_stays_where_its_uniform_number_is_p_itself(emulated, on_device, run):
    words, _ = draw(emulated, on_device, run)
    for word in words[0] >> 8:
        _, kept = draw(emulated, on_device, run, p=float(word) / 2**24)
        assert np.array_equal(kept, words >> 8 >= word)


def test_a_word_of_all_ones_is_still_below_one(emulated, on_device, run):
    """At p = 1 nothing stays: no word may round up to a uniform number of 1."""
    assert np.float32(0xFFFFFFFF >> 8) * np.float32(2**-24) < 1
    _, kept = draw(emulated, on_device, run, p=1.0, quads=1024)
    assert not kept.any()
