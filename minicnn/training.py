"""train(): a network, images, and a run of the one on the other."""

from __future__ import annotations

from pathlib import Path

from minicnn import backend, checkpoint, random
from minicnn import data as datasets
from minicnn.errors import OpError
from minicnn.feature_trainer import FeatureTrainer
from minicnn.memory_plan import MemoryPlan, MemoryUse, check_fits, memory_plan
from minicnn.nn import Module
from minicnn.progress import Progress
from minicnn.run_folder import RunFolder
from minicnn.settings import AUGMENTATIONS, Settings
from minicnn.trainer import Trainer, name_of


def train(
    model,
    data=None,
    *,
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
    **settings,
):
    """Train `model` on `data` and return its History; the files are in its run folder.

    model     a constructor such as minicnn.models.alexnet, called with the data's class count, image size and channels;
              or a Module, trained as it is
    data      a folder of class folders, a name ("fashion-mnist-12k", the bundled one and the default; "fashion-mnist",
              "mnist", "cifar10", "cifar100" with data_dir), a data.Dataset, data.Splits, or arrays (images, labels)
    device    "auto", "cuda", "cpu", "numpy", "emulated"
    workers   threads that prepare batches; 0: the training thread does. The batches are the same for any number
    out       the run folder; default runs/<model>, or the next free name beside it
    resume    go on where the run in `out` stopped, with its settings and its data, to the same bytes
    quiet     print nothing but errors
    progress  what shows how far the run is; a minicnn.progress.Progress by default
    memory_limit
              bytes that the run may take of the device's memory; by default what is free
    statistics
              data.ChannelStatistics that images are normalised by; by default those of the training images
    cache_features
              compute what the frozen first layers (minicnn.transfer.freeze) make of the images once and train the rest on
              that; augment must be "none"
    settings  epochs=10, batch_size=64, micro_batch=None, lr=0.02, momentum=0.9, weight_decay=5e-4, dialect="torch",
              schedule="linear" | "cosine" | "step" | "plateau", warmup_steps=50, clip_norm=5.0, label_smoothing=0.0,
              augment="mirror" | "none", precision="float32" | "tf32" | "bfloat16" | "float16", digest_every=50, seed=0.
              minicnn.step.Step says what micro_batch means, minicnn.precision what the precisions are; the weights are
              float32 in each, and float16 scales its loss, by a factor that is in steps.jsonl

    The same command gives the same bytes on the same device, with the same NumPy, BLAS and MINICNN_THREADS: all but the
    three times in metrics.jsonl. `minicnn compare-runs A B` says where two runs part.

    Raises TrainingError where the loss is not finite or the network ends at chance, DeviceError, DataError,
    CheckpointError, and ValueError for a setting that means nothing and for a batch that will not fit (it says which micro_batch
    does). Ctrl-C saves and then raises KeyboardInterrupt.
    """
    unknown = settings.keys() - Settings.__dataclass_fields__.keys()
    if unknown:
        known = ", ".join(Settings.__dataclass_fields__)
        raise TypeError(f"train() has no setting {sorted(unknown)[0]!r}: there are {known}")
    wanted = Path(out or Path("runs") / name_of(model))
    if resume:
        saved = checkpoint.read(RunFolder(wanted).last)[1]
        data, settings = data or saved["data"], saved["settings"] | settings
    settings, place = Settings(**settings), backend.device(device)
    splits = datasets.open(data or datasets.DEFAULT, data_dir=data_dir, image_size=image_size)
    random.manual_seed(settings.seed)
    network = _network_for(model, splits)
    plan = _plan(network, splits, settings, place, memory_limit)
    before = place.start_watch()
    folder = RunFolder(wanted) if resume else RunFolder.fresh(wanted)
    trainer = (FeatureTrainer if cache_features else Trainer)(
        network.to(place),
        splits,
        settings,
        place,
        folder,
        progress or Progress(quiet),
        workers,
        MemoryUse(plan, before),
        statistics,
    )
    if resume:
        trainer.restore()
        folder.record_resumption(trainer.step_number, trainer.config())
    else:
        folder.write_config(trainer.config())
    return trainer.run()


def _network_for(model, splits) -> Module:
    """A Module as it is; a constructor called with what the data says."""
    if isinstance(model, Module):
        return model
    h, w, c = splits.image_shape
    if h != w:
        raise ValueError(f"{model.__name__} takes square images, {splits.name} has {h}x{w}")
    return model(num_classes=len(splits.class_names), image_size=h, in_channels=c)


def _plan(network: Module, splits, settings: Settings, place, memory_limit: int | None) -> MemoryPlan | None:
    """The run's memory plan; None of a network whose own code wants to see values. ValueError for what does not fit."""
    h, w, c = splits.image_shape
    shape = min(settings.batch_size, len(splits.train)), *AUGMENTATIONS[settings.augment].size(h, w), c
    try:
        plan = memory_plan(network, shape, device=place, micro_batch=settings.micro_batch, precision=settings.precision)
    except OpError:
        raise
    except Exception:  # whatever it is, the first step will raise it if it is a mistake
        return None
    check_fits(plan, network, shape, place.room() if memory_limit is None else memory_limit)
    return plan
