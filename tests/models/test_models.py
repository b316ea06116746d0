"""The networks: forms and shapes, arguments, initial values, and that they compute and learn what their layers say."""

import inspect
import math
import pickle

import numpy as np
import pytest
import twins
from checks import leaf
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn
from minicnn.models import CONSTRUCTORS
from minicnn.nn import init

NARROW = {  # small forms that keep every kind of row
    "alexnet": {"divisor": 8, "hidden": 12},
    "alexnet_one_tower": {"divisor": 8, "hidden": 12},
    "alexnet_owt": {"divisor": 8, "hidden": 12},
    "vgg_a_lrn": {"divisor": 4, "hidden": 12},
    "vgg_c": {"divisor": 4, "hidden": 12},
    "lenet5": {"divisor": 1},
    "lenet": {"divisor": 1},
    "nin": {"divisor": 16},
    "googlenet": {"divisor": 4},
    "resnet18": {"divisor": 4},
    "plain18": {"divisor": 4},
    "resnet50": {"divisor": 4, "zero_init": True},  # with small scales: 50 layers of 2 images multiply rounding
}
WITH_HIDDEN_LAYERS = [name for name in CONSTRUCTORS if name.startswith(("alexnet", "vgg"))]
LENETS = ("lenet", "lenet5")  # of one form


def loss_of(network, x, target):
    """What training minimises."""
    return getattr(network, "loss", functional.cross_entropy)(network(x), target)


def logits_of(network, rng, batch=2):
    size, channels = network.options["image_size"], network.options["in_channels"]
    with minicnn.no_grad():
        return network.eval()(minicnn.tensor(rng.standard_normal((batch, size, size, channels)).astype(np.float32)))


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_every_network_is_called_with_no_argument(name):
    with init.skipped():
        network = CONSTRUCTORS[name]()
    assert network.name == name and network.form == "full"
    published = {"num_classes": 1000, "image_size": 224, "in_channels": 3, "initialize": "he"}
    if name in LENETS:
        published |= {"num_classes": 10, "image_size": 32, "in_channels": 1}
    assert published.items() <= network.options.items()
    assert list(network.options) == list(inspect.signature(CONSTRUCTORS[name]).parameters)


@pytest.mark.parametrize("image_size", [28, 32, 63, 64])
@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_shapes_at_the_edges_of_the_forms(name, image_size, rng):
    network = CONSTRUCTORS[name](num_classes=7, image_size=image_size, in_channels=1, initialize=None)
    assert network.form == ("small" if image_size < 64 and name not in LENETS else "full")
    assert logits_of(network, rng).shape == (2, 7)


@pytest.mark.parametrize("image_size", [224, 227, 250])
@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_tower", "alexnet_owt"])
def test_shapes_of_large_images(name, image_size, rng):
    network = CONSTRUCTORS[name](num_classes=5, image_size=image_size, initialize=None)
    assert logits_of(network, rng, batch=1).shape == (1, 5)


SMALL_PARAMETERS = {  # at 28 pixels, one channel, ten classes
    "alexnet": [1_248, 76_928, 221_376, 166_080, 110_720, 262_656, 262_656, 5_130],
    "alexnet_one_tower": [1_248, 153_728, 221_376, 331_968, 221_312, 262_656, 262_656, 5_130],
    "alexnet_owt": [832, 76_896, 166_080, 221_312, 147_584, 262_656, 262_656, 5_130],
    "vgg_a": [160, 4_640, 18_496, 36_928, 73_856, *[147_584] * 3, 590_336, 262_656, 5_130],
    "vgg_c": [
        *(160, 2_320, 4_640, 9_248, 18_496, 36_928, 4_160),
        *(73_856, 147_584, 16_512, 147_584, 147_584, 16_512, 590_336, 262_656, 5_130),
    ],
}


@pytest.mark.parametrize("name", SMALL_PARAMETERS)
def test_parameters_of_each_layer_of_the_small_form(name):
    network = CONSTRUCTORS[name](num_classes=10, image_size=28, in_channels=1, initialize=None)
    layers = network.layers(nn.Conv2d) + network.layers(nn.Linear)
    assert [layer.weight.size + layer.bias.size for layer in layers] == SMALL_PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_HIDDEN_LAYERS)
