"""New heads, frozen layers and kept features (fact T1): what may move does as ever, what may not stays to the byte."""

import json

import numpy as np
import pytest

import minicnn
from minicnn import backend, data, evaluation, features, functional, models, nn, optim, plots, saving, transfer
from minicnn.autograd import ops_behind
from minicnn.trainer import Trainer


@pytest.fixture(autouse=True, scope="module")
def _no_pictures():
    """Runs draw nothing: that would take longer than all else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "available", lambda: False)
        yield


def few(classes=3, count=12, size=28, seed=0):
    """Images in memory whose classes differ in brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 60, (count, size, size, 1)) + 60 * labels[:, None, None, None]
    return data.ArrayDataset(images.astype(np.uint8), labels, [f"class {i}" for i in range(classes)])


def splits(**options):
    return data.Splits("few", few(**options), few(**options, seed=1), few(**options, seed=2))


def of_head(network):
    """Names of the parameters of the layers that compute logits."""
    own = {id(p) for layer in network.output_layers() for p in layer.parameters()}
    return {name for name, p in network.named_parameters() if id(p) in own}


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "lenet", "nin", "googlenet", "resnet18"])
@pytest.mark.parametrize("classes", [4, 7])
def test_a_new_head_starts_anew_and_the_rest_is_a_copy(name, classes):
    network = models.find(name)(7, 28, 1)
    before = network.state_dict()
    other = transfer.new_head(network, classes)
    assert other.options == network.options | {"num_classes": classes}
    head = of_head(other)
    assert len(head) == (6 if name == "googlenet" else 2)
    for tensor, array in other.state_dict().items():
        if tensor not in head:
            np.testing.assert_array_equal(array, before[tensor], err_msg=tensor)
        elif tensor.endswith("weight"):
            assert array.std() > 0 and (
                array.shape != before[tensor].shape or not np.array_equal(array, before[tensor])
            )
    for tensor, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[tensor], err_msg=tensor)


def test_weights_from_elsewhere_get_a_head_by_he_s_rule():
    other = transfer.new_head(models.lenet(7, 28, 1, initialize=None), 2)
    assert other.output_layers()[0].weight.numpy().std() > 0 and other.options["initialize"] == "he"


def test_a_module_of_ones_own_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^new_head is for networks of minicnn\.models, got a Sequential: replace its last layer yourself$",
    ):
        transfer.new_head(nn.Sequential(nn.Linear(2, 3)), 2)


def step_once(network):
    """A step of SGD on a batch of noise; the ops behind its loss, the last first."""
    x = minicnn.tensor(np.random.default_rng(3).standard_normal((4, 28, 28, 1)).astype(np.float32))
    optimizer = optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    loss = functional.cross_entropy(network(x), minicnn.tensor([0, 1, 2, 0]))
    ops = [op.name for op in ops_behind(loss.op)]
    loss.backward()
    optimizer.step()
    return ops


def test_frozen_parameters_stay_to_the_byte_and_get_no_gradient(device):
    network = models.lenet(3, 28, 1).to("cpu")
    names = transfer.freeze(network, "features.*", "*.bias")
    assert names == [n for n, _ in network.named_parameters() if n.startswith("features.") or n.endswith(".bias")]
    before = network.state_dict()
    step_once(network)
    for name, parameter in network.named_parameters():
        same = np.array_equal(parameter.numpy(), before[name])
        assert same == (name in names), name
        assert (parameter.grad is None) == (name in names), name


def test_no_gradient_is_computed_before_the_first_layer_that_learns():
    network = models.lenet(3, 28, 1)
    assert step_once(network).count("conv2d") == 2
    transfer.freeze(network, "features.*")
    assert step_once(network) == ["cross_entropy", "linear", "tanh", "linear", "tanh", "linear"]


def test_frozen_batch_normalisation_stays_as_in_evaluation():
    network = models.vgg11_bn(3, 28, 1).train()
    transfer.freeze(network, "features.0.*", "features.1.*")
    frozen, other = network.features[1], network.layers(nn.BatchNorm2d)[1]
    before = [frozen.running_mean.numpy(), other.running_mean.numpy()]
    for mode in (True, False, True):
        assert network.train(mode).training is mode and not frozen.training and other.training is mode
    step_once(network)
    np.testing.assert_array_equal(frozen.running_mean.numpy(), before[0])
    assert not np.array_equal(other.running_mean.numpy(), before[1])


