"""From a constructor or its name to a network that fits the data, and back from what a checkpoint recorded."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from minicnn import models
from minicnn.nn import Module


def by_name(name: str) -> Callable[..., Module]:
    """The constructor of that name. ValueError with the nearest names for one that does not exist."""
    if name in models.NETWORKS:
        return models.NETWORKS[name]
    near = difflib.get_close_matches(name, models.NETWORKS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"there is no network {name!r}: {hint}The networks are {', '.join(models.NETWORKS)}")


def build(name: str, arguments: dict) -> Module:
    """The network that `build_for` described."""
    return by_name(name)(**arguments)


def build_for(model, splits) -> tuple[Module, dict | None]:
    """(network, how to build it again). A Module comes back as it is, with None."""
    if isinstance(model, Module):
        return model, None
    h, w, c = splits.image_shape
    if h != w:
        raise ValueError(f"{name_of(model)} takes square images, {splits.name} has {h}x{w}")
    arguments = {"num_classes": len(splits.class_names), "image_size": h, "in_channels": c}
    return model(**arguments), {"name": name_of(model), "arguments": arguments}


def name_of(model) -> str:
    """What a run of it is called: a constructor's name, or a Module's class in lower case."""
    return type(model).__name__.lower() if isinstance(model, Module) else model.__name__
