"""Learning rates at the steps where they matter, and the plateau rule on a made-up error curve (fact A11)."""

import math

import pytest

from minicnn.schedules import Schedule


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2]),
        ("step", [1.0, 1.0, 0.1, 0.01]),
        ("plateau", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_rate_at_each_quarter(name, expected):
    schedule = Schedule(name, lr=1.0, total_steps=100)
    assert [schedule.at(step) for step in (0, 25, 50, 75)] == pytest.approx(expected)


def test_warm_up_rises_from_nearly_zero_and_then_leaves_the_schedule_alone():
    schedule = Schedule("plateau", lr=0.5, total_steps=100, warmup_steps=10)
    assert [schedule.at(step) for step in (0, 4, 9, 10, 99)] == pytest.approx([0.05, 0.25, 0.5, 0.5, 0.5])


def test_plateau_drops_three_times_and_never_again():
    schedule = Schedule("plateau", lr=1.0, total_steps=10**6, patience=2)
    rates = []
    for error in [0.9, 0.8, 0.8, 0.8, 0.7] + [0.7] * 20:
        schedule.epoch_ended(error)
        rates.append(schedule.at(0))
    assert rates[:5] == [1, 1, 1, 1, 1]  # two epochs without progress are within patience, then a better one
    assert rates[5:] == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01] + [0.001] * 12)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"^unknown schedule 'linar': choose one of linear, cosine, step, plateau$"):
        Schedule("linar", 0.1, 10)
