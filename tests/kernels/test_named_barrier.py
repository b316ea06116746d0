"""Barriers of a part of a block, atomics of a block's scope."""

import numpy as np
import pytest


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_one_buffer_handed_over_again_and_again(emulated, schedule, on_device, run, rng, rounds):
    x, y = (
        on_device(rng.standard_normal((rounds, 32)).astype(np.float32)),
        on_device(np.zeros((rounds, 32), np.float32)),
    )
    run(emulated.probes.hand_over, x, y, rounds)
    assert np.array_equal(y, x[:, ::-1])


AT = r"probes\.cu:\d+"
THREAD = r"in block \(0,0,0\), thread \(\d+,0,0\)"
MISUSES = {
    "number": (0, rf"{AT}: named_barrier_sync: the named barriers are 1 to 15, not 0, {THREAD}"),
    "threads": (1, rf"{AT}: named_barrier_sync: a barrier is for a multiple of 32 threads, not for 48, {THREAD}"),
    "two_numbers_of_threads": (
        2,
        rf"{AT}: divergent barrier: this thread is in named_barrier_sync of barrier 1 for (64|96) threads, "
        rf"others came for (64|96) in named_barrier_sync \({AT}\), {THREAD}",
    ),
    "twice": (3, rf"{AT}: divergent barrier: this thread comes to barrier 1 twice before it opens, {THREAD}"),
    "never": (
        4,
        rf"deadlock in block \(0,0,0\): threads 0-31 wait in named_barrier_sync \({AT}\), "
        r"32 of 64 threads have come to barrier 1; threads 32-63 have returned",
    ),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_named_and_leaves_the_emulation_usable(emulated, schedule, on_device, run, name):
    how, message = MISUSES[name]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"^misuse_named_barrier: {message}$"):
            run(emulated.probes.misuse_named_barrier, how)
        y = on_device(np.zeros(32, np.float32))
        run(emulated.probes.hand_over, on_device(np.arange(32, dtype=np.float32)), y, 1)
        assert y.tolist() == list(range(32))[::-1]


def test_atomics_of_a_block(emulated, schedule, on_device, run, rng):
    x, y = on_device(rng.integers(0, 1000, 96).astype(np.int32)), on_device(np.zeros(5, np.int32))
    run(emulated.probes.atomics_of_block, x, y, 96)
    assert y[:3].tolist() == [x.sum(), x.max(), x.sum()]
    assert y[3] in x and y[3] + y[4] == x.sum(), "every value was exchanged once"
