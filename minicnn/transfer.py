"""Transfer: a trained network learns other classes. A new head, frozen layers, and fine-tuning as a run like any other.

    network = new_head(minicnn.load("runs/vgg_a"), num_classes=2)
    freeze(network, "features.*")
    minicnn.train(network, "path/to/two/classes", cache_features=True)

`finetune` does the three at once, with the normalisation that the first run was trained with.

Source: Yosinski et al., "How transferable are features in deep neural networks?", arXiv 1411.1792.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from minicnn import data as datasets
from minicnn import models, random, saving
from minicnn.models import Network
from minicnn.nn import Module
from minicnn.trainer import History
from minicnn.training import train

FINETUNE_LR = 0.005  # a quarter of train()'s: what is there already should move less


def new_head(network: Network, num_classes: int) -> Network:
    """A network like this one for another class count: its last layer (GoogLeNet's three) starts anew, by the network's own
    rule of initialisation, all else is a copy. The given one stays as it is.

    Raises ValueError for a Module that is none of minicnn.models: there put a new layer into the place of the last.
    """
    if not isinstance(network, Network):
        raise ValueError(
            f"new_head is for networks of minicnn.models, got a {type(network).__name__}: replace its last layer yourself"
        )
    options = network.options | {"num_classes": num_classes, "initialize": network.options["initialize"] or "he"}
    other = models.find(network.name)(**options)
    new = {id(tensor) for layer in other.output_layers() for tensor in layer.parameters()}
    fresh = other.state_dict()
    kept = {name for name, tensor in other.named_parameters() if id(tensor) in new}
    other.load_state_dict({name: fresh[name] if name in kept else a for name, a in network.state_dict().items()})
    return other.to(network.parameters()[0].device)


def freeze(network: Module, *patterns: str) -> list[str]:
    """Freeze the parameters whose names match a pattern ("features.*", "*.bias"); returns the names.

    They need no gradient, so that none is computed, and optimizers made afterwards leave them as they are, weight decay
    included. Batch normalisation whose parameters are frozen keeps its running statistics, also in training.

    Raises ValueError for a pattern that matches nothing.
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ValueError(f"freeze: no parameter is called {pattern!r}; there are {', '.join(parameters)}")
    frozen = [name for name in parameters if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for name in frozen:
        parameters[name].requires_grad = False
    for _, module in network.named_modules():
        own = module.own_parameters()
        module.frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
    network.train(network.training)
    return frozen


def finetune(
    run,
    data,
    *,
    frozen=(),
    cache_features: bool = False,
    lr: float = FINETUNE_LR,
    out=None,
    seed: int = 0,
    data_dir=None,
    **options,
) -> History:
    """Train the network of a run on other classes, and return the History: its head starts anew.

    run             a run folder or a checkpoint; weights from elsewhere become one by load_torchvision and save(network,
                    path, statistics=..., class_names=...)
    data            as for train(); images are read at the size, and normalised by the statistics, of the run
    frozen   patterns of the parameters that stay as they are: see freeze
    cache_features  compute what lies before the first layer that learns once and keep it: images are then not augmented
    out             the run folder; default <run>-finetuned
    options         everything else that train() takes

    Raises what train() and freeze() do; CheckpointError for a run that does not say what it was trained on.
    """
    saved, path = saving.load_run(run, "cpu"), Path(run)
    splits = datasets.open(data, data_dir=data_dir, image_size=saved.size)
    if splits.image_shape != saved.image_shape:
        known, given = ("x".join(map(str, shape)) for shape in (saved.image_shape, splits.image_shape))
        raise ValueError(f"{run} knows images of {known}, {splits.name} has {given}")
    random.manual_seed(seed)
    network = new_head(saved.network, len(splits.class_names))
    freeze(network, *frozen)
    if cache_features:
        options = {"augment": "none"} | options
    return train(
        network,
        data,
        image_size=saved.size,
        data_dir=data_dir,
        out=out or path.with_name(f"{path.stem if path.is_file() else path.name}-finetuned"),
        statistics=saved.statistics,
        cache_features=cache_features,
        lr=lr,
        seed=seed,
        **options,
    )
