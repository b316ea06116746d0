"""The detector's exam (tests/exam): every racy question is refused for a race or a divergence, and no other is."""

import ctypes
import importlib

import numpy as np
import pytest
from conftest import unavailable

SCHEDULES = [("forward", 0, "late"), ("reverse", 0, "early"), ("random", 1, "random"), ("random", 2, "late")]

try:
    exam = importlib.import_module("minicnn._exam")
    QUESTIONS = exam.questions()
except ImportError:
    exam, QUESTIONS = None, []

# What a report of one of the two kinds of fault that the exam asks for says.
RACE = "race on byte"
DIVERGENCE = ("divergent barrier", "divergent warp", "deadlock", "is not in its own mask")


@pytest.fixture(scope="module", autouse=True)
def built():
    if exam is None:
        unavailable("checked", "minicnn._exam was not built (MINICNN_CHECKED=1)")


@pytest.fixture(scope="module")
def buffers(built):
    """Both of a question's buffers, as arrays."""
    addresses = [exam.allocate(4 * exam.buffer_ints) for _ in range(2)]
    yield [
        np.frombuffer((ctypes.c_char * (4 * exam.buffer_ints)).from_address(address), np.int32) for address in addresses
    ]
    for address in addresses:
        exam.release(address)
    exam.check_guards()


def verdict(number, buffers):
    """What the detector says of a question: "", or its report."""
    for buffer in buffers:
        buffer[...] = 0
        exam.mark_written(buffer.ctypes.data, buffer.nbytes)
    try:
        exam.ask(number, *(buffer.ctypes.data for buffer in buffers))
    except RuntimeError as error:
        return str(error)
    return ""


def is_right(report, racy):
    found = RACE in report or any(words in report for words in DIVERGENCE)
    return found if racy else report == ""


def test_the_exam_is_there():
    assert len(QUESTIONS) >= 200


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: "{}{}-{}".format(*schedule))
@pytest.mark.parametrize("number", range(len(QUESTIONS)), ids=lambda number: "-".join(QUESTIONS[number][:2]))
def test_question(number, schedule, buffers):
    order, seed, asynchrony = schedule
    exam.configure(order, seed, asynchrony=asynchrony)
    _, _, racy, why = QUESTIONS[number]
    report = verdict(number, buffers)
    assert is_right(report, racy), f"{'racy' if racy else 'race-free'} ({why}): {report or 'nothing was found'}"
