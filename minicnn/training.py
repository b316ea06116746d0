"""train(): a network, images, and a run of the one on the other."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from minicnn import backend, models, random, recipes, saving, start
from minicnn import data as datasets
from minicnn.checkpoint import CheckpointError
from minicnn.errors import OpError
from minicnn.feature_trainer import FeatureTrainer
from minicnn.init_report import init_report
from minicnn.memory_plan import MemoryPlan, MemoryUse, check_fits, memory_plan
from minicnn.names import check_known
from minicnn.nn import Module
from minicnn.progress import Progress
from minicnn.recipes import Recipe
from minicnn.resident import shape_of, stay
from minicnn.run_folder import RunFolder
from minicnn.settings import Settings
from minicnn.trainer import Trainer, name_of

FROM_DATA = ("num_classes", "image_size", "in_channels")  # options of a network that its images decide


def train(
    model=None,
    data=None,
    *,
    recipe=None,
    device="auto",
    workers=1,
    out=None,
    resume=False,
    quiet=False,
    progress=None,
    data_dir=None,
    image_size=None,
    memory_limit=None,
    statistics=None,
    cache_features=False,
    graph=None,
    resident=None,
    **settings,
):
    """Train `model` on `data` and return its History; the files are in its run folder.

    model     a constructor such as minicnn.models.alexnet, called with the data's class count, image size and channels;
              or a Module, trained as it is; by default what the recipe names
    data      a folder of class folders, a name ("fashion-mnist-12k", the bundled one and the default; "fashion-mnist",
              "mnist", "cifar10", "cifar100" with data_dir), a data.Dataset, data.Splits, or arrays (images, labels)
    recipe    the name of a shipped recipe, the path of a TOML file, or a recipes.Recipe. What else is passed here goes
              before what it says (minicnn.recipes)
    device    "auto", "cuda", "cpu", "numpy", "emulated"
    workers   threads, or where files are decoded processes, that prepare batches; 0: the training thread does. The batches
              are the same for any number
    out       the run folder; default runs/<recipe or model>, or the next free name beside it
    resume    go on where the run in `out` stopped, with its recipe, to the same bytes
    quiet     print nothing but errors
    progress  what shows how far the run is; a minicnn.progress.Progress by default
    memory_limit
              bytes that the run may take of the device's memory; by default what is free
    statistics
              data.ChannelStatistics that images are normalised by; by default those of the training images
    cache_features
              compute what the frozen first layers (minicnn.transfer.freeze) make of the images once and train the rest on
              that; augment must be "none"
    graph     make the training step as one graph (minicnn.step.GraphedStep), with the same numbers; by default on "cuda".
              "emulated" can too; where the network's own code forbids it, a line says so
    resident  copy the training images to the device once and leave them there; the same bytes. By default where they lie in
              memory, the device has its own, and half of what the run leaves of that has room for them (minicnn.resident)
    settings  the fields of minicnn.settings.Settings, which has their defaults.
              minicnn.step.Step says what micro_batch means, minicnn.precision what the precisions are; the weights are
              float32 in each, and float16 scales its loss, by a factor that is in steps.jsonl. step_in_backward=True has
              SGD move the weights of fully connected layers within the walk backward, on "cuda" and "emulated": less
              traffic to memory, the same numbers but for rounding; in float32, without clip_norm and micro_batch

    The same command gives the same bytes on the same device, with the same NumPy, BLAS and MINICNN_THREADS: all but the
    three times in metrics.jsonl. `minicnn compare-runs A B` says where two runs part.

    Raises TrainingError where the loss is not finite or the network ends at chance, DeviceError, DataError,
    CheckpointError, and ValueError for a setting that means nothing and for a batch that will not fit (it says which micro_batch
    does). Ctrl-C saves and then raises KeyboardInterrupt.
    """
    unknown = settings.keys() - Settings.__dataclass_fields__.keys()
    if unknown:
        check_known(sorted(unknown), Settings.__dataclass_fields__, "setting")
    recipe = recipe if isinstance(recipe, Recipe) else recipes.load(recipe) if recipe else Recipe()
    wanted = Path(out or Path("runs") / (recipe.name or _name_in(recipe, model)))
    if resume:
        recipe = _recipe_of(RunFolder(wanted), data)
    recipe = recipe.changed(settings | _said_of_data(data, data_dir, image_size))
    chosen, place = Settings(**recipe.settings), backend.device(device)
    graph = place.prefers_graphs if graph is None else graph
    if graph:
        place.new_graph()  # refuses where there are none, before anything is written
    splits = _splits(recipe, data)
    random.manual_seed(chosen.seed)
    network = _network_for(model or models.find(recipe.model["name"]), recipe, splits, chosen)
    room = place.room() if memory_limit is None else memory_limit
    plan = _plan(network, splits, chosen, place, room)
    resident = _stay(resident, cache_features, splits, chosen, place, plan, room)
    if resident and plan:
        plan = _plan(network, splits, chosen, place, room, shape_of(splits.train))
    before = place.start_watch()
    folder = RunFolder(wanted) if resume else RunFolder.fresh(wanted)
    progress = progress or Progress(quiet)
    started = [] if folder.last.exists() else _start(network, recipe, progress)
    trainer = (FeatureTrainer if cache_features else Trainer)(
        network.to(place),
        splits,
        chosen,
        place,
        folder,
        progress,
        workers,
        MemoryUse(plan, before),
        statistics,
        graph,
        resident,
    )
    if not resume and _is_from_a_paper(network):
        progress.say(f"initial values: {init_report(network, (*trainer.seen, splits.image_shape[2])).verdict}")
        place.start_watch()  # the noise may be more images than a slice of the batch, which the plan is of
    described = trainer.config() | ({"start": started} if started else {})
    resolved = _resolved(recipe, network, chosen, data).toml()
    if resume:
        trainer.restore()
        folder.record_resumption(trainer.step_number, described, resolved)
    else:
        folder.write_config(described, resolved)
    return trainer.run()


def _recipe_of(folder: RunFolder, data) -> Recipe:
    """What the run in the folder was made with."""
    if not folder.recipe.is_file():
        raise CheckpointError(f"there is no run in {folder.path} to resume: it has no {folder.recipe.name}")
    recipe = recipes.load(folder.recipe)
    if data is None and "source" not in recipe.data:
        raise ValueError(f"{folder.path} was trained on images that were passed from memory: pass them again (data)")
    return recipe


def _name_in(recipe: Recipe, model) -> str:
    if model is None and "name" not in recipe.model:
        raise ValueError(f"which network? Name one, or a recipe: {', '.join(recipes.NAMES)}")
    return recipe.model["name"] if model is None else name_of(model)


def _said_of_data(data, data_dir, image_size) -> dict:
    """What a recipe can record of these arguments."""
    said = {"source": os.fspath(data) if isinstance(data, (str, os.PathLike)) else None, "data_dir": data_dir}
    said = {"data": {key: value for key, value in (said | {"image_size": image_size}).items() if value is not None}}
    return said if said["data"] else {}


def _splits(recipe: Recipe, data) -> datasets.Splits:
    """The images that were passed, else those that the recipe names."""
    options = dict(recipe.data)
    source = options.pop("source", None)
    if data is None and source is None and "image_size" in options:
        raise ValueError(
            f"{recipe.name or 'this recipe'} is for a folder of images of your own, read at {options['image_size']} pixels: "
            "say which one (data, --data)"
        )
    return datasets.open(source or datasets.DEFAULT if data is None else data, **options)


def _network_for(model, recipe: Recipe, splits, settings: Settings) -> Module:
    """A Module as it is; a constructor called with what the data says and, before that, what the recipe does."""
    if isinstance(model, Module):
        return model
    *extent, channels = splits.image_shape
    h, w = settings.augmentation.size(*extent)
    if h != w:
        raise ValueError(f"{model.__name__} takes square images, {splits.name} has {h}x{w}")
    said = {"num_classes": len(splits.class_names), "image_size": h, "in_channels": channels}
    return model(**said | {name: value for name, value in recipe.model.items() if name != "name"})


def _start(network: Module, recipe: Recipe, progress: Progress) -> list[str]:
    """Copy what the recipe starts from; what was copied, in words."""
    if not recipe.start:
        return []
    if "from" not in recipe.start:
        raise ValueError(
            f"{recipe.name or 'this recipe'} copies layers from another run: say which (--set start.from=RUN)"
        )
    run = recipe.start["from"]
    lines = start.report(network, start.start_from(network, run, recipe.start.get("layers", "all")), run)
    for line in lines:
        progress.say(line)
    return lines


def _is_from_a_paper(network: Module) -> bool:
    """Whether it starts with published initial values, some of which no deep network learns from."""
    return str((saving.identity(network) or {"options": {}})["options"].get("initialize")).startswith("paper")


def _resolved(recipe: Recipe, network: Module, settings: Settings, data) -> Recipe:
    """The recipe with all that was left to defaults, but for what the images say."""
    identity, images = saving.identity(network), recipe.data
    if data is None:
        images = {"source": datasets.DEFAULT} | images
    elif not isinstance(data, (str, os.PathLike)):
        images = {key: value for key, value in images.items() if key != "source"}
    model = {}
    if identity is not None:
        told = {k: v for k, v in identity["options"].items() if k not in FROM_DATA or k in recipe.model}
        model = {"name": identity["name"], **told}
    return replace(recipe, model=model, data=images, settings=asdict(settings))


def _stay(wanted, cache_features, splits, settings: Settings, place, plan: MemoryPlan | None, room: int | None) -> bool:
    """Whether the training images stay on the device."""
    if cache_features and wanted:
        raise ValueError("resident and cache_features exclude each other: features are kept in place of the images")
    free = None if plan is None or room is None else room - plan.held_bytes
    return not cache_features and stay(wanted, splits.train, settings.augmentation, place, free)


def _plan(
    network: Module, splits, settings: Settings, place, room: int | None, images: tuple[int, ...] | None = None
) -> MemoryPlan | None:
    """The run's memory plan; None of a network whose own code wants to see values. ValueError for what does not fit."""
    h, w, c = splits.image_shape
    shape = min(settings.batch_size, len(splits.train)), *settings.augmentation.size(h, w), c
    options = {"micro_batch": settings.micro_batch, "precision": settings.precision, "images": images}
    try:
        plan = memory_plan(network, shape, device=place, **options)
    except OpError:
        raise
    except Exception:  # whatever it is, the first step will raise it if it is a mistake
        return None
    arenas = 2 * bool(settings.ema) + (
        settings.optimizer == "adam"
    )  # beside those of SGD: optim.Average's, Adam's second
    beside = arenas * sum(p.size * p.dtype.itemsize for p in network.parameters())
    check_fits(plan, network, shape, None if room is None else room - beside)
    grown = {name: getattr(plan, name) + beside for name in ("arena_bytes", "peak_bytes", "held_bytes")}
    return plan._replace(**grown)
