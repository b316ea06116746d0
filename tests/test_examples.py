"""The examples run, in small."""

import functools
import importlib.util
from pathlib import Path

import pytest

from minicnn import models, nn, plots


@pytest.fixture
def two_classes(monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    path = Path(__file__).parents[1] / "examples" / "two_classes.py"
    spec = importlib.util.spec_from_file_location("two_classes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tutorial_s_network_has_its_slip_and_its_head(two_classes):
    """Fact V10: 64 * 128 * 3 parameters fewer than VGG-16 has."""
    network = two_classes.tutorial_network()
    convs = network.layers(nn.Conv2d)
    assert [conv.kernel_size for conv in convs] == [(3, 3)] * 2 + [(3, 2)] + [(3, 3)] * 10
    assert network.output_layers()[0].weight.shape[0] == 1000
    published = sum(p.size for p in models.vgg_d(initialize=None).parameters())
    assert published - 64 * 128 * 3 == 138_332_968
    right = models.vgg_d(2, initialize=None)
    assert sum(p.size for p in right.parameters()) == 134_268_738


def test_it_fails_and_says_so(two_classes, tmp_path):
    two = two_classes.splits_of(two_classes.PAIR, 8)
    said = two_classes.fail(two, tmp_path / "failed", epochs=1, device="cpu")
    assert said.startswith("loss 6.") and "(ln 1000 = 6.91)" in said
    assert "is no better than always naming one class (0.5000): the network has learned nothing" in said


def test_fine_tuning_mends_it(two_classes, tmp_path, monkeypatch):
    """With LeNet in the place of VGG."""
    monkeypatch.setattr(two_classes.models, "vgg_d", models.lenet)
    monkeypatch.setattr(two_classes.minicnn, "train", functools.partial(two_classes.minicnn.train, lr=0.1))
    two = two_classes.splits_of(two_classes.PAIR, 60)
    others = two_classes.splits_of([0, 1, 2, 4, 7, 8], 60)
    history = two_classes.mend(two, others, tmp_path, epochs=20, few_epochs=5, device="cpu")
    assert history.test.top1 > 0.65 and history.test.count == 120
