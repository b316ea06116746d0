"""Philox4x32-10 against the known answers that its authors published with Random123 (kat_vectors)."""

import numpy as np
import pytest

from minicnn.philox import permutation, philox4x32, random_words

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "digits of pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers(name):
    counter, key, expected = KNOWN_ANSWERS[name]
    assert tuple(int(word) for word in philox4x32(counter, key)) == expected


def test_every_part_of_the_name_matters():
    base = {"seed": 1, "step": 2, "numbers": [3], "stream": 4}
    names = [
        base,
        *(base | {part: value} for part, value in (("seed", 9), ("step", 9), ("numbers", [9]), ("stream", 9))),
    ]
    names += [base | {"seed": 1 + 2**32}, base | {"numbers": [3 + 2**32]}]
    words = {tuple(int(word[0]) for word in random_words(**name)) for name in names}
    assert len(words) == len(names)


def test_words_do_not_depend_on_the_company_that_a_sample_is_in():
    together = np.stack(random_words(5, 1, np.arange(100), 0), 1)
    assert np.array_equal(together[[70, 3]], np.stack(random_words(5, 1, [70, 3], 0), 1))


def test_permutation_holds_every_number_once_and_changes_with_the_epoch():
    first, second = permutation(0, 0, 1000, 0), permutation(0, 1, 1000, 0)
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert (first == second).mean() < 0.02  # two random orders of 1000 share one place on average


def test_permutation_is_pinned():
    """The order of a seeded run may not move with a version of NumPy or of this file: a resumed run depends on it."""
    assert permutation(0, 0, 8, 0).tolist() == [2, 0, 5, 7, 6, 3, 4, 1]
