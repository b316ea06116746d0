"""Weights of torchvision's networks, read and written: PyTorch's modules of the same names give the same outputs."""

import re

import numpy as np
import pytest
import twins
from tolerances import assert_close

import minicnn
from minicnn import load_torchvision, models, nn, save_torchvision
from minicnn import torchvision as weights
from minicnn.checkpoint import CheckpointError

VGG = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
}
VGG[13] = "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M"
VGG[19] = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"
RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def torch_alexnet(torch, divisor, hidden, classes):
    """torchvision/models/alexnet.py, by its layers' names."""
    t, c = torch.nn, [width // divisor for width in (64, 192, 384, 256, 256)]

    class AlexNet(t.Module):
        def __init__(self):
            super().__init__()
            self.features = t.Sequential(
                *(t.Conv2d(3, c[0], 11, 4, 2), t.ReLU(), t.MaxPool2d(3, 2)),
                *(t.Conv2d(c[0], c[1], 5, padding=2), t.ReLU(), t.MaxPool2d(3, 2)),
                *(t.Conv2d(c[1], c[2], 3, padding=1), t.ReLU(), t.Conv2d(c[2], c[3], 3, padding=1), t.ReLU()),
                *(t.Conv2d(c[3], c[4], 3, padding=1), t.ReLU(), t.MaxPool2d(3, 2)),
            )
            self.avgpool = t.AdaptiveAvgPool2d((6, 6))
            hidden_layers = t.Dropout(), t.Linear(c[4] * 36, hidden), t.ReLU(), t.Dropout(), t.Linear(hidden, hidden)
            self.classifier = t.Sequential(*hidden_layers, t.ReLU(), t.Linear(hidden, classes))

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    return AlexNet()


def torch_vgg(torch, depth, batch_norm, divisor, hidden, classes):
    """torchvision/models/vgg.py."""
    t, layers, channels = torch.nn, [], 3
    for word in VGG[depth].split():
        if word == "M":
            layers.append(t.MaxPool2d(2, 2))
        else:
            width = int(word) // divisor
            layers += [t.Conv2d(channels, width, 3, padding=1), *([t.BatchNorm2d(width)] * batch_norm), t.ReLU()]
            channels = width

    class VGG11To19(t.Module):
        def __init__(self):
            super().__init__()
            self.features, self.avgpool = t.Sequential(*layers), t.AdaptiveAvgPool2d((7, 7))
            hidden_layers = t.Linear(channels * 49, hidden), t.ReLU(), t.Dropout(), t.Linear(hidden, hidden), t.ReLU()
            self.classifier = t.Sequential(*hidden_layers, t.Dropout(), t.Linear(hidden, classes))

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    return VGG11To19()


def torch_resnet(torch, depth, divisor, classes):
    """torchvision/models/resnet.py."""
    t, bottleneck = torch.nn, depth == 50
    expansion, widths = (4 if bottleneck else 1), [width // divisor for width in (64, 128, 256, 512)]

    class Block(t.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.relu, out = t.ReLU(), width * expansion
            shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            shapes = shapes if bottleneck else [(inputs, width, 3, stride), (width, width, 3, 1)]
            self.count = len(shapes)
            for i, (before, after, size, step) in enumerate(shapes, 1):
                setattr(self, f"conv{i}", t.Conv2d(before, after, size, step, size // 2, bias=False))
                setattr(self, f"bn{i}", t.BatchNorm2d(after))
            if stride != 1 or inputs != out:
                self.downsample = t.Sequential(t.Conv2d(inputs, out, 1, stride, bias=False), t.BatchNorm2d(out))

        def forward(self, x):
            y = x
            for i in range(1, self.count + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = self.relu(y) if i < self.count else y
            return self.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))

    class ResNet(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(3, widths[0], 7, 2, 3, bias=False), t.BatchNorm2d(widths[0])
            channels = widths[0]
            for stage, (width, count) in enumerate(zip(widths, RESNET[depth], strict=True), 1):
                blocks = []
                for block in range(count):
                    blocks.append(Block(channels, width, 2 if stage > 1 and block == 0 else 1))
                    channels = width * expansion
                setattr(self, f"layer{stage}", t.Sequential(*blocks))
            self.fc = t.Linear(channels, classes)

        def forward(self, x):
            x = t.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))

    return ResNet()


def in_torch(torch, name, divisor=1, hidden=4096, classes=1000):
    """The module that torchvision calls `name`, narrower by `divisor`."""
    if name == "googlenet":
        return twins.torchvision_googlenet(torch, divisor, classes)
    if name == "alexnet":
        return torch_alexnet(torch, divisor, hidden, classes)
    depth = int(re.search(r"\d+", name).group())
    if name.startswith("vgg"):
        return torch_vgg(torch, depth, name.endswith("_bn"), divisor, hidden, classes)
    return torch_resnet(torch, depth, divisor, classes)


def spread(module, torch):
    """Weights, biases and statistics that are all different, so that one in a wrong place shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, tensor in module.state_dict().items():
            if path.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.ndim == 1:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
            elif tensor.ndim:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    return module.eval()


def same_outputs(network, module, torch, rng, extent=224):
    x = rng.standard_normal((2, extent, extent, 3)).astype(np.float32)
    with torch.no_grad(), minicnn.no_grad():
        expected = module(twins.images_for_torch(x, torch)).numpy()
        got = network.eval()(minicnn.tensor(x)).numpy()
    assert np.abs(expected).max() > 0.1
    assert_close(got, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", weights.CONSTRUCTORS)
def test_names_and_shapes_are_torchvisions(name, torch):
    with torch.device("meta"):
        theirs = {path: tuple(tensor.shape) for path, tensor in in_torch(torch, name).state_dict().items()}
    network = weights.CONSTRUCTORS[name](initialize=None)
    ours = {path: array.shape for path, array in weights.to_torch(network).items()}
    assert ours == {path: shape for path, shape in theirs.items() if not path.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "googlenet"])
def test_outputs_are_those_of_torch_both_ways(name, torch, rng, tmp_path):
    """Networks with an eighth of the filters, at 224 pixels: their weights into ours, ours by a file into new ones."""
    theirs = spread(in_torch(torch, name, divisor=8, hidden=32, classes=7), torch)
    ours = twins.network(weights.CONSTRUCTORS[name].__name__, 224, divisor=8, hidden=32, num_classes=7)
    state = {path: tensor.numpy() for path, tensor in theirs.state_dict().items()}
    ours.load_state_dict(weights.from_torch(ours, state))
    same_outputs(ours, theirs, torch, rng)

    from safetensors.torch import load_file

    save_torchvision(ours, tmp_path / "weights.safetensors")
    others = in_torch(torch, name, divisor=8, hidden=32, classes=7).eval()
    others.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    same_outputs(ours, others, torch, rng)
    for path, array in weights.to_torch(ours).items():
        np.testing.assert_array_equal(array, state[path], err_msg=path)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_of_torchs_weights_is_a_network(ending, torch, rng, tmp_path):
    from safetensors.torch import save_file

    theirs, path = spread(in_torch(torch, "resnet18", classes=12), torch), tmp_path / f"weights{ending}"
    torch.save(theirs.state_dict(), path) if ending == ".pth" else save_file(theirs.state_dict(), path)
    ours = load_torchvision("resnet18", path)
    assert ours.options["num_classes"] == 12 and ours.options["image_size"] == 224
    same_outputs(ours, theirs, torch, rng)


@pytest.mark.parametrize("heads", [True, False], ids=["heads", "no_heads"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_googlenet_is_read_with_and_without_its_heads(ending, heads, torch, rng, tmp_path):
    """torchvision's file has the heads; a network that it has built from that has not."""
    from safetensors.torch import load_file, save_file

    theirs = spread(twins.torchvision_googlenet(torch, classes=6, heads=heads), torch)
    path, back = tmp_path / f"weights{ending}", tmp_path / "back.safetensors"
    torch.save(theirs.state_dict(), path) if ending == ".pth" else save_file(theirs.state_dict(), path)
    ours = load_torchvision("googlenet", path)
    assert ours.name == "googlenet_bn" and ours.options["auxiliary"] == heads and ours.options["num_classes"] == 6
    save_torchvision(ours, back)
    others = twins.torchvision_googlenet(torch, classes=6, heads=heads).eval()
    others.load_state_dict(load_file(back))
    same_outputs(ours, others, torch, rng, extent=96)
    same_outputs(ours, theirs, torch, rng, extent=96)


def test_images_of_googlenet_are_what_torchvision_turns_its_images_into(rng):
    """Its transform_input, channel by channel: x * (0.229 / 0.5) + (0.485 - 0.5) / 0.5, and so on."""
    images = rng.random((2, 3, 3, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    turned = (images - mean) / std * (std / 0.5) + (mean - 0.5) / 0.5
    ours = weights.GOOGLENET_STATISTICS
    assert_close((images - ours.mean) / np.sqrt(np.diag(ours.covariance)), turned)


def test_imported_weights_predict_and_evaluate_like_a_run(torch, tmp_path):
    from PIL import Image

    path, names = tmp_path / "resnet.safetensors", ["a", "b"]
    torch.save(spread(in_torch(torch, "resnet18", classes=2), torch).state_dict(), tmp_path / "weights.pth")
    network = load_torchvision("resnet18", tmp_path / "weights.pth")
    minicnn.save(network, path, statistics=weights.STATISTICS, class_names=names)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")

    ((first, chance), (second, rest)) = minicnn.predict(path, [tmp_path / "images/a/0.png"], device="cpu")[0]
    x = (pixels / 255 - weights.STATISTICS.mean) / [0.229, 0.224, 0.225]
    with minicnn.no_grad():
        logits = network.eval()(minicnn.tensor(x[None].astype(np.float32))).numpy()[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert (first, second) == tuple(names[i] for i in np.argsort(-expected))
    assert (chance, rest) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)
    with pytest.raises(ValueError, match="names no images of its own: pass data"):
        minicnn.evaluate(path, device="cpu")
    assert minicnn.evaluate(path, tmp_path / "images", device="cpu").top1 == 0.5


def test_flattened_maps_of_any_network_change_their_order(rng):
    """Also where a network has several: GoogLeNet's heads in training."""
    network = twins.network("googlenet", 64, divisor=8)
    assert set(weights._flattened_channels(network)) == {"auxiliary1.fc1.weight", "auxiliary2.fc1.weight"}
    state = {path: rng.standard_normal(array.shape) for path, array in network.state_dict().items()}
    network.load_state_dict(state)
    back = weights.from_torch(network, weights.to_torch(network))
    for path, array in network.state_dict().items():
        np.testing.assert_array_equal(back[path], array, err_msg=path)


def test_a_flattened_concatenation_is_refused():
    inception = nn.Inception(3, 4, 2, 4, 2, 4, 4)
    behind = nn.Sequential(inception, nn.Flatten(), nn.Linear(16 * 4, 2))
    with pytest.raises(ValueError, match=r"^2 reads a flattened concatenation"):
        weights.to_torch(behind)
    pooled = nn.Sequential(inception, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    np.testing.assert_array_equal(weights.to_torch(pooled)["3.weight"], pooled.state_dict()["3.weight"])


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("alexnet", {"fc.bias": np.ones(3, np.float32)}, r"has no classifier\.6\.bias: it is no state dict of alexnet"),
        (
            "resnet18",
            {"fc.bias": np.ones(3, np.float32)},
            "is no state dict of resnet18: state does not fit this ResNet",
        ),
        ("vgg12", {}, "unknown torchvision network 'vgg12'; did you mean vgg1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(name, state, message, tmp_path):
    from safetensors.numpy import save_file

    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=message):
        load_torchvision(name, tmp_path / "weights.safetensors")


def test_weights_of_another_width_are_refused(torch, tmp_path):
    state = in_torch(torch, "resnet18", divisor=2, classes=4).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    message = (
        r"is no state dict of resnet18: conv1\.weight: the model has \(64, 7, 7, 3\), the saved state \(32, 7, 7, 3\)"
    )
    with pytest.raises(CheckpointError, match=message):
        load_torchvision("resnet18", tmp_path / "weights.pth")


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(CheckpointError, match="there is no file"):
        load_torchvision("alexnet", tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match="is damaged or no safetensors file"):
        load_torchvision("alexnet", tmp_path / "bad.safetensors")
    network = models.lenet(10, 28, 1)
    with pytest.raises(CheckpointError, match=r"weights\.pth: weights are written as \.safetensors"):
        save_torchvision(network, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="cannot write"):
        save_torchvision(network, tmp_path / "missing" / "weights.safetensors")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"class_names": ["a"] * 10}, "come together, for a network of minicnn.models"),
        ({"statistics": weights.STATISTICS}, "come together"),
        (
            {"statistics": weights.STATISTICS, "class_names": ["a"] * 10},
            "the network has 10 classes and images of 1 channels, got 10 class_names and statistics of 3 channels",
        ),
    ],
)
def test_what_save_wants_beside_the_weights(keywords, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        minicnn.save(models.lenet(10, 28, 1), tmp_path / "lenet.safetensors", **keywords)
    with pytest.raises(ValueError, match="come together"):
        minicnn.save(nn.Sequential(nn.ReLU()), tmp_path / "own.safetensors", **keywords)
    assert not list(tmp_path.iterdir())
