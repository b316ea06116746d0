"""Devices and their memory: what is handed out again, what the emulated device poisons, what kernels are given."""

import ctypes
import gc
import heapq
import sys
import threading
import types
from typing import ClassVar

import numpy as np
import pytest

import minicnn
from minicnn import backend, functional, models, nn, optim
from minicnn.backend import HostDevice, gpu
from minicnn.errors import DeviceError
from minicnn.functional import relu
from minicnn.host_memory import Block, Pool


class Memory:
    """Addresses without memory: what a pool asks for and lets go."""

    def __init__(self):
        self.next, self.live = 0, set()

    def allocate(self, nbytes):
        self.next += 1
        self.live.add(self.next)
        return self.next

    def release(self, address):
        self.live.remove(address)


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def pool(memory):
    return Pool(memory.allocate, memory.release)


# The pool.


def test_a_block_given_back_last_is_handed_out_first(pool):
    first, second = pool.take(100), pool.take(100)
    pool.give_back(first, 100)
    pool.give_back(second, 100)
    assert [pool.take(100), pool.take(100)] == [second, first]


def test_blocks_are_reused_by_size(pool):
    pool.take(500)
    free = pool.take(100)
    pool.give_back(free, 100)
    assert pool.take(200) != free
    assert pool.take(100) == free


def test_free_blocks_are_let_go_once_they_outweigh_what_was_ever_in_use(pool, memory):
    kept = pool.take(100)
    for size in (60, 50, 40, 30):
        pool.give_back(pool.take(size), size)
    assert len(memory.live) == 5
    pool.take(70)  # 180 free bytes against at most 160 in use: another batch size has begun
    assert memory.live == {kept, 6}
    assert (pool.used_bytes, pool.free_bytes, pool.peak_bytes) == (170, 0, 170)


def test_a_small_network_s_scratch_is_not_let_go_between_its_steps(pool, memory):
    """Little stays in use from step to step; what one step held at its peak is what the next one asks for."""
    pool.take(10)
    for _ in range(3):
        held = [(pool.take(size), size) for size in (60, 50, 40)]
        for address, size in held:
            pool.give_back(address, size)
    pool.take(30)
    assert len(memory.live) == 5


def test_blocks_that_fit_are_kept_however_many(pool, memory):
    addresses = [pool.take(100) for _ in range(10)]
    for address in addresses:
        pool.give_back(address, 100)
    assert sorted(pool.take(100) for _ in range(10)) == addresses
    assert len(memory.live) == 10


