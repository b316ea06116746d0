"""What a network sees: maps are the layers' own, occlusion and saliency find the pixels that decide, pictures are drawn."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import minicnn
from minicnn import cli, data, explain, models, nn, plots, saving
from minicnn.commands import options

NAMES = ("left", "right", "neither")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint of a narrow network of three classes, for images of 28 grey pixels a side."""
    minicnn.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "network.safetensors"
    network = models.lenet(3, 28, 1)
    saving.save(network, path, statistics=data.ChannelStatistics((0.5,), ((0.04,),)), class_names=NAMES)
    return path


@pytest.fixture
def image(tmp_path, rng):
    path = tmp_path / "image.png"
    Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(path)
    return path


class OnlyLooks(nn.Module):
    """Three logits: the mean over a square of 4x4 pixels on the left, one on the right, and 0."""

    squares = (slice(10, 14), slice(2, 6)), (slice(10, 14), slice(20, 24))

    def forward(self, x):
        n, h, w, c = x.shape
        weight = np.zeros((3, h, w, c), np.float32)
        for row, square in zip(weight, self.squares, strict=False):
            row[square] = 1
        return minicnn.functional.linear(x.reshape(n, -1), minicnn.tensor(weight.reshape(3, -1)))


@pytest.fixture
def looking(run, monkeypatch):
    """Loading the run gives a network that looks at two squares only."""
    saved = saving.load_run(run, "cpu")
    watched = dataclasses.replace(saved, network=OnlyLooks())
    monkeypatch.setattr(saving, "load_run", lambda *_: watched)


@pytest.mark.parametrize("name", ["left", "right"])
def test_the_pixels_that_decide_are_found(name, looking, run, tmp_path):
    Image.fromarray(np.full((28, 28), 140, np.uint8)).save(tmp_path / "bright.png")
    found = explain.explain(run, tmp_path / "bright.png", name, window=4, device="cpu")
    inside = np.zeros((28, 28), bool)
    inside[OnlyLooks.squares[NAMES.index(name)]] = True
    np.testing.assert_array_equal(found.saliency > 0, inside)
    assert inside[np.unravel_index(found.occlusion.argmax(), (28, 28))]
    far = np.ones((28, 28), bool)
    for rows, columns in OnlyLooks.squares:
        far[rows.start - 3 : rows.stop + 3, max(columns.start - 3, 0) : columns.stop + 3] = False
    np.testing.assert_array_equal(found.occlusion[far], 0)
    other = OnlyLooks.squares[1 - NAMES.index(name)]
    assert found.occlusion[other].max() < 0 < found.occlusion[inside].min()


def test_occlusion_is_the_mean_loss_of_the_windows_over_a_pixel(run, image):
    """By hand, at one pixel."""
    saved = saving.load_run(run, "cpu")
    found = explain.explain(run, image, window=8, device="cpu")
    x = explain._input(saved, explain.read_image(saved, image)).numpy()
    chosen = NAMES.index(found.class_name)
    lost = []
    for top in range(0, 21, 2):
        for left in range(0, 21, 2):
            if top <= 5 < top + 8 and left <= 21 < left + 8:
                hidden = x.copy()
                hidden[0, top : top + 8, left : left + 8] = 0
                lost.append(found.probability - explain._chances(saved, hidden)[0, chosen])
    assert len(lost) == 12 and found.occlusion[5, 21] == pytest.approx(np.mean(lost), rel=1e-5)


def test_saliency_is_a_slope_of_the_logit(run, image):
    saved = saving.load_run(run, "cpu")
    found = explain.explain(run, image, "right", device="cpu")
    x = explain._input(saved, found.image).numpy().astype(np.float64)
    place, step = np.unravel_index(found.saliency.argmax(), (28, 28)), 1e-2
    with minicnn.no_grad():
        logits = [
            saved.network(minicnn.tensor(moved.astype(np.float32))).numpy()[0, 1]
            for moved in (x + step * (np.indices(x.shape[1:3]) == np.reshape(place, (2, 1, 1))).all(0)[..., None], x)
        ]
    assert abs(logits[0] - logits[1]) / step == pytest.approx(found.saliency[place], rel=0.05)


