"""Training images that stay on the device: the bytes of a run whose batches are copied there, and who may stay."""

import numpy as np
import pytest

import minicnn
from minicnn import backend, compare_runs, nn
from minicnn.data import ArrayDataset, Augment, Loader, PackedImages, Prepare, Splits, Subset, split
from minicnn.data.transforms import ChannelStatistics
from minicnn.memory_plan import memory_plan
from minicnn.resident import PrepareResident, ResidentImages, stay

AUGMENT = {"mirror": True, "crop": 8, "padding": 1, "colour": 0.1}


@pytest.fixture
def splits(rng):
    """Light and dark noise, of which 96 images to train on, in an order of their own."""
    labels = np.arange(128) % 2
    images = (rng.integers(0, 100, (128, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return Splits("light and dark", *split(ArrayDataset(images, labels), 0.25))


def small(num_classes, image_size, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, num_classes)
    )


RUNS = [
    ("numpy", {}),
    ("cpu", {}),
    ("cpu", {"micro_batch": 5, "augment": AUGMENT}),
    ("emulated", {"augment": AUGMENT}),
    ("emulated", {"graph": True, "augment": AUGMENT}),
    ("emulated", {"graph": True, "micro_batch": 5}),
    pytest.param("cuda", {"augment": AUGMENT}, marks=pytest.mark.cuda),
    pytest.param("cuda", {"graph": True, "augment": AUGMENT}, marks=pytest.mark.cuda),
]


@pytest.mark.parametrize(("device", "options"), RUNS, ids=lambda value: "-".join(value) or "plain" if value else "")
def test_a_run_has_the_same_bytes(device, options, splits, tmp_path):
    if backend.available()[device]:
        pytest.skip(f"{device}: {backend.available()[device]}")
    settings = {
        "epochs": 2,
        "batch_size": 12,
        "digest_every": 1,
        "quiet": True,
        "warmup_steps": 5,
        "lr": 0.05,
    } | options
    for name, resident in (("resident", True), ("copied", False)):
        minicnn.train(small, splits, device=device, out=tmp_path / name, resident=resident, **settings)
    comparison = compare_runs.compare(tmp_path / "resident", tmp_path / "copied")
    assert comparison.equal, str(comparison)
    assert len((tmp_path / "resident" / "steps.jsonl").read_text().splitlines()) == 16


def test_only_windows_and_colours_are_copied(ladder_device, splits, tmp_path, monkeypatch):
    copied = []
    for name, place in (("array", 0), ("write", 1), ("copy_from_host", 0)):
        original = getattr(ladder_device, name)

        def counted(*arguments, original=original, place=place):
            copied.append(np.asarray(arguments[place]))
            return original(*arguments)

        monkeypatch.setattr(ladder_device, name, counted)
    network, statistics = small(2, 8, 3).to(ladder_device), ChannelStatistics.of(splits.train)
    images = ResidentImages(splits.train, ladder_device)
    assert sum(array.nbytes for array in copied if array.dtype == np.uint8) == splits.train.images.nbytes
    step = minicnn.step.Step(network, minicnn.optim.SGD(network.parameters(), lr=0.1))
    step.prepare = images.prepare
    transform = PrepareResident(statistics, Augment(**AUGMENT), splits.image_shape)
    copied.clear()
    for batch, labels in Loader(splits.train, 12, transform, shuffle=True, worker_type="thread").iterate():
        step(batch, labels)
    assert copied and not any(array.dtype == np.uint8 for array in copied)


def test_images_are_uploaded_piece_by_piece(device, splits, monkeypatch):
    monkeypatch.setattr(minicnn.resident, "CHUNK", 7 * 8 * 8 * 3)
    there = ResidentImages(splits.train, device).images
    np.testing.assert_array_equal(there.numpy(), splits.train.images)


def test_the_windows_are_those_of_batches_that_are_copied(splits):
    statistics, augment = ChannelStatistics.of(splits.train), Augment(**AUGMENT)
    indices = np.array([5, 90, 17])
    copied = Prepare(statistics, augment)(splits.train.read(indices), indices, epoch=3, seed=1)
    resident = PrepareResident(statistics, augment, splits.image_shape)(None, indices, epoch=3, seed=1)
    np.testing.assert_array_equal(resident.windows, np.column_stack([indices, copied.windows[:, 1:]]))
    for field in ("scale", "offset", "size"):
        np.testing.assert_array_equal(getattr(resident, field), getattr(copied, field))


@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("name", ["cpu", "emulated"])
def test_the_plan_counts_them_to_the_byte(name, micro_batch, splits, monkeypatch):
    monkeypatch.setenv("MINICNN_THREADS", "1")
    if backend.available()[name]:
        pytest.skip(f"{name}: {backend.available()[name]}")
    place, network, shape = backend.device(name), small(2, 8, 3), splits.train.images.shape
    plan = memory_plan(network, (8, 8, 8, 3), device=place, micro_batch=micro_batch, images=shape)
    rows = {row.path: row.at_peak_bytes for row in plan.rows}
    assert rows["images that stay"] == place.block_size(splits.train.images.nbytes)
    before = place.start_watch()
    network.to(place)
    step = minicnn.step.Step(
        network,
        minicnn.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        clip_norm=1.0,
        micro_batch=micro_batch,
    )
    images = ResidentImages(splits.train, place)
    step.prepare = images.prepare
    transform = PrepareResident(ChannelStatistics.of(splits.train), Augment(), splits.image_shape)
    for epoch in range(2):
        indices = np.arange(8)
        step(transform(None, indices, epoch, seed=0), splits.train.labels[indices])
    assert place.most_memory()[0] - before == plan.peak_bytes


def test_a_run_foresees_them_and_says_so(splits, tmp_path, capsys):
    for name, resident in (("resident", True), ("copied", False)):
        minicnn.train(small, splits, device="cpu", out=tmp_path / name, resident=resident, epochs=1, batch_size=12)
    said, _, other = capsys.readouterr().out.partition("on cpu\n")[2].partition("on cpu\n")
    assert "the training images stay on cpu: 18.0 KiB" in said and "images stay" not in other


class Emulated:
    """What `stay` asks of a device."""

    name, computes_on_host = "emulated", False


class Host(Emulated):
    computes_on_host = True


NBYTES = 96 * 8 * 8 * 3


@pytest.mark.parametrize(
    ("wanted", "device", "augment", "free", "expected"),
    [
        (None, Emulated, Augment(), 2 * NBYTES, True),
        (None, Emulated, Augment(), 2 * NBYTES - 1, False),
        (None, Emulated, Augment(), None, False),
        (None, Emulated, Augment(rotation=5), 10**9, False),
        (None, Host, Augment(), 10**9, False),
        (True, Host, Augment(), NBYTES, True),
        (True, Emulated, Augment(), None, True),
        (False, Emulated, Augment(), 10**9, False),
        (False, Emulated, Augment(rotation=5), 10**9, False),
    ],
)
def test_who_stays(wanted, device, augment, free, expected, splits):
    assert stay(wanted, splits.train, augment, device, free) is expected


def test_what_lies_in_memory_stays_unasked(splits, tmp_path):
    assert splits.train.in_memory and isinstance(splits.train, Subset)
    minicnn.data.pack(_folder(tmp_path, splits), tmp_path / "packed", image_size=8)
    packed = PackedImages(tmp_path / "packed")
    assert not packed.in_memory
    assert not stay(None, packed, Augment(), Emulated, 10**9) and stay(True, packed, Augment(), Emulated, 10**9)


def _folder(path, splits):
    from PIL import Image

    for label, image in zip(splits.train.labels[:16], splits.train.images[:16], strict=True):
        where = path / "images" / str(label)
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(where / f"{len(list(where.iterdir()))}.png")
    return path / "images"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"memory_limit": 430_000},
            r"^resident: 96 training images of 8x8x3 take 18\.0 KiB, this run leaves \d\.\d KiB of the memory of cpu: leave "
            r"resident out, and each batch is copied there in its turn$",
        ),
        ({"augment": {"rotation": 5}}, r"^resident: these images cannot stay on the device, augment makes others "),
        ({"cache_features": True}, r"^resident and cache_features exclude each other"),
    ],
    ids=["too_many", "augmented_as_pictures", "features"],
)
def test_who_cannot_stay_is_told_why(options, message, splits, tmp_path):
    with pytest.raises(ValueError, match=message):
        minicnn.train(small, splits, device="cpu", out=tmp_path / "run", resident=True, batch_size=12, **options)
    assert not (tmp_path / "run").exists()
