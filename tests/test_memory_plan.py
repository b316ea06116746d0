"""The memory plan: what training takes of a device's memory, known before it does."""

import gc
import json

import numpy as np
import pytest

import minicnn
from minicnn import backend, models, nn
from minicnn.data import ImageBatch
from minicnn.memory_plan import memory_plan
from minicnn.optim import SGD
from minicnn.step import Step


def alexnet_like():
    """All that AlexNet has, for the emulated device."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(7 * 7 * 8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)),
    )


def resnet_like():
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BasicBlock(4, 4), nn.BasicBlock(4, 8, stride=2)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def vgg_like():
    convolutions = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, 10))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Of NumPy: several need not be at their most at the same time, as the plan has them."""
    monkeypatch.setenv("MINICNN_THREADS", "1")


def small(name):
    return lambda: models.find(name)(10, 28, 3)


CASES = [("alexnet", small("alexnet"), 28, 8), ("vgg11", small("vgg11"), 28, 8), ("resnet18", small("resnet18"), 28, 4)]
RUNS = [(device, *case) for device in ("numpy", "cpu") for case in CASES]
RUNS += [("emulated", f.__name__, f, 16, 4) for f in (alexnet_like, vgg_like, resnet_like)]


def zeros(shape):
    n, h, w, c = shape
    windows, colours = np.arange(n)[:, None] * [1, 0, 0, 0], (np.ones(c, np.float32), np.zeros((n, c), np.float32))
    return ImageBatch(np.zeros(shape, np.uint8), windows, *colours, (h, w)), np.zeros(n, np.int64)


def grown(network, place, shape, micro_batch=None, precision="float32"):
    """(in use, held) at most while two steps ran, and how much that was more than before."""
    gc.collect()
    before = place.start_watch()
    network.to(place)
    step = Step(
        network,
        SGD(network.parameters(), 0.01, momentum=0.9),
        clip_norm=5.0,
        micro_batch=micro_batch,
        numbers=precision,
    )
    for _ in range(2):
        step(*zeros(shape))
    return tuple(most - before for most in place.most_memory())


@pytest.mark.parametrize(
    ("device", "name", "make", "size", "batch"),
    RUNS,
    ids=lambda value: str(value) if isinstance(value, (str, int)) else "",
)
def test_what_is_foreseen_is_what_is_used(device, name, make, size, batch):
    why = backend.available()[device]
    if why:
        pytest.skip(f"{device}: {why}")
    network, shape, place = make(), (batch, size, size, 3), backend.device(device)
    plan = memory_plan(network, shape, device=place)
    in_use, held = grown(network, place, shape)
    assert plan.peak_bytes == pytest.approx(in_use, rel=0.1)
    if place.kernels is not None:  # whose workspaces are known to the byte
        assert (plan.peak_bytes, plan.held_bytes) == (in_use, pytest.approx(held, rel=0.1))


@pytest.mark.parametrize("make", (alexnet_like, vgg_like))
@pytest.mark.parametrize("precision", ("tf32", "bfloat16", "float16"))
@pytest.mark.parametrize("device", ("numpy", "cpu", "emulated"))
def test_the_copies_of_reduced_precision_are_foreseen(device, precision, make, monkeypatch):
    monkeypatch.setenv("MINICNN_THREADS", "1")  # or NumPy's scratch depends on whether two threads have it at once
    why = backend.available()[device]
    if why:
        pytest.skip(f"{device}: {why}")
    network, shape, place = make(), (4, 16, 16, 3), backend.device(device)
    plan = memory_plan(network, shape, device=place, precision=precision)
    in_use, _ = grown(network, place, shape, precision=precision)
    assert plan.peak_bytes == pytest.approx(in_use, rel=0.1)
    if device == "emulated":  # where nothing is NumPy's
        assert plan.peak_bytes == in_use