def test_the_ranking_is_that_of_predict(run, image):
    found = explain.explain(run, image, device="cpu")
    (expected,) = minicnn.predict(run, [image], device="cpu")
    assert [name for name, _ in found.ranking] == [name for name, _ in expected]
    assert found.ranking[0] == (found.class_name, pytest.approx(expected[0][1], rel=1e-6))
    assert found.probability == found.ranking[0][1]


def test_maps_are_what_the_layers_make(run, image):
    saved = saving.load_run(run, "cpu")
    seen = explain.features(run, image, device="cpu")
    kinds = dict(saved.network.named_modules())
    assert 0 < len(seen.maps) <= explain.LAYERS_SHOWN
    assert {type(kinds[name]) for name in seen.maps} <= {nn.Tanh, nn.ReLU}
    first = next(path for path, module in saved.network.named_modules() if isinstance(module, nn.Conv2d))
    (maps,) = explain.features(run, image, [first], device="cpu").maps.values()
    with minicnn.no_grad():
        expected = kinds[first](explain._input(saved, seen.image)).numpy()[0]
    np.testing.assert_array_equal(maps, expected)


def test_filters_are_the_first_convolutions(run):
    path, weight = explain.filters(run, device="cpu")
    network = saving.load_run(run, "cpu").network
    np.testing.assert_array_equal(weight, dict(network.named_parameters())[f"{path}.weight"].numpy())


def test_a_partial_convolution_has_filters_too(tmp_path):
    saving.save(
        models.lenet5(10, 32, 1),
        tmp_path / "lenet5.safetensors",
        statistics=data.ChannelStatistics((0.5,), ((0.04,),)),
        class_names=list("0123456789"),
    )
    assert explain.filters(tmp_path / "lenet5.safetensors", device="cpu")[1].shape == (6, 5, 5, 1)


def test_a_number_is_one_of_the_runs_own_test_images(run, monkeypatch):
    saved = saving.load_run(run, "cpu")
    own = dataclasses.replace(saved, data="fashion-mnist-12k")
    test = data.open("fashion-mnist-12k").test
    np.testing.assert_array_equal(explain.read_image(own, "17"), test[np.array([17])][0][0])
    with pytest.raises(
        data.DataError, match=r"^fashion-mnist-12k has 2,000 images to show, from 0 on: there is no 2000$"
    ):
        explain.read_image(own, "2000")


def test_pictures_are_drawn(run, image, tmp_path, capsys):
    if not plots.available():
        pytest.skip("matplotlib is not installed")
    out = str(tmp_path / "picture.png")
    commands = (
        ["filters", str(run), "--out", out],
        ["features", str(image), "--run", str(run), "--out", out],
        ["explain", str(image), "--run", str(run), "--class", "neither", "--out", out],
    )
    for command in commands:
        assert cli.main(command) == options.DONE
        with Image.open(out) as picture:
            assert min(picture.size) > 100 and len(np.unique(np.asarray(picture.convert("L")))) > 20
        (tmp_path / "picture.png").unlink()
    assert capsys.readouterr().out.splitlines()[:2] == [out, out]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["features", "IMAGE", "--run", "RUN", "--layers", "conv9"], "no layer 'conv9' makes maps; those that do are "),
        (
            ["explain", "IMAGE", "--run", "RUN", "--class", "cat"],
            "knows no class 'cat': choose one of left, right, neither",
        ),
        (["explain", "IMAGE", "--run", "RUN", "--window", "29"], "window must be from 1 to 28 pixels, got 29"),
        (["explain", "missing.png", "--run", "RUN"], "cannot read image missing.png"),
    ],
)
def test_mistakes_are_named(command, message, run, image, capsys):
    named = {"IMAGE": str(image), "RUN": str(run)}
    assert cli.main([named.get(word, word) for word in command]) == options.USAGE
    assert message in capsys.readouterr().err


def test_without_matplotlib_it_says_so(run, monkeypatch, capsys):
    monkeypatch.setattr(plots, "available", lambda: False)
    assert cli.main(["filters", str(run)]) == options.USAGE
    assert "pictures need matplotlib" in capsys.readouterr().err
