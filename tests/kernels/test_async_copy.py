"""Asynchronous copies as PTX describes cp.async, groups and waits, and the freedom that the emulation takes within that."""

import numpy as np
import pytest

ASYNCHRONIES = ["early", "late", "random"]
COPY, ZERO, COMMIT, WAIT, READ = range(5)
WORDS = 64  # of x, of y and of shared memory, a thread


@pytest.fixture(params=ASYNCHRONIES)
def asynchrony(request, emulated):
    emulated.configure("random", seed=3, asynchrony=request.param)
    return request.param


def random_program(rng, steps=60):
    """Steps as the probe takes them, and the y that every implementation must give; -1 where it writes nothing.

    Here the semantics are stated: a copy belongs to the group that the next commit closes; after a wait for all but n
    groups, those of the closed ones before the last n have taken place. Nothing is said of a copy before that, so that
    its target is neither read nor copied to again.
    """
    shared, y = [None] * WORDS, [-1] * WORDS  # values as places in x; None is zero
    program, groups, open_group, written = [], [], [], 0
    for _ in range(steps):
        under_way = {to for group in [*groups, open_group] for to, _ in group}
        kind = rng.choice([COPY, ZERO, COMMIT, WAIT, READ], p=[0.35, 0.1, 0.2, 0.15, 0.2])
        if kind in (COPY, ZERO):
            words = int(rng.choice([1, 2, 4]))
            to, source = (int(rng.integers(WORDS // words)) * words for _ in range(2))
            if under_way & set(range(to, to + words)):
                continue
            open_group += [(to + i, source + i if kind == COPY else None) for i in range(words)]
            program.append((kind, to, source, 4 * words))
        elif kind == COMMIT:
            groups.append(open_group)
            open_group = []
            program.append((COMMIT, 0, 0, 0))
        elif kind == WAIT:
            pending = int(rng.integers(4))
            while len(groups) > pending:
                for to, source in groups.pop(0):
                    shared[to] = source
            program.append((WAIT, pending, 0, 0))
        elif written < WORDS:
            settled = sorted(set(range(WORDS)) - under_way)
            at = int(rng.choice(settled))
            program.append((READ, written, at, 0))
            y[written] = shared[at]
            written += 1
    return np.array(program, np.int32), y


@pytest.mark.parametrize("case", range(8))
def test_any_program_of_copies(emulated, asynchrony, on_device, run, case):
    rng = np.random.default_rng(case)
    program, places = random_program(rng)
    x = rng.integers(1, 2**32, (3, WORDS), dtype=np.uint32)
    y = np.full((3, WORDS), 7, np.uint32)
    expected = y.copy()
    for thread in range(3):
        for i, place in enumerate(places):
            if place != -1:
                expected[thread, i] = 0 if place is None else x[thread, place]
    device_y = on_device(y)
    run(emulated.instructions.run_copies, on_device(x), device_y, on_device(program), len(program), 3)
    assert device_y.tolist() == expected.tolist()


def test_early_and_late_are_what_they_say(emulated, on_device, run):
    """One copy read before its wait: no program may do it, and here it shows when copies take place."""
    program = np.array(
        [(COPY, 0, 5, 4), (COMMIT, 0, 0, 0), (READ, 0, 0, 0), (WAIT, 0, 0, 0), (READ, 1, 0, 0)], np.int32
    )
    x, y, program = map(on_device, (np.arange(WORDS, dtype=np.uint32), np.zeros(WORDS, np.uint32), program))

    def read_early(asynchrony, seed):
        emulated.configure(seed=seed, asynchrony=asynchrony)
        run(emulated.instructions.run_copies, x, y, program, len(program), 1)
        assert y[1] == 5
        return int(y[0])

    if emulated.checked:
        with pytest.raises(RuntimeError, match="race"):
            read_early("early", 0)
        return
    seen = {asynchrony: {read_early(asynchrony, seed) for seed in range(8)} for asynchrony in ASYNCHRONIES}
    assert seen == {"early": {5}, "late": {0}, "random": {0, 5}}


@pytest.mark.parametrize(
    "where, message",
    [
        (0, "both sides must be aligned to its 16 bytes"),
        (1, "both sides must be aligned to its 16 bytes"),
        (2, "the target is not in the block's 4096 bytes of shared memory"),
    ],
    ids=["target", "source", "global_target"],
)
def test_what_no_copy_may_do(emulated, on_device, run, where, message):
    with pytest.raises(RuntimeError, match=rf"^copy_misaligned: probes\.cu:\d+: async_copy: {message}, in block"):
        run(emulated.probes.copy_misaligned, on_device(np.zeros(8, np.float32)), where)


def test_configuration_refuses(emulated):
    with pytest.raises(ValueError, match=r"^asynchrony is 'early', 'late' or 'random', not 'never'$"):
        emulated.configure(asynchrony="never")
