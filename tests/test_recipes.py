"""Recipes: the shipped ones are what the papers say, files are read and written, and what nobody knows is refused."""

import re

import numpy as np
import pytest

from minicnn import checkpoint, data, models, recipes, save, start
from minicnn.nn import init
from minicnn.recipes import Recipe
from minicnn.settings import Settings
from minicnn.training import train

TINY = {"epochs": 1, "batch_size": 20, "micro_batch": None, "warmup_steps": 2, "device": "numpy", "quiet": True}


@pytest.fixture(scope="module")
def splits():
    """60 training, 20 validation and 40 test images of the bundled set."""
    whole = data.open("fashion-mnist-12k")
    parts = (whole.train, 60), (whole.validation, 20), (whole.test, 40)
    return data.Splits("some garments", *(data.Subset(part, np.arange(count)) for part, count in parts))


@pytest.fixture
def file(tmp_path):
    """Writes a recipe of this text, and is where it lies."""

    def write(text: str, name: str = "mine.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", recipes.NAMES)
def test_a_shipped_recipe_is_whole_and_survives_its_own_file(name, file):
    recipe = recipes.load(name)
    settings = Settings(**recipe.settings)
    assert recipe.description
    with init.skipped():
        models.find(recipe.model["name"])(**{k: v for k, v in recipe.model.items() if k != "name"})
    again = recipes.load(file(recipe.toml(), f"{name}.toml"))
    assert again == recipe
    assert Settings(**again.settings) == settings


def test_A9_A10_A11_alexnet_as_published():
    recipe = recipes.load("alexnet-paper")
    chosen = Settings(**recipe.settings)
    assert (chosen.batch_size, chosen.lr, chosen.momentum, chosen.weight_decay) == (128, 0.01, 0.9, 5e-4)
    assert (chosen.dialect, chosen.schedule, chosen.epochs, chosen.drop) == ("paper", "plateau", 90, 0.1)
    assert chosen.augmentation == data.Augment(mirror=True, crop=224, colour=0.1)
    assert (recipe.data, recipe.model) == ({"image_size": 256}, {"name": "alexnet", "initialize": "paper"})


@pytest.mark.parametrize("configuration", "abcde")
def test_V9_vgg_as_published(configuration):
    recipe = recipes.load(f"vgg-paper-{configuration}")
    chosen = Settings(**recipe.settings)
    assert (chosen.batch_size, chosen.lr, chosen.momentum, chosen.weight_decay) == (256, 0.01, 0.9, 5e-4)
    assert (chosen.schedule, chosen.epochs, chosen.clip_norm) == ("plateau", 74, None)
    assert recipe.model["name"] == f"vgg_{configuration}"
    assert recipe.model["dropout"] == 0.5
    assert recipe.data["image_size"] == 256


@pytest.mark.parametrize("configuration", "bcde")
def test_V5_the_deeper_configurations_start_from_seven_layers_of_a(configuration):
    """The layers named have the shapes of A's: its first four convolutions and its three fully connected ones."""
    table = recipes.load(f"vgg-paper-{configuration}").start["layers"]
    a, deeper = (models.find(f"vgg_{c}")(initialize=None).state_dict() for c in ("a", configuration))
    convs = [path.removesuffix(".weight") for path, array in a.items() if array.ndim == 4]
    linears = [path.removesuffix(".weight") for path, array in a.items() if array.ndim == 2]
    assert list(table.values()) == [*convs[:4], *linears]
    for here, there in table.items():
        for name in ("weight", "bias"):
            assert deeper[f"{here}.{name}"].shape == a[f"{there}.{name}"].shape


def test_V6_the_larger_scale_starts_from_the_smaller_at_a_tenth_of_the_rate():
    recipe = recipes.load("vgg-paper-d-384")
    assert (recipe.settings["augment"]["scale"], recipe.settings["lr"]) == (384, 1e-3)
    assert recipe.start == {"from": "runs/vgg-paper-d", "layers": "all"}
    jitter = recipes.load("vgg-paper-d-jitter")
    assert Settings(**jitter.settings).augmentation.scale == (256, 512)
    assert jitter.start == {"from": "runs/vgg-paper-d-384", "layers": "all"}