def test_the_small_form_keeps_the_layers_of_the_full_one(name):
    """Kinds and order: all but two pools of VGG."""
    full, small = (CONSTRUCTORS[name](num_classes=10, image_size=size, initialize=None) for size in (64, 63))
    kinds = [[type(layer).__name__ for layer in (*n.features, *n.classifier)] for n in (full, small)]
    if name.startswith("vgg"):
        features = len(full.features)
        for place in reversed([i for i in range(features) if kinds[0][i] == "MaxPool2d"][3:]):
            del kinds[0][place]
    assert kinds[0] == kinds[1]
    assert [c.groups for c in full.layers(nn.Conv2d)] == [c.groups for c in small.layers(nn.Conv2d)]
    geometry = [{(p.kernel_size, p.stride) for p in n.layers(nn.MaxPool2d)} for n in (full, small)]
    assert geometry[0] == geometry[1]


def test_the_form_is_said():
    assert repr(models.alexnet(10, 28, 1)).splitlines()[0] == (
        "Stack(alexnet, small form, num_classes=10, image_size=28, in_channels=1, initialize='he', dropout=0.5, "
        "norm_groups=1"
    )


def test_options_build_its_like():
    network = models.vgg11(4, 30, 2, initialize="paper", dropout=0.25)
    like = models.find(network.name)(**network.options)
    assert repr(like) == repr(network)
    like.load_state_dict(network.state_dict())


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_options_build_its_like_for_every_network(name):
    network = CONSTRUCTORS[name](num_classes=3, image_size=30, in_channels=2, initialize=None)
    assert repr(models.find(network.name)(**network.options)) == repr(network)


def test_a_seed_fixes_the_initial_values():
    states = []
    for seed in (1, 1, 2):
        minicnn.manual_seed(seed)
        states.append(models.alexnet(10, 28, 1).state_dict())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not np.array_equal(states[0]["features.0.weight"], states[2]["features.0.weight"])


def test_constructors_can_be_pickled_and_have_a_docstring():
    for name, constructor in CONSTRUCTORS.items():
        assert constructor is getattr(models, name)
        assert pickle.loads(pickle.dumps(constructor)) is constructor
        assert "num_classes" in constructor.__doc__


ERRORS = {
    "image_too_small": ({"image_size": 27}, "alexnet: image_size must be an integer of at least 28, got 27"),
    "image_of_a_pair": (
        {"image_size": (28, 28)},
        "alexnet: image_size must be an integer of at least 28, got (28, 28)",
    ),
    "no_class": ({"num_classes": 0}, "alexnet: num_classes must be an integer of at least 1, got 0"),
    "no_channel": ({"in_channels": 0}, "alexnet: in_channels must be an integer of at least 1, got 0"),
    "unknown_rule": ({"initialize": "xavier"}, "alexnet: initialize must be one of he, paper, None, got 'xavier'"),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError) as raised:
        models.alexnet(**options)
    assert str(raised.value) == message


def test_another_image_size_than_the_networks_is_refused(rng):
    network = models.alexnet(num_classes=10, image_size=28)
    with pytest.raises(minicnn.OpError, match=r"^classifier.0 linear: weight expects 512 features but x has 1152 "):
        network(minicnn.tensor(np.zeros((1, 32, 32, 3), np.float32)))


def test_find_names_the_nearest():
    assert models.find("vgg16") is models.vgg16
    with pytest.raises(ValueError, match=r"^unknown model 'alexnt'; did you mean alexnet, .*alexnet_owt"):
        models.find("alexnt")
    with pytest.raises(ValueError, match=r"^unknown model 'zzz-9000'; did you mean lenet5, .*, plain34\?$"):
        models.find("zzz-9000")


@pytest.mark.parametrize("name", WITH_HIDDEN_LAYERS)
def test_he_starts_close_to_chance_with_a_signal_in_every_layer(name, rng):
    network = CONSTRUCTORS[name](10, 28, 1).eval()
    sizes = []
    for layer in network.layers(nn.ReLU):
        layer.register_forward_hook(lambda _, __, y: sizes.append(np.sqrt((y.numpy() ** 2).mean())))
    logits = logits_of(network, rng, batch=8)
    loss = functional.cross_entropy(logits, minicnn.tensor(np.arange(8))).item()
    assert min(sizes) > 0.2 and max(sizes) < 10
    assert abs(loss - math.log(10)) < 0.2


