"""Graphs of device work: what is recorded, what a replay does, and what may not be captured."""

import threading

import numpy as np
import pytest

import minicnn
from minicnn import backend
from minicnn import functional as F
from minicnn.errors import DeviceError

VALUES = np.array([-1.0, 2.0, -3.0, 4.0], np.float32)


@pytest.fixture
def graph(ladder_device):
    """An empty graph of a device that has them."""
    return ladder_device.new_graph()


def captured_relu(graph):
    """(x, y): a replay makes y = max(x, 0)."""
    x = minicnn.tensor(VALUES, device=graph.device)
    with graph.memory():
        F.relu(x)
    return x, graph.capture(lambda: F.relu(x))


def test_a_replay_works_on_what_stands_in_the_arrays_now(graph):
    x, y = captured_relu(graph)
    for values in (VALUES, -VALUES):
        graph.device.write(x.data, values)
        graph.replay()
        np.testing.assert_array_equal(y.numpy(), np.maximum(values, 0))


def test_nothing_is_done_while_it_is_captured(graph):
    x, target = minicnn.tensor(VALUES, device=graph.device), minicnn.tensor(-VALUES, device=graph.device)
    graph.capture(lambda: graph.device.copy(x.data, target.data))
    np.testing.assert_array_equal(target.numpy(), -VALUES)
    graph.replay()
    np.testing.assert_array_equal(target.numpy(), VALUES)


def test_zeroes_and_copies_are_repeated_in_their_order(graph):
    device = graph.device
    x, y, z = (minicnn.tensor(VALUES, device=device) for _ in range(3))

    def work():
        device.zero(x.data)
        device.copy(x.data, y.data)
        device.copy(z.data, x.data)

    graph.capture(work)
    for factor in (2, 3):
        device.write(z.data, factor * VALUES)
        graph.replay()
        np.testing.assert_array_equal(x.numpy(), factor * VALUES)
        np.testing.assert_array_equal(y.numpy(), 0 * VALUES)


def test_arrays_made_within_live_as_long_as_the_graph(graph):
    """The intermediate ones have no other owner; the emulation poisons memory that is given back."""
    x = minicnn.tensor(VALUES, device=graph.device)

    def work():
        return F.relu(F.relu(F.relu(x)))

    with graph.memory():
        work()
    y = graph.capture(work)
    others = [minicnn.tensor(VALUES, device=graph.device) for _ in range(8)]  # would take freed blocks
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), np.maximum(VALUES, 0))
    for other in others:
        np.testing.assert_array_equal(other.numpy(), VALUES)


@pytest.mark.parametrize("work", [lambda x: x.numpy(), lambda x: minicnn.tensor(VALUES, device=x.device)])
def test_values_of_the_host_are_refused(graph, work):
    x = minicnn.tensor(VALUES, device=graph.device)
    with pytest.raises(DeviceError, match=r"^a graph cannot be captured of "):
        graph.capture(lambda: work(x))
    np.testing.assert_array_equal(F.relu(x).numpy(), np.maximum(VALUES, 0))  # as ever


def test_another_thread_works_meanwhile(graph):
    x, found = minicnn.tensor(VALUES, device=graph.device), []

    def elsewhere():
        found.append(F.relu(minicnn.tensor(-VALUES, device=graph.device)).numpy())

    def work():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return F.relu(x)

    with graph.memory():
        F.relu(x)
    y = graph.capture(work)
    np.testing.assert_array_equal(found[0], np.maximum(-VALUES, 0))
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), np.maximum(VALUES, 0))
    assert len(found) == 1


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_devices_without_graphs_say_so(name):
    with pytest.raises(DeviceError, match=f"^device '{name}' has no graphs: 'cuda' has them, and 'emulated'$"):
        backend.device(name).new_graph()