def test_layers_are_copied_to_the_byte_and_said(tmp_path):
    """vgg-paper-d from vgg-paper-a, in the small forms."""
    a, d = models.vgg_a(10, 28, 1), models.vgg_d(10, 28, 1)
    path, before, table = tmp_path / "a.safetensors", d.state_dict(), recipes.load("vgg-paper-d").start["layers"]
    save(a, path)
    copied = start.start_from(d, path, table)
    after, copies = d.state_dict(), a.state_dict()
    for name, array in after.items():
        layer, _, tensor = name.rpartition(".")
        expected = copies[f"{table[layer]}.{tensor}"] if layer in table else before[name]
        assert array.tobytes() == expected.tobytes(), name
    lines = start.report(d, copied, path)
    assert lines[2] == "  features.5 <- features.3 (weight, bias)"
    assert lines[-1].startswith("  drawn anew: features.2, features.7, features.14, ")


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        ({}, "this recipe copies layers from another run: say which (--set start.from=RUN)"),
        (
            {"layers": {"features.99": "features.0"}},
            "start.layers: this network has no layer 'features.99' with parameters",
        ),
        ({"layers": {"features.0": "features.99"}}, "start.layers: the network of {run} has no layer 'features.99', "),
        ({"layers": {"features.3": "features.0"}}, "start.layers: features.3 has {{'"),
        ({"layers": ["feature.*"]}, "start.layers: no layer matches 'feature.*'; there are features.0, "),
        ({"from": "nowhere"}, "there is no checkpoint nowhere/last.safetensors: train what this run starts from first"),
    ],
)
def test_what_cannot_be_copied_is_refused(splits, tmp_path, begin, message):
    run = tmp_path / "first.safetensors"
    save(models.alexnet_owt(10, 28, 1), run)
    begin = {"from": str(run)} | begin if "layers" in begin else begin or {"layers": "all"}
    recipe = Recipe(model={"name": "alexnet_owt"}, start=begin)
    with pytest.raises(ValueError, match="^" + re.escape(message.format(run=run))):
        train(None, splits, recipe=recipe, out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_later_goes_before_earlier(file):
    base = file('epochs = 3\nlr = 0.5\n[model]\nname = "vgg_a"\ndropout = 0.25\n[augment]\ncrop = 24\n', "base.toml")
    mine = file('extends = "base.toml"\nlr = 0.25\n[model]\nname = "vgg_b"\n')
    recipe = recipes.load(mine)
    assert (base.exists(), recipe.name) == (True, "mine")
    assert recipe.settings == {"epochs": 3, "lr": 0.25, "augment": {"crop": 24}}
    assert recipe.model == {"name": "vgg_b", "dropout": 0.25}
    changes = recipes.assigned(["lr=1", "model.dropout=0.75", "augment.mirror=true", "schedule=step"])
    recipe = recipe.changed(changes | {"multipliers.features.0.weight": {"lr": 2.0}})
    assert recipe.settings == {
        "epochs": 3,
        "lr": 1,
        "augment": {"crop": 24, "mirror": True},
        "schedule": "step",
        "multipliers": {"features.0.weight": {"lr": 2.0}},
    }
    assert recipe.model["dropout"] == 0.75
    assert recipe.changed({"augment": "none"}).settings["augment"] == "none"


def two_classes(rng):
    """80 images of 32 pixels whose classes differ within their centre of 28 alone, and the labels."""
    labels = np.arange(80) % 2
    images = rng.integers(0, 255, (80, 32, 32), np.uint8)
    images[labels == 1, 2:30, 2:30] //= 4
    return images, labels


def test_the_resolved_recipe_lies_in_the_run_and_makes_the_same_run(rng, tmp_path):
    images = two_classes(rng)
    recipe = Recipe("mine", model={"name": "lenet"}, settings={"clip_norm": 1.0, "augment": {"crop": 28}, "lr": 0.05})
    settings = TINY | {"batch_size": 8, "epochs": 3}
    train(None, images, recipe=recipe, out=tmp_path / "one", clip_norm=None, seed=3, **settings)
    resolved = recipes.load(tmp_path / "one/recipe.toml")
    assert resolved.model["name"] == "lenet"
    assert "num_classes" not in resolved.model
    assert Settings(**resolved.settings) == Settings(
        epochs=3, batch_size=8, warmup_steps=2, clip_norm=None, seed=3, augment={"crop": 28}, lr=0.05
    )
    train(None, images, recipe=tmp_path / "one/recipe.toml", out=tmp_path / "two", device="numpy", quiet=True)
    for name in ("recipe.toml", "steps.jsonl", "last.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key of recipe mine 'epoch'; did you mean epochs?"),
        ("[model]\nname = 'alexnt'", "unknown model 'alexnt'; did you mean alexnet"),
        (
            "[model]\nname = 'alexnet'\ndropot = 0.1",
            "unknown key of model of recipe mine 'dropot'; did you mean dropout?",
        ),
        ("[data]\nimagesize = 3", "unknown key of data of recipe mine 'imagesize'; did you mean image_size?"),
        ("[start]\nform = 'x'", "unknown key of start of recipe mine 'form'; did you mean from?"),
        ("model = 'alexnet'", "model must be a table, got 'alexnet'"),
        ("extends = 'mine.toml'", "recipe {path} extends itself"),
        ("extends = 'alexnet-papr'", "unknown recipe 'alexnet-papr'; did you mean alexnet-paper"),
        ("epochs = ", "recipe {path} is no TOML: "),
    ],
)
def test_what_nobody_knows_is_refused(file, text, message):
    path = file(text)
    with pytest.raises(ValueError, match="^" + re.escape(message.format(path=path))):
        recipes.load(path)


@pytest.mark.parametrize("name", ["alexnet-papr", "nowhere.toml"])
def test_there_is_no_such_recipe(name):
    with pytest.raises(
        ValueError, match=r"^(unknown recipe 'alexnet-papr'; did you mean alexnet-paper|there is no recipe )"
    ):
        recipes.load(name)


def test_an_assignment_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"^--set takes key=value, got 'lr'$"):
        recipes.assigned(["lr"])


def test_a_published_recipe_wants_images_of_ones_own():
    with pytest.raises(ValueError, match=r"^alexnet-paper is for a folder of images of your own, read at 256 pixels: "):
        train(recipe="alexnet-paper")


def test_a_run_needs_a_network():
    with pytest.raises(ValueError, match=r"^which network\? Name one, or a recipe: alexnet-owt, "):
        train()


def test_crops_are_what_the_network_is_for(rng, tmp_path):
    """A network of 28 pixels sees windows of images of 32; validation and the saved run see their centre."""
    recipe = Recipe(model={"name": "lenet"}, settings={"augment": {"crop": 28, "mirror": True}, "lr": 0.05})
    settings = TINY | {"epochs": 6, "batch_size": 8}
    history = train(None, two_classes(rng), recipe=recipe, out=tmp_path / "run", **settings)
    assert history.test.top1 > 0.9
    description = checkpoint.read(tmp_path / "run/last.safetensors")[1]
    assert description["model"]["options"]["image_size"] == 28
    assert description["image_shape"] == [28, 28, 1]