def test_none_leaves_zeros_to_load():
    network, drawn = (models.vgg_a(10, 28, 1, initialize=rule) for rule in (None, "he"))
    assert not any(p.numpy().any() for p in network.parameters())
    network.load_state_dict(drawn.state_dict())


@pytest.mark.parametrize(("rule", "std"), [("paper", 0.1), ("paper-0.01", 0.01)])
def test_both_readings_of_the_vgg_paper(rule, std):
    network = models.vgg_a(num_classes=10, image_size=28, initialize=rule)
    for layer in network.layers(nn.Conv2d) + network.layers(nn.Linear):
        weight = layer.weight.numpy()
        assert abs(weight.std() - std) < 4 * std / math.sqrt(2 * weight.size)
        assert not layer.bias.numpy().any()


def copy_to_torch(network, features, classifier, grid, torch):
    """Our weights into PyTorch's layers; the first fully connected layer reads C x H x W there, H x W x C here."""
    ours, theirs = (
        [layer for layer in [*layers[0], *layers[1]] if hasattr(layer, "weight")]
        for layers in ((network.features, network.classifier), (features, classifier))
    )
    first = len(network.layers(nn.Conv2d))
    with torch.no_grad():
        for i, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            weight = own.weight.numpy()
            if i < first:
                weight = weight.transpose(0, 3, 1, 2)
            elif i == first:
                weight = weight.reshape(len(weight), grid, grid, -1).transpose(0, 3, 1, 2).reshape(weight.shape)
            other.weight.copy_(torch.tensor(np.ascontiguousarray(weight)))
            other.bias.copy_(torch.tensor(own.bias.numpy()))
    return ours, theirs


def torch_owt(c, hidden, classes, t):
    """torchvision's AlexNet, layer by layer."""
    features = t.Sequential(
        *(t.Conv2d(3, c[0], kernel_size=11, stride=4, padding=2), t.ReLU(), t.MaxPool2d(kernel_size=3, stride=2)),
        *(t.Conv2d(c[0], c[1], kernel_size=5, padding=2), t.ReLU(), t.MaxPool2d(kernel_size=3, stride=2)),
        *(t.Conv2d(c[1], c[2], kernel_size=3, padding=1), t.ReLU()),
        *(t.Conv2d(c[2], c[3], kernel_size=3, padding=1), t.ReLU()),
        *(t.Conv2d(c[3], c[4], kernel_size=3, padding=1), t.ReLU(), t.MaxPool2d(kernel_size=3, stride=2)),
        t.AdaptiveAvgPool2d((6, 6)),
    )
    classifier = t.Sequential(
        *(t.Dropout(), t.Linear(c[4] * 6 * 6, hidden), t.ReLU()),
        *(t.Dropout(), t.Linear(hidden, hidden), t.ReLU()),
        t.Linear(hidden, classes),
    )
    return features, classifier


def torch_2012(c, hidden, classes, t):
    """The network of the NIPS paper. PyTorch's alpha is the paper's times the size of the window."""

    def normalisation():
        return t.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)

    features = t.Sequential(
        *(t.Conv2d(3, c[0], 11, stride=4, padding=2), t.ReLU(), normalisation(), t.MaxPool2d(3, stride=2)),
        *(t.Conv2d(c[0], c[1], 5, padding=2, groups=2), t.ReLU(), normalisation(), t.MaxPool2d(3, stride=2)),
        *(t.Conv2d(c[1], c[2], 3, padding=1), t.ReLU()),
        *(t.Conv2d(c[2], c[3], 3, padding=1, groups=2), t.ReLU()),
        *(t.Conv2d(c[3], c[4], 3, padding=1, groups=2), t.ReLU(), t.MaxPool2d(3, stride=2)),
    )
    classifier = t.Sequential(
        *(t.Linear(c[4] * 6 * 6, hidden), t.ReLU(), t.Dropout()),
        *(t.Linear(hidden, hidden), t.ReLU(), t.Dropout()),
        t.Linear(hidden, classes),
    )
    return features, classifier