def test_a_pattern_that_matches_nothing_is_refused():
    network = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(
        ValueError, match=r"^freeze: no parameter is called 'features\.\*'; there are 0\.weight, 0\.bias$"
    ):
        transfer.freeze(network, "0.bias", "features.*")
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "patterns", "last", "first"),
    [
        ("alexnet", ["features.*"], nn.Flatten, nn.Linear),
        ("alexnet", ["features.0.*", "features.4.*"], nn.MaxPool2d, nn.Conv2d),
        ("alexnet", ["features.*", "classifier.0.*"], nn.ReLU, nn.Dropout),
        ("alexnet_owt", ["features.*"], nn.Flatten, nn.Dropout),
        ("resnet18", ["conv1.*", "bn1.*", "layer1.*", "layer2.*"], nn.Sequential, nn.Sequential),
        ("lenet", ["features.0.weight", "features.0.bias"], nn.AvgPool2d, nn.Conv2d),
    ],
)
def test_what_is_frozen_and_not_random_is_split_off(name, patterns, last, first, rng):
    network = models.find(name)(3, 28, 1).eval()
    transfer.freeze(network, *patterns)
    prefix, rest = features.split_frozen(network)
    assert (type(prefix[len(prefix) - 1]), type(rest[0])) == (last, first)
    x = minicnn.tensor(rng.standard_normal((2, 28, 28, 1)).astype(np.float32))
    np.testing.assert_allclose(rest(prefix(x)).numpy(), network(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "patterns", "message"),
    [
        (
            "lenet",
            ["classifier.*"],
            "there are no features to keep: the first layers of lenet are not frozen; freeze them, as with 'features.*'",
        ),
        ("lenet", ["*"], "every parameter of lenet is frozen: nothing is left to train"),
        ("googlenet", ["conv1.*"], "googlenet is no chain of layers: it branches"),
    ],
)
def test_what_cannot_be_split_is_refused(name, patterns, message):
    network = models.find(name)(3, 28, 1)
    transfer.freeze(network, *patterns)
    with pytest.raises(ValueError, match=f"^{message}$".replace("*", r"\*")):
        features.split_frozen(network)


def test_gradients_with_kept_features_are_those_without(device, rng):
    """The same kernels on the same batch: to the byte."""
    network = models.lenet(3, 28, 1).to(device)
    transfer.freeze(network, "features.*")
    x, target = rng.standard_normal((4, 28, 28, 1)).astype(np.float32), minicnn.tensor([0, 1, 2, 0], device=device)
    functional.cross_entropy(network(minicnn.tensor(x, device=device)), target).backward()
    expected = {name: p.grad.numpy() for name, p in network.named_parameters() if p.requires_grad}
    network.zero_grad()
    prefix, rest = features.split_frozen(network)
    kept = minicnn.tensor(prefix(minicnn.tensor(x, device=device)).numpy(), device=device)
    functional.cross_entropy(rest(kept), target).backward()
    assert len(expected) == 6
    for name, gradient in expected.items():
        assert np.abs(gradient).max() > 0
        np.testing.assert_array_equal(dict(network.named_parameters())[name].grad.numpy(), gradient, err_msg=name)


SMALL = {"epochs": 2, "batch_size": 4, "augment": "none", "warmup_steps": 0, "device": "numpy", "quiet": True}


def trained(folder, name="alexnet", patterns=("features.*",), **options):
    """A run on few images of a network whose first layers are frozen, which learns enough to be no error."""
    minicnn.manual_seed(0)
    network = models.find(name)(3, 28, 1)
    transfer.freeze(network, *patterns)
    return minicnn.train(network, splits(), out=folder, **SMALL | options)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_run_on_kept_features_is_the_run_on_the_images(tmp_path, micro_batch):
    runs = [trained(tmp_path / str(cached), cache_features=cached, micro_batch=micro_batch) for cached in (False, True)]
    plain, kept = (losses(tmp_path / str(cached)) for cached in (False, True))
    np.testing.assert_allclose(kept, plain, rtol=1e-5)
    weights = [minicnn.load(tmp_path / str(cached), "cpu").state_dict() for cached in (False, True)]
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, rtol=1e-3, atol=1e-6, err_msg=name)
        if name.startswith("features."):
            np.testing.assert_array_equal(weights[1][name], array)
    assert runs[1].test.correct == runs[0].test.correct
    assert runs[1].epochs[-1]["val_loss"] == pytest.approx(runs[0].epochs[-1]["val_loss"], rel=1e-4)


