"""Networks in checkpoints: what must be said beside the weights for them to mean something, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from minicnn import backend, checkpoint, data, models, nn
from minicnn.checkpoint import CheckpointError
from minicnn.run_folder import LAST


def identity(network: nn.Module) -> dict | None:
    """How to build a network of minicnn.models again; None for a Module of somebody's own."""
    return {"name": network.name, "options": network.options} if isinstance(network, models.Network) else None


def save(
    network: nn.Module,
    path: str | Path,
    *,
    statistics: data.ChannelStatistics | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write parameters and buffers as safetensors; `load` builds a network of minicnn.models from it again.

    With the statistics that its images are normalised by and the names of its classes, `predict` and `evaluate` use the file
    as they do a training run. Raises CheckpointError where it cannot be written, ValueError where they do not fit.
    """
    described = {"model": identity(network)}
    if statistics is not None or class_names is not None:
        described |= _use(network, statistics, class_names)
    checkpoint.write(path, checkpoint.with_prefix("model.", network.state_dict()), described)


def _use(network, statistics, class_names) -> dict:
    """What load_run wants beside the weights."""
    if statistics is None or class_names is None or not isinstance(network, models.Network):
        raise ValueError("save: statistics and class_names come together, for a network of minicnn.models")
    size, channels, classes = (network.options[name] for name in ("image_size", "in_channels", "num_classes"))
    if len(statistics.mean) != channels or len(class_names) != classes:
        raise ValueError(
            f"save: the network has {classes} classes and images of {channels} channels, got {len(class_names)} "
            f"class_names and statistics of {len(statistics.mean)} channels"
        )
    return {
        "data": None,
        "class_names": list(class_names),
        "image_shape": [size, size, channels],
        "statistics": asdict(statistics),
    }


def load(path: str | Path, device="auto") -> nn.Module:
    """The network of a checkpoint file or a run folder. Raises CheckpointError."""
    path = Path(path) / LAST if Path(path).is_dir() else Path(path)
    arrays, saved = checkpoint.read(path)
    if saved["model"] is None:
        raise CheckpointError(
            f"{path} holds a Module of your own: build it, then load_state_dict(checkpoint.read(path))"
        )
    network = models.find(saved["model"]["name"])(**saved["model"]["options"])
    network.load_state_dict(checkpoint.without_prefix("model.", arrays))
    return network.to(device)


def description(network: nn.Module, splits: data.Splits, statistics: data.ChannelStatistics) -> dict:
    """What a training run's checkpoint says of its network and of the images that it was trained on."""
    return {
        "model": identity(network),
        "data": splits.name,
        "class_names": list(splits.class_names),
        "image_shape": list(splits.image_shape),
        "scale": splits.image_shape[0],
        "statistics": asdict(statistics),
    }


def check_fits(saved: dict, network: nn.Module, splits: data.Splits, path: Path) -> None:
    """CheckpointError where a checkpoint belongs to another network or other classes."""
    if saved["class_names"] != list(splits.class_names):
        raise CheckpointError(
            f"{path} knows {len(saved['class_names'])} classes, the data has {len(splits.class_names)}: "
            "resume with the data that it was trained on"
        )
    if saved["model"] != identity(network):
        raise CheckpointError(f"{path} holds {saved['model']}, this run trains {identity(network)}")


@dataclass(frozen=True)
class TrainedNetwork:
    """A network out of a training run, with what it takes to use it on images.

    image_shape  (H, W, C) of what the network sees of an image
    scales       S, the short side of the images that it was trained with, of which it may have seen crops; where it was
                 drawn from a range, the least and the most
    """

    network: nn.Module
    statistics: data.ChannelStatistics
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    scales: tuple[int, ...]
    data: str | None
    device: backend.Device

    @property
    def size(self) -> int:
        """Pixels a side of what the network sees."""
        return self.network.options["image_size"]


def load_run(run: str | Path, device="auto") -> TrainedNetwork:
    """The network of a run folder (its last checkpoint) or of one of its checkpoint files. Raises CheckpointError."""
    path = Path(run) / LAST if Path(run).is_dir() else Path(run)
    _, saved = checkpoint.read(path)
    if "statistics" not in saved:
        raise CheckpointError(
            f"{path} holds weights alone, not those of a training run: it does not say for which classes"
        )
    return TrainedNetwork(
        load(path, device).eval(),
        data.ChannelStatistics(**saved["statistics"]),
        tuple(saved["class_names"]),
        tuple(saved["image_shape"]),
        _scales(saved),
        saved["data"],
        backend.device(device),
    )


def _scales(saved: dict) -> tuple[int, ...]:
    """Of a checkpoint's description: what images were rescaled to in training, else the size they were read at."""
    augment = saved.get("settings", {}).get("augment")
    drawn = augment.get("scale") if isinstance(augment, dict) else None
    if drawn is None:
        return (saved.get("scale", saved["image_shape"][0]),)
    return tuple(dict.fromkeys(drawn)) if isinstance(drawn, (tuple, list)) else (drawn,)