@pytest.mark.parametrize(
    ("name", "build", "divisor"), [("alexnet_owt", torch_owt, 8), ("alexnet", torch_2012, 8)], ids=["owt", "2012"]
)
def test_outputs_and_gradients_are_those_of_torch(name, build, divisor, rng, torch):
    """At 224 pixels in float64, with fewer filters and our weights in PyTorch's layers."""
    network = twins.as_float64(twins.network(name, 224, divisor=divisor, hidden=32)).eval()
    filters = [conv.weight.shape[0] for conv in network.layers(nn.Conv2d)]
    features, classifier = (part.double().eval() for part in build(filters, 32, 10, torch.nn))
    ours, theirs = copy_to_torch(network, features, classifier, 6, torch)

    x, dy = 10 * rng.standard_normal((2, 224, 224, 3)), rng.standard_normal((2, 10))
    y = network(leaf(x, "cpu", requires_grad=False))
    expected = classifier(torch.flatten(features(torch.tensor(x.transpose(0, 3, 1, 2))), 1))
    assert_close(y.numpy(), expected.detach().numpy(), rtol=1e-10)
    y.backward(dy)
    expected.backward(torch.tensor(dy))
    for i, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        grad = own.weight.grad.numpy()
        if i < 5:
            grad = grad.transpose(0, 3, 1, 2)
        elif i == 5:
            grad = grad.reshape(len(grad), 6, 6, -1).transpose(0, 3, 1, 2).reshape(grad.shape)
        scale = float(other.weight.grad.abs().max())
        assert_close(grad, other.weight.grad.numpy(), what=f"weight {i}", rtol=1e-9, atol=1e-12 * scale)
        assert_close(own.bias.grad.numpy(), other.bias.grad.numpy(), what=f"bias {i}", rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NARROW if not name.startswith(("googlenet", "resnet", "plain"))])
def test_gradient_of_the_whole_network(name, rng):
    """Those with hundreds of parameters have PyTorch's gradients as their judge, in tests of their own."""
    network = twins.as_float64(twins.network(name, 28, **NARROW[name], num_classes=3, in_channels=2))
    for p in network.parameters():
        if p.ndim == 1:
            p.copy_(0.1 * rng.standard_normal(p.shape))
    x = leaf(rng.standard_normal((2, 28, 28, 2)), "cpu")
    minicnn.gradcheck(lambda x, *_: network(x), [x, *network.parameters()], elementwise=False)


@pytest.mark.parametrize("name", NARROW)
def test_kernels_compute_the_network_of_the_reference(name, kernel_device, rng, direct_sums):
    """Forward and backward, every parameter's gradient; the reference in float64 from the same float32 values."""
    network = twins.spread(twins.network(name, 28, **NARROW[name], in_channels=1), rng)
    x, target = rng.standard_normal((2, 28, 28, 1)).astype(np.float32), [3, 1]
    state = network.state_dict()
    results = []
    for model, dtype in ((twins.as_float64(network), np.float64), (None, np.float32)):
        if model is None:
            model = twins.network(name, 28, **NARROW[name], in_channels=1)
            model.load_state_dict(state)
            model.to(kernel_device)
        device = model.parameters()[0].device
        loss = loss_of(model, minicnn.tensor(x.astype(dtype), device=device), minicnn.tensor(target, device=device))
        loss.backward()
        results.append((loss.numpy(), {path: p.grad.numpy() for path, p in model.named_parameters()}))
    (expected, expected_grads), (got, grads) = results
    assert_close(got, expected, what="loss")
    for path, grad in grads.items():
        scale = np.abs(expected_grads[path]).max()
        assert_close(grad, expected_grads[path], what=path, atol=2e-5 * scale)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_owt", "vgg_a", "vgg_a_lrn"])
def test_one_batch_is_learned_by_heart(name):
    network = CONSTRUCTORS[name](num_classes=4, image_size=28, in_channels=1, dropout=0.0)
    losses = twins.learn_by_heart(network, lr=0.003, steps=30)
    assert losses[0] > 1 and losses[-1] < 0.01


def test_an_option_that_no_constructor_has():
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropuot'"):
        models.alexnet(dropuot=0.1)
