"""Shares of work on several threads: what an op computes does not show how many there were."""

import os
import threading

import numpy as np
import pytest
from checks import run
from threadpoolctl import threadpool_info, threadpool_limits

from minicnn import functional, threads
from minicnn.backend import device
from minicnn.ops.sgd import Segment, Segments, SgdRule, sgd_step
from minicnn.threads import in_shares, one_blas_thread


@pytest.fixture
def three_threads(monkeypatch):
    """Even the smallest work is shared by three threads."""
    monkeypatch.setattr(threads, "FEW", 0)
    monkeypatch.setenv("MINICNN_THREADS", "3")


@pytest.mark.usefixtures("three_threads")
def test_the_shares_cover_the_whole_each_on_its_thread():
    started = threading.Barrier(3, timeout=30)

    def work(share):
        started.wait()
        return share, threading.get_ident()

    results = in_shares(work, 7, operations=1)
    assert [share for share, _ in results] == [slice(0, 2), slice(2, 4), slice(4, 7)]
    assert len({thread for _, thread in results}) == 3


@pytest.mark.parametrize("count, operations", [(7, 1), (1, 10**9), (0, 10**9)], ids=["few", "one", "none"])
def test_what_cannot_or_need_not_be_shared_is_one_share(count, operations, monkeypatch):
    monkeypatch.setenv("MINICNN_THREADS", "3")
    caller = threading.get_ident()
    assert in_shares(lambda share: (share, threading.get_ident()), count, operations) == [(slice(0, count), caller)]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("failing", [0, 2], ids=["the caller's share", "another's share"])
def test_an_error_is_raised_once_every_share_has_ended(failing):
    ended = []

    def work(share):
        if share.start == failing:
            raise ValueError(f"share {share.start}")
        ended.append(share.start)

    with pytest.raises(ValueError, match=f"share {failing}"):
        in_shares(work, 3, operations=1)
    assert sorted([*ended, failing]) == [0, 1, 2]


@pytest.mark.usefixtures("three_threads")
def test_error_states_of_numpy_hold_in_every_share():
    with np.errstate(divide="ignore"):
        assert in_shares(lambda share: float(np.float32(1) / np.float32(0)), 3, operations=1) == [np.inf] * 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_shares_its_work_too():
    in_shares(lambda share: None, 3, operations=1)
    child = os.fork()
    if child == 0:
        os._exit(len(in_shares(lambda share: share, 3, operations=1)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def test_blas_has_its_threads_back_afterwards():
    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with one_blas_thread():
            assert set(blas_threads()) <= {1}
        assert blas_threads() == before


OPS = {
    "conv2d": (
        lambda x, weight, bias: functional.conv2d(x, weight, bias, stride=2, padding=1, groups=2),
        [(5, 9, 8, 4), (6, 3, 3, 2), (6,)],
    ),
    "linear": (functional.linear, [(4, 10), (7, 10), (7,)]),
    "local_response_norm": (lambda x: functional.local_response_norm(x, 3, alpha=1.0), [(2, 3, 5, 7)]),
    "relu": (functional.relu, [(2, 3, 5)]),
    "max_pool2d": (lambda x: functional.max_pool2d(x, 3, stride=2, padding=1), [(4, 7, 6, 3)]),
    "avg_pool2d": (lambda x: functional.avg_pool2d(x, 3, stride=2, padding=1), [(4, 7, 6, 3)]),
}


@pytest.mark.parametrize("function, shapes", OPS.values(), ids=OPS.keys())
def test_an_op_in_shares_is_the_op(function, shapes, rng, monkeypatch):
    inputs = [rng.standard_normal(shape) for shape in shapes]
    monkeypatch.setattr(threads, "FEW", 0)
    results = []
    for count in ("1", "3"):
        monkeypatch.setenv("MINICNN_THREADS", count)
        y, grads = run(function, inputs, "numpy")
        results.append([y, *grads])
    for alone, shared in zip(*results, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=1e-12, atol=1e-12)


def test_sgd_in_shares_is_sgd(rng, monkeypatch):
    cpu, hyper = device("numpy"), np.array([0.1, 1.0])
    start = rng.standard_normal((3, 100))
    monkeypatch.setattr(threads, "FEW", 0)
    results = []
    for count in ("1", "3"):
        monkeypatch.setenv("MINICNN_THREADS", count)
        weights, grads, velocity = start.copy()
        segments = Segments([Segment(0, 30), Segment(40, 100, 2.0, 0.0)], cpu)
        sgd_step(cpu, weights, grads, velocity, segments, hyper, 0.9, 0.01, SgdRule.torch)
        results.append((weights, velocity))
    np.testing.assert_array_equal(*results)
    assert (results[1][0][30:40] == start[0, 30:40]).all()
    assert (results[1][0][40:] != start[0, 40:]).all()