@pytest.mark.parametrize("precision", ("bfloat16", "float16"))
def test_in_16_bits_a_layer_keeps_its_result_alone(precision):
    """Of VGG-16 as published; conv1_1, before another convolution."""
    if why := backend.available()["emulated"]:
        pytest.skip(f"emulated: {why}")
    shape, network = (64, 224, 224, 3), models.vgg_d(initialize=None)
    plan, wide = (memory_plan(network, shape, device="emulated", precision=p) for p in (precision, "float32"))
    kept, kept_wide = ({row.path: row.at_peak_bytes for row in each.rows} for each in (plan, wide))
    assert plan.peak == ("features.2", "backward")  # where the gradient of its sums comes into being, before pooling
    assert kept["features.0"] == 2 * 64 * 224 * 224 * 64
    assert kept_wide["input"] - kept["input"] == 2 * 64 * 224 * 224 * 3  # beside bytes: 4 and 2 an element
    elements = sum(-(-p.size // 64) * 64 for p in network.parameters())
    assert (plan.arena_bytes, wide.arena_bytes) == pytest.approx((14 * elements, 12 * elements), abs=3 * 4096)


def test_slices_take_less(rng):
    shape, place = (16, 28, 28, 3), backend.device("cpu")
    whole, sliced = (memory_plan(small("alexnet")(), shape, device=place, micro_batch=size) for size in (None, 4))
    assert sliced.peak_bytes < 0.8 * whole.peak_bytes and sliced.arena_bytes == whole.arena_bytes
    assert (sliced.batch_size, sliced.micro_batch) == (16, 4) and sliced.place.endswith(", batch 16 in slices of 4")
    in_use, _ = grown(small("alexnet")(), place, shape, micro_batch=4)
    assert sliced.peak_bytes == pytest.approx(in_use, rel=0.1)


def test_the_rows_say_whose_the_peak_is():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(16 * 16 * 8, 10))
    plan = memory_plan(network, (64, 16, 16, 3), device="numpy")
    assert [row.path for row in plan.rows] == ["input", "0", "1", "3", "optimizer"]  # a view takes nothing
    rows = {row.path: row for row in plan.rows}
    maps = 64 * 16 * 16 * 8 * 4
    assert maps <= rows["1"].at_peak_bytes <= 2 * maps + 4096  # its y, and where it is the peak's, its gradient
    assert sum(row.at_peak_bytes for row in plan.rows) + plan.arena_bytes == plan.peak_bytes
    assert max(max(row.forward_bytes, row.backward_bytes) for row in plan.rows) == plan.peak_bytes
    elements = sum(-(-p.size // 64) * 64 for p in network.parameters())
    assert plan.arena_bytes == pytest.approx(3 * 4 * elements, abs=3 * 4096)
    assert plan.peak.direction == "backward" and f"backward through {plan.peak.path}, batch 64" in str(plan)


def test_it_takes_no_memory_and_no_time_of_the_size_it_speaks_of():
    plan = memory_plan(models.vgg_e(initialize=None), (100_000, 224, 224, 3), device="cpu")
    assert plan.held_bytes > 10**12


def test_the_model_and_the_random_streams_are_left_as_they_were(device):
    minicnn.manual_seed(5)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 2)).eval()
    before, placed = network.state_dict(), [p.device for p in network.parameters()]
    memory_plan(network, (4, 4, 4, 3), device=device)
    for name, values in network.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert [p.device for p in network.parameters()] == placed
    assert not network.training and "forward" not in vars(network[0])
    assert minicnn.random.next_stream() == 1


def test_functional_dropout_numbers_its_masks_as_without_a_plan():
    class Functional(nn.Linear):
        def forward(self, x):
            return super().forward(minicnn.functional.dropout(x.reshape(x.shape[0], -1), 0.5))

    minicnn.manual_seed(5)
    memory_plan(Functional(48, 2), (4, 4, 4, 3), device="numpy")
    assert minicnn.random.next_stream() == 0


def test_what_does_not_fit_together_is_refused_as_in_training():
    with pytest.raises(minicnn.OpError, match=r"^1 linear: weight expects 5 features but x has 48"):
        memory_plan(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), (4, 4, 4, 3), device="numpy")


def test_values_cannot_be_written_in_a_rehearsal():
    class Writing(nn.Linear):
        def forward(self, x):
            x.data[...] = 1
            return super().forward(x.reshape(x.shape[0], -1))

    with pytest.raises(ValueError, match="read-only"):
        memory_plan(Writing(3072, 2), (4, 32, 32, 3), device="numpy")


def test_everything_goes_into_json():
    plan = memory_plan(small("lenet")(), (8, 28, 28, 3), device="numpy")
    read = json.loads(json.dumps(plan.as_dict()))
    assert read["peak_bytes"] == plan.peak_bytes and read["rows"][0]["path"] == "input"
    assert read["peak"] == {"path": plan.peak.path, "direction": plan.peak.direction}