def test_the_frozen_layers_compute_once_an_image(tmp_path, monkeypatch):
    seen, compute, place = [], nn.Conv2d.forward, backend.device("numpy")  # the memory plan's rehearsal is elsewhere

    def counted(self, x, *rest):
        seen.extend([len(x)] * (x.device is place))
        return compute(self, x, *rest)

    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    trained(tmp_path / "x", "lenet", cache_features=True, epochs=4, lr=0.1)
    assert sum(seen) == 2 * 3 * 12  # two convolutions, three parts of twelve images


def test_a_run_on_kept_features_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    trained(tmp_path / "straight", cache_features=True)
    end_epoch = Trainer.end_epoch

    def stop_after_one(self, *arguments):
        end_epoch(self, *arguments)
        if self.epoch == 1:
            raise RuntimeError("killed")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(Trainer, "end_epoch", stop_after_one)
        trained(tmp_path / "broken", cache_features=True)
    trained(tmp_path / "broken", cache_features=True, resume=True)
    for file in ("last.safetensors", "steps.jsonl"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes(), file


def test_kept_features_are_those_of_images_as_they_are(tmp_path):
    with pytest.raises(
        ValueError, match=r"^features are kept of images as they are: with cache_features, augment must be 'none'$"
    ):
        trained(tmp_path / "x", cache_features=True, augment="mirror")
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def garments(tmp_path_factory):
    """A short run on all ten bundled classes, and images of two of them."""
    folder = tmp_path_factory.mktemp("garments") / "run"
    whole = data.open("fashion-mnist-12k")
    some = data.Splits(
        "some", data.Subset(whole.train, np.arange(0, 9000, 12)), None, data.Subset(whole.test, range(200))
    )
    minicnn.train(
        models.lenet, some, out=folder, epochs=4, lr=0.1, warmup_steps=5, batch_size=25, quiet=True, device="cpu"
    )
    pair = []
    for part, count in ((whole.train, 20), (whole.test, 40)):
        chosen = np.concatenate([np.flatnonzero(part.labels == label)[:count] for label in (0, 1)])
        pair.append(data.ArrayDataset(part.read(chosen), part.labels[chosen], ("top", "trouser")))
    return folder, data.Splits("two", pair[0], None, pair[1])


@pytest.mark.parametrize("cache_features", [False, True])
def test_finetuning_learns_other_classes_from_few_images(garments, tmp_path, cache_features):
    run, two = garments
    history = minicnn.finetune(
        run,
        two,
        frozen=["features.*"],
        cache_features=cache_features,
        out=tmp_path / "two",
        epochs=10,
        batch_size=10,
        lr=0.05,
        device="cpu",
        quiet=True,
    )
    assert history.test.top1 > 0.85
    saved = saving.load_run(tmp_path / "two", "cpu")
    assert saved.class_names == ("top", "trouser") and saved.network.options["num_classes"] == 2
    assert saved.statistics == saving.load_run(run, "cpu").statistics  # not those of the new images
    before = minicnn.load(run, "cpu").state_dict()
    for name, array in saved.network.state_dict().items():
        if name.startswith("features."):
            np.testing.assert_array_equal(array, before[name], err_msg=name)
    score = evaluation.score(saved.network, two.test, saved.statistics, saved.device)
    assert score.correct == history.test.correct


def test_finetuning_refuses_images_of_other_channels(garments, tmp_path):
    colour = data.ArrayDataset(np.zeros((4, 28, 28, 3), np.uint8), [0, 1, 0, 1])
    message = rf"^{garments[0]} knows images of 28x28x1, ArrayDataset has 28x28x3$"
    with pytest.raises(ValueError, match=message):
        minicnn.finetune(garments[0], colour, out=tmp_path / "x")