@pytest.mark.parametrize("during", ["allocate", "release"])
def test_the_collector_may_give_blocks_back_in_the_midst(during, memory):
    """A garbage cycle ends wherever Python collects, inside of the pool's own methods too."""
    pool = Pool(memory.allocate, memory.release)
    held = [pool.take(100), pool.take(100)]
    for size in (500, 400):
        pool.give_back(pool.take(size), size)
    inner = getattr(pool, during)

    def collects(argument):
        if len(held) == 2:
            pool.give_back(held.pop(), 100)
        return inner(argument)

    setattr(pool, during, collects)
    thread = threading.Thread(target=lambda: pool.take(300), daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert len(held) == 1
    assert pool.used_bytes == 400
    assert pool.free_bytes == sum(size * len(blocks) for size, blocks in pool.free.items())


def test_an_array_s_block_goes_back_with_its_last_view():
    memory = {}

    def allocate(nbytes):
        array = np.zeros(nbytes, np.uint8)
        memory[array.ctypes.data] = array
        return array.ctypes.data

    pool = Pool(allocate, memory.pop)
    device = HostDevice("test", pool)
    array = device.empty((100, 100))
    view = array[3:5].T
    del array
    gc.collect()
    assert pool.free_bytes == 0
    view[...] = 7
    del view
    gc.collect()
    assert pool.used_bytes == 0
    assert device.empty((100, 100))[3, 0] == 7  # the same memory


def test_a_block_that_could_not_be_had_gives_nothing_back():
    def fail(nbytes):
        raise MemoryError

    pool = Pool(fail, None)
    with pytest.raises(MemoryError):
        Block(pool, 100, (100,), "|u1")
    assert (pool.used_bytes, pool.free_bytes) == (0, 0)


# The emulated device's memory.


@pytest.fixture
def emulated(kernel_device):
    if kernel_device.name != "emulated":
        pytest.skip("cuda: guarded memory is the emulated device's")
    return kernel_device


class StepMemory:
    """What a captured step will have: of the free blocks of a size the lowest is handed out, so that the addresses of a
    step follow from what is alive at its start and from what it asks for. Writes the addresses down; poisons what is
    given back."""

    def __init__(self, module):
        self.module, self.free, self.taken = module, {}, []

    def take(self, nbytes):
        free = self.free.setdefault(nbytes, [])
        address = heapq.heappop(free) if free else self.module.allocate(nbytes)
        self.taken.append((address, nbytes))
        return address

    def give_back(self, address, nbytes):
        ctypes.memset(address, 0xFF, nbytes)
        heapq.heappush(self.free[nbytes], address)


class Dense(nn.Module):
    """A fully connected layer of broadcasting and a sum."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.parameter(
            np.random.default_rng(1).standard_normal((in_features, out_features), np.float32) / 4
        )
        self.bias = nn.parameter(np.zeros(out_features, np.float32))

    def forward(self, x):
        return (x.reshape(*x.shape, 1) * self.weight).sum(axis=1) + self.bias


def test_two_training_steps_use_the_same_addresses(emulated, monkeypatch):
    """A step leaves nothing behind but weights, gradients and momentum, and reads nothing that an earlier one left."""
    memory = StepMemory(emulated.module)
    monkeypatch.setattr(emulated, "pool", memory)
    model = nn.Sequential(Dense(6, 16), nn.ReLU(), Dense(16, 4)).to(emulated)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = minicnn.tensor(np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32), device=emulated)

    def step():
        memory.taken = []
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item(), memory.taken

    losses, (_, second, third, fourth) = zip(*(step() for _ in range(4)), strict=True)
    assert second == third == fourth  # the first is the warm-up, which maps memory as it goes
    assert len(second) > 20
    assert all(np.isfinite(losses))
    assert list(losses) == sorted(losses, reverse=True)


def test_fresh_and_freed_memory_is_nan(emulated):
    array = emulated.empty((3, 4))
    assert np.isnan(array).all()
    array[...] = 1
    address = emulated.address(array)
    del array
    again = emulated.empty((3, 4))
    assert emulated.address(again) == address
    assert np.isnan(again).all()


def test_the_environment_chooses_the_checked_module(monkeypatch):
    monkeypatch.setenv("MINICNN_EMULATED", "checked")
    assert backend.emulated_module() == "_emulated_checked"
    monkeypatch.delenv("MINICNN_EMULATED")
    assert backend.emulated_module() == "_emulated"


def test_a_module_that_was_not_built_says_how_it_is(monkeypatch):
    monkeypatch.setenv("MINICNN_EMULATED", "checked")
    monkeypatch.setattr(backend, "_module", lambda name: None)
    monkeypatch.setattr(backend._build_info, "emulated_why", "")
    assert backend.available()["emulated"] == (
        "this installation has no compiled module minicnn._emulated_checked: "
        "it is compiled where MINICNN_CHECKED=1 is set for the installation"
    )


def test_a_write_into_freed_memory_is_found(emulated):
    array, other = emulated.empty((3, 4)), emulated.array(np.ones(12, np.float32))
    address = emulated.address(array)
    del array
    if emulated.module.checked:
        with pytest.raises(
            RuntimeError, match=r"illegal access to byte \d+ of a buffer of 48 bytes, which was released"
        ):
            emulated.module.relu_forward(emulated.address(other), address, 12, 0)
        return
    emulated.module.relu_forward(emulated.address(other), address, 12, 0)
    with pytest.raises(RuntimeError, match="written after its release"):
        emulated.module.check_guards()


# What kernels are given.


def test_kernels_refuse_strided_arrays(kernel_device):
    x = kernel_device.array(np.zeros((4, 4), np.float32))
    with pytest.raises(
        DeviceError, match=r"^relu_forward: argument 0 must be a contiguous float32 array, got a strided float32 one$"
    ):
        kernel_device.kernels.relu_forward(x.T, x, 16)


def test_kernels_refuse_other_dtypes(kernel_device):
    x, y = kernel_device.array(np.zeros(4, np.float32)), kernel_device.array(np.zeros(4))
    with pytest.raises(
        DeviceError, match=r"^relu_forward: argument 1 must be a contiguous float32 array, got a float64 one$"
    ):
        kernel_device.kernels.relu_forward(x, y, 4)


def test_kernels_refuse_the_other_byte_order(kernel_device):
    x = np.zeros(4, np.dtype(np.float32).newbyteorder())
    with pytest.raises(DeviceError, match=r"^relu_forward: argument 0 must be a contiguous float32 array, got a "):
        kernel_device.kernels.relu_forward(x, x, 4)


def test_what_is_no_array_of_numbers_is_a_type_error(kernel_device):
    x = kernel_device.array(np.zeros(4, np.float32))
    with pytest.raises(TypeError):
        kernel_device.kernels.relu_forward(x, x, "four")


# Scratch.


@pytest.fixture
def native():
    if backend.native_module() is None:
        pytest.skip("device cpu has no compiled kernels here")
    return backend.NativeDevice(backend.native_module())


def test_kernels_share_the_largest_scratch(native):
    first = native.scratch(4096)
    assert native.scratch(100) is first
    used = native.pool.used_bytes
    del first
    assert native.scratch(8192).size == 8192
    assert native.pool.used_bytes == 2 * used


def test_threads_have_scratch_of_their_own(native):
    rooms = []
    thread = threading.Thread(target=lambda: rooms.append(native.scratch(4096)))
    thread.start()
    thread.join()
    assert not np.shares_memory(native.scratch(4096), rooms[0])


def test_steps_after_the_first_take_no_fresh_memory(native, monkeypatch):
    network = models.alexnet(image_size=28, in_channels=1).to(native)
    optimizer = optim.SGD(network.parameters(), 0.01)
    x = minicnn.tensor(np.zeros((8, 28, 28, 1), np.float32), device=native)
    labels = minicnn.tensor(np.zeros(8, np.int64), device=native)
    taken, allocate = [], native.pool.allocate
    for _ in range(4):
        functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
        monkeypatch.setattr(native.pool, "allocate", lambda nbytes: taken.append(nbytes) or allocate(nbytes))
    assert taken == []


# Devices by name.


def test_devices_are_one_object_each():
    assert backend.device("numpy") is backend.device("numpy")
    assert backend.device("numpy") is not backend.device("cpu")
    assert backend.device(backend.device("cpu")) is backend.device("cpu")


def test_auto_is_a_device_that_computes():
    assert relu(minicnn.tensor([-1.0, 1.0], device="auto")).numpy().tolist() == [0, 1]


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "numpy:0"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(
        ValueError,
        match=rf"^unknown device {name!r}: choose one of 'numpy', 'cpu', 'emulated', 'cuda', 'cuda:<index>', 'auto'$",
    ):
        backend.device(name)


def test_a_device_that_is_not_there_says_why(monkeypatch):
    monkeypatch.setattr(backend, "_device", backend._device.__wrapped__)  # uncached
    monkeypatch.setattr(backend.cuda, "why_unavailable", lambda: "no NVIDIA driver")
    with pytest.raises(
        DeviceError, match=r"^device 'cuda' cannot be used: no NVIDIA driver; device='cpu' trains here$"
    ):
        backend.device("cuda")


class RecordedStream:
    """A stream that writes down what is queued on it; `current` is the one that CuPy would name."""

    log: ClassVar[list] = []
    current: ClassVar[list] = []

    def __init__(self, name="side", non_blocking=True):
        self.name = f"{name}{sum(1 for entry in self.log if entry[0] == 'made')}" if name == "side" else name
        self.log.append(("made", self.name))

    def record(self):
        return f"all of {self.name} so far"

    def wait_event(self, event):
        self.log.append((self.name, event))

    def __enter__(self):
        self.current.append(self)

    def __exit__(self, *_):
        self.current.pop()


def test_side_by_side_is_between_what_was_queued_before_and_what_follows(monkeypatch):
    """By streams that only write down: a GPU shows whether CuPy's are like them (tests/models/test_two_towers.py)."""
    monkeypatch.setattr(RecordedStream, "log", [])
    monkeypatch.setattr(RecordedStream, "current", [RecordedStream("queue")])
    cuda = types.SimpleNamespace(Stream=RecordedStream, get_current_stream=lambda: RecordedStream.current[-1])
    place = object.__new__(gpu.CudaDevice)
    place.cupy, place.side_streams = types.SimpleNamespace(cuda=cuda), []

    def work(name):
        return lambda: RecordedStream.log.append((RecordedStream.current[-1].name, name)) or name

    for _ in range(2):
        assert place.side_by_side([work("left"), work("right")]) == ["left", "right"]
    once = [
        ("side1", "all of queue so far"),
        ("side1", "left"),
        ("queue", "all of side1 so far"),
        ("side2", "all of queue so far"),
        ("side2", "right"),
        ("queue", "all of side2 so far"),
    ]
    made = [("made", "queue"), ("made", "side1"), ("made", "side2")]
    assert RecordedStream.log == made + 2 * once


class RecordedEvent(str):
    """An event by name, whose wait is written down."""

    def synchronize(self):
        RecordedStream.log.append(("host", str(self)))


def test_batches_for_a_gpu_travel_on_a_stream_of_their_own(monkeypatch):
    """By streams that only write down; that these waits suffice the emulated device shows (tests/test_feed.py)."""
    log = []
    monkeypatch.setattr(RecordedStream, "log", log)
    monkeypatch.setattr(RecordedStream, "current", [RecordedStream("queue")])
    monkeypatch.setattr(RecordedStream, "record", lambda self: RecordedEvent(f"all of {self.name} so far"))
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=np.empty))
    cuda = types.SimpleNamespace(Stream=RecordedStream, get_current_stream=lambda: RecordedStream.current[-1])

    class Memory:
        def copy_from_host_async(self, address, nbytes, stream):
            log.append((stream.name, f"copy {nbytes}"))

    place = object.__new__(gpu.CudaDevice)
    place.cupy = types.SimpleNamespace(cuda=cuda, empty=lambda *described: types.SimpleNamespace(data=Memory()))
    feed = place.new_feed()
    for _ in range(3):
        feed.push([np.zeros(3, np.float32), np.zeros((), np.int64)])
    made, copies = [("made", "queue"), ("made", "side1")], [("side1", "copy 12"), ("side1", "copy 8")]
    once = [("side1", "all of queue so far"), *copies, ("queue", "all of side1 so far")]
    assert log == [*made, *once, *once, ("host", "all of side1 so far"), *once]
