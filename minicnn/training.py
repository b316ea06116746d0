"""train(): a network, images, and the loop between them."""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from minicnn import backend, checkpoint, digests, evaluation, plots, provenance, random, saving
from minicnn import data as datasets
from minicnn.errors import OpError, TrainingError
from minicnn.loss_scale import LossScale
from minicnn.memory_plan import MemoryPlan, MemoryUse, check_fits, memory_plan
from minicnn.nn import Module
from minicnn.ops.precision import precision
from minicnn.optim import SGD
from minicnn.progress import Progress
from minicnn.run_folder import RunFolder
from minicnn.schedules import Schedule
from minicnn.step import Step
from minicnn.totals import Totals

PREFETCH = 2  # batches that are prepared ahead
READ_EVERY = 20  # steps between two looks at losses that a GPU is still computing
AUGMENTATIONS = {"mirror": datasets.Augment(mirror=True), "none": datasets.Augment()}


@dataclass(frozen=True)
class Settings:
    """How a run trains: what config.json records, and what --resume goes on with."""

    epochs: int = 10
    batch_size: int = 64
    micro_batch: int | None = None  # images at a time, whose gradients add up to the batch's; None: the batch at once
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dialect: str = "torch"
    schedule: str = "linear"
    warmup_steps: int = 50
    clip_norm: float | None = 5.0
    label_smoothing: float = 0.0
    augment: str = "mirror"
    precision: str = "float32"
    digest_every: int = 50  # steps between two digests of the weights in steps.jsonl, beside those at epochs' ends
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "micro_batch", "digest_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}")
        if self.augment not in AUGMENTATIONS:
            raise ValueError(f"unknown augment {self.augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
        precision(self.precision)  # refuses an unknown one


@dataclass
class History:
    """What a run did: one row an epoch (as in metrics.jsonl), the result on the test images, and where the files are."""

    folder: Path
    epochs: list[dict] = field(default_factory=list)
    test: evaluation.Score | None = None
    linear_test_top1: float | None = None


def train(
    model,
    data=None,
    *,
    device="auto",
    workers=1,
    out=None,
    resume=False,
    quiet=False,
    data_dir=None,
    image_size=None,
    memory_limit=None,
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
    memory_limit
              bytes that the run may take of the device's memory; by default what is free
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
    wanted = Path(out or Path("runs") / _name_of(model))
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
    trainer = Trainer(
        network.to(place), splits, settings, place, folder, Progress(quiet), workers, MemoryUse(plan, before)
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


def _name_of(model) -> str:
    """What a run of it is called: the constructor's name, or a Module's class in lower case."""
    return getattr(model, "name", type(model).__name__.lower()) if isinstance(model, Module) else model.__name__


@contextmanager
def _stop_on_interrupt():
    """Yields a function that says whether Ctrl-C was pressed: training stops between two steps, not inside one."""
    pressed = []

    def note(*_):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: Ctrl-C does not arrive here
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """One run: its network, optimizer, schedule and place in the data."""

    def __init__(
        self,
        network: Module,
        splits,
        settings: Settings,
        device,
        folder: RunFolder,
        progress: Progress,
        workers: int,
        memory_use: MemoryUse,
    ):
        self.network, self.splits, self.settings = network, splits, settings
        self.device, self.folder, self.progress, self.memory_use = device, folder, progress, memory_use
        self.classes = len(splits.class_names)
        self.statistics = datasets.ChannelStatistics.of(splits.train)
        self.loader = datasets.Loader(
            splits.train,
            min(settings.batch_size, len(splits.train)),
            datasets.Prepare(self.statistics, AUGMENTATIONS[settings.augment]),
            shuffle=True,
            drop_last=True,
            seed=settings.seed,
            prefetch=PREFETCH if workers else 0,
            workers=workers or 1,
        )
        self.optimizer = SGD(
            network.parameters(),
            settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            dialect=settings.dialect,
        )
        self.step = Step(
            network,
            self.optimizer,
            settings.label_smoothing,
            settings.clip_norm,
            settings.micro_batch,
            settings.precision,
        )
        self.steps_per_epoch = len(self.loader)
        self.schedule = Schedule(
            settings.schedule, settings.lr, settings.epochs * self.steps_per_epoch, settings.warmup_steps
        )
        self.history = History(folder.path)
        self.epoch, self.batch, self.best_top1 = 0, 0, -1.0
        self.totals = Totals()

    @property
    def step_number(self) -> int:
        return self.epoch * self.steps_per_epoch + self.batch

    def run(self) -> History:
        self.introduce()
        self.progress.start(self.schedule.total_steps, self.step_number)
        try:
            with _stop_on_interrupt() as interrupted:
                while self.epoch < self.settings.epochs:
                    self.train_epoch(interrupted)
                    if interrupted():
                        self.save(self.folder.last)
                        raise KeyboardInterrupt(
                            f"stopped after step {self.step_number}, saved in {self.folder.path}/; --resume goes on"
                        )
        finally:
            self.progress.stop()
        self.progress.say(self.memory_use.of(self.device))
        self.report()
        return self.history

    @property
    def title(self) -> str:
        """The network's name, and its form where it has several."""
        form = getattr(self.network, "form", None)
        return _name_of(self.network) + (f" ({form} form)" if form else "")

    def config(self) -> dict:
        """What config.json records: all that the run's bytes depend on, and what tells its images from others."""
        return {
            "model": saving.identity(self.network),
            "data": self.splits.name,
            "images": {"training": len(self.splits.train), "mean": list(self.statistics.mean)},
            "device": self.device.name,
            "settings": asdict(self.settings),
            "environment": provenance.environment(),
        }

    def introduce(self) -> None:
        n, h, w, c = (len(self.splits.train), *self.splits.image_shape)
        parts = [f"{n:,} training"]
        parts += [
            f"{len(s):,} {name}"
            for name, s in (("validation", self.splits.validation), ("test", self.splits.test))
            if s
        ]
        parameters = sum(p.size for p in self.network.parameters())
        numbers = "" if self.settings.precision == "float32" else f", in {self.settings.precision}"
        self.progress.say(f"{self.title}: {parameters:,} parameters, on {self.device.name}{numbers}")
        self.progress.say(f"{self.splits.name}: {', '.join(parts)} images, {h}x{w}x{c}, {self.classes} classes")
        self.progress.say(self.memory_use.foreseen())
        self.progress.say(f"files: {self.folder.path}/")

    def train_epoch(self, interrupted) -> None:
        """From self.batch to the end of the epoch, or to the step after Ctrl-C inside it."""
        self.network.train()
        started, already = time.perf_counter(), self.totals.images
        for images, labels in self.loader.iterate(self.epoch, start_batch=self.batch):
            self.train_step(images, labels)
            seconds = time.perf_counter() - started
            speed = (self.totals.images - already) / seconds
            wait = self.loader.waited / seconds
            self.progress.update(
                self.step_number,
                f"epoch {self.epoch + 1}/{self.settings.epochs}",
                loss=self.totals.mean_loss,
                top1=self.totals.top1,
                lr=self.optimizer.lr,
                images_per_second=speed,
                data_wait=wait,
            )
            if interrupted() and self.batch < self.steps_per_epoch:
                self.read_losses()
                return
        self.read_losses()
        self.end_epoch(seconds, (self.totals.images - already) / seconds, wait)

    def train_step(self, images: datasets.ImageBatch, labels: np.ndarray) -> None:
        self.optimizer.lr = self.schedule.at(self.step_number)
        parts = self.step(images, labels)
        self.batch += 1
        self.totals.add(self.row(), parts)
        if self.device.computes_on_host or self.step_number % READ_EVERY == 0:
            self.read_losses()

    def row(self) -> dict:
        """What steps.jsonl says of the step just made, but for its loss, which may still be being computed."""
        row = {"step": self.step_number, "lr": self.optimizer.lr}
        if self.step.loss_scale is not None:
            row["loss_scale"] = self.step.loss_scale.value
        if self.step_number % self.settings.digest_every == 0 or self.batch == self.steps_per_epoch:
            row["digest"] = digests.of_network(self.network)
        return row

    def read_losses(self) -> None:
        self.folder.append(self.folder.steps, self.totals.read())

    def end_epoch(self, seconds: float, images_per_second: float, data_wait: float) -> None:
        row = {
            "epoch": self.epoch + 1,
            "step": self.step_number,
            "train_loss": self.totals.mean_loss,
            "train_top1": self.totals.top1,
        }
        if self.splits.validation is not None:
            score = self.score(self.splits.validation)
            row |= {"val_loss": score.loss, "val_top1": score.top1, "val_top5": score.top5}
        row |= {
            "lr": self.optimizer.lr,
            "images_per_second": images_per_second,
            "data_wait": data_wait,
            "seconds": seconds,
        }
        watched = row.get("val_top1", row["train_top1"])
        self.schedule.epoch_ended(1 - watched)
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()
        self.history.epochs.append(row)
        self.folder.append(self.folder.metrics, [row])
        if watched > self.best_top1:
            self.best_top1 = watched
            self.save(self.folder.best)
        self.save(self.folder.last)
        self.draw()
        self.tell(row)

    def score(self, split) -> evaluation.Score:
        """In the precision of the run; as many images at a time as training takes: it needs less memory for each."""
        batch = min(evaluation.BATCH, self.settings.batch_size, self.settings.micro_batch or evaluation.BATCH)
        with precision(self.settings.precision):
            return evaluation.score(self.network, split, self.statistics, self.device, batch=batch)

    def tell(self, row: dict) -> None:
        validation = f"  validation loss {row['val_loss']:.4f} top-1 {row['val_top1']:.4f}" if "val_loss" in row else ""
        self.progress.say(
            f"epoch {row['epoch']:>3}/{self.settings.epochs}  loss {row['train_loss']:.4f} top-1 {row['train_top1']:.4f}"
            f"{validation}  lr {row['lr']:.2g}  {row['images_per_second']:,.0f} images/s  "
            f"waiting for data {row['data_wait']:.0%}  {row['seconds']:.1f} s"
        )
        if abs(row["train_loss"] - math.log(self.classes)) < 0.01 * math.log(self.classes):
            self.progress.say(
                f"the loss sits at ln({self.classes}) = {math.log(self.classes):.4f}: nothing is learned so far. "
                "Try initialize='he', another lr, or look at the images"
            )

    def draw(self) -> None:
        if not plots.available():
            return
        plots.curves(self.history.epochs, self.folder.curves, f"{_name_of(self.network)} on {self.splits.name}")
        first = next((p for name, p in self.network.named_parameters() if p.ndim == 4), None)
        if first is not None:
            plots.filters(first.numpy(), self.folder.filters, f"first-layer filters after epoch {self.epoch}")

    def report(self) -> None:
        """The last lines of a run: the result on images that nothing was chosen by, beside a linear classifier's."""
        split, what = (
            (self.splits.test, "test") if self.splits.test is not None else (self.splits.validation, "validation")
        )
        if split is None:
            self.progress.say(f"files: {self.folder.path}/ (no validation or test images: no accuracy to report)")
            return
        score = self.history.test = self.score(split)
        chance = np.bincount(split.labels).max() / len(split)
        if score.top1 <= 1.1 * chance:
            raise TrainingError(
                f"{what} accuracy {score.top1:.4f} is no better than always naming one class ({chance:.4f}): "
                "the network has learned nothing. Try initialize='he', another lr or more epochs"
            )
        self.history.linear_test_top1 = evaluation.linear_classifier(self.splits, split)
        self.progress.say(
            f"a linear classifier on the same images reaches {what} accuracy {self.history.linear_test_top1:.4f}"
        )
        pictures = ", curves.png, filters.png" if plots.available() else " (pictures need matplotlib)"
        self.progress.say(f"files in {self.folder.path}/: last.safetensors, best.safetensors, metrics.jsonl{pictures}")
        self.progress.say(
            f"{what} accuracy {score.top1:.4f} ({score.correct} of {score.count}), top-5 {score.top5:.4f}"
        )

    def save(self, path: Path) -> None:
        state = checkpoint.with_prefix("model.", self.network.state_dict())
        state |= checkpoint.with_prefix("optimizer.", self.optimizer.state_dict())
        description = saving.description(self.network, self.splits, self.statistics) | {
            "settings": asdict(self.settings),
            "place": {"epoch": self.epoch, "batch": self.batch, "best_top1": self.best_top1},
            "totals": {"images": self.totals.images, "loss": self.totals.loss, "correct": self.totals.correct},
            "schedule": asdict(self.schedule),
        }
        if self.step.loss_scale is not None:
            description["loss_scale"] = asdict(self.step.loss_scale)
        checkpoint.write(path, state, description)

    def restore(self) -> None:
        """Go on from last.safetensors: the steps after it are computed again, to the same bytes."""
        state, description = checkpoint.read(self.folder.last)
        saving.check_fits(description, self.network, self.splits, self.folder.last)
        self.network.load_state_dict(checkpoint.without_prefix("model.", state))
        self.optimizer.load_state_dict(checkpoint.without_prefix("optimizer.", state))
        place = description["place"]
        self.epoch, self.batch, self.best_top1 = place["epoch"], place["batch"], place["best_top1"]
        self.totals = Totals(**description["totals"])
        self.schedule = Schedule(**description["schedule"])
        if self.step.loss_scale is not None:
            self.step.loss_scale = LossScale(**description.get("loss_scale", {}))
        self.schedule.total_steps = self.settings.epochs * self.steps_per_epoch
        self.folder.forget_after(self.step_number)
        self.history.epochs = self.folder.rows(self.folder.metrics)
