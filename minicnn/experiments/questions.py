"""What is asked: the experiments, each a question of the sources and the variants of one small network that answer it."""

from __future__ import annotations

from dataclasses import dataclass, field

from minicnn import nn
from minicnn.experiments.networks import Constructor, after_alexnet, after_resnet, after_vgg
from minicnn.experiments.records import MEASURES, Measure


@dataclass(frozen=True)
class Variant:
    """A network, and what it is trained with beside the experiment's settings."""

    model: Constructor
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What is asked, where it comes from, between what, by which of minicnn.experiments.records.MEASURES (the first one
    decides and is drawn), and the settings of all runs."""

    question: str
    source: str
    variants: dict[str, Variant]
    measures: tuple[str, ...] = ("accuracy",)
    settings: dict = field(default_factory=lambda: {"epochs": 3})

    @property
    def chosen(self) -> list[Measure]:
        return [MEASURES[name] for name in self.measures]


def rates(name: str, model: Constructor) -> dict[str, Variant]:
    """The paper let each kind of network have the learning rate that it learns fastest with: three to choose from."""
    return {f"{name}, lr {lr}": Variant(model, {"lr": lr}) for lr in (0.01, 0.03, 0.1)}


UNREGULARIZED = {"norm": False, "dropout": 0.0}

EXPERIMENTS = {
    "relu-vs-tanh": Experiment(
        "does a network with ReLU learn faster than one with tanh?",
        "Krizhevsky et al. 2012, section 3.1 and figure 1",
        rates("relu", after_alexnet(nn.ReLU, **UNREGULARIZED)) | rates("tanh", after_alexnet(nn.Tanh, **UNREGULARIZED)),
        measures=("steps_to_25", "accuracy"),
        settings={"epochs": 2, "warmup_steps": 0, "weight_decay": 0.0, "augment": "none"},
    ),
    "degradation": Experiment(
        "do more layers make a plain network harder to train, and a residual one not?",
        "He et al. 2015, figures 1 and 6",
        {
            f"{kind}, {6 * blocks + 2} layers": Variant(after_resnet(blocks, shortcut))
            for kind, shortcut in (("plain", None), ("residual", "A"))
            for blocks in (1, 5)
        },
        measures=("last_loss", "accuracy"),
        settings={"epochs": 2},
    ),
    "depth": Experiment(
        "does a network of 3x3 convolutions get better with more of them?",
        "Simonyan and Zisserman 2014, section 4.1; Krizhevsky et al. 2012, section 7",
        {f"{3 * depth} convolutions": Variant(after_vgg(*[3] * depth)) for depth in (1, 2, 3, 4)},
        measures=("accuracy", "last_loss"),
    ),
    "init": Experiment(
        "from which initial weights does a network of nine convolutions start to learn?",
        "He et al. 2015, Delving deep into rectifiers, section 2.2; Simonyan and Zisserman 2014, section 3.1",
        {
            "He, 2 / fan_in": Variant(after_vgg(3, 3, 3)),
            "Xavier, 1 / fan_in": Variant(after_vgg(3, 3, 3, gain=1.0)),
            "N(0, 0.01^2)": Variant(after_vgg(3, 3, 3, std=0.01)),
        },
        measures=("last_loss", "accuracy"),
        settings={"epochs": 2},
    ),
    "conv1x1": Experiment(
        "does a 1x1 convolution more in each stage help, and does a 3x3 one help more?",
        "Simonyan and Zisserman 2014, section 4.1: B against C against D",
        {
            "3x3, 3x3": Variant(after_vgg(3, 3)),
            "3x3, 3x3, 1x1": Variant(after_vgg(3, 3, 1)),
            "3x3, 3x3, 3x3": Variant(after_vgg(3, 3, 3)),
        },
        measures=("accuracy", "last_loss"),
    ),
    "lrn": Experiment(
        "does local response normalisation lower the error?",
        "Krizhevsky et al. 2012, section 3.3; Simonyan and Zisserman 2014, section 4.1",
        {"with": Variant(after_alexnet()), "without": Variant(after_alexnet(norm=False))},
    ),
    "overlap-pooling": Experiment(
        "does pooling by windows of 3 at stride 2 lower the error against windows of 2?",
        "Krizhevsky et al. 2012, section 3.4",
        {"overlapping": Variant(after_alexnet()), "side by side": Variant(after_alexnet(overlap=False))},
    ),
    "precision": Experiment(
        "does training in reduced precision reach what float32 reaches?",
        "Micikevicius et al. 2018",
        {name: Variant(after_alexnet(), {"precision": name}) for name in ("float32", "tf32", "bfloat16", "float16")},
        settings={"epochs": 2},
    ),
}


def find(name: str) -> Experiment:
    """The experiment of that name; ValueError with the names there are."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
