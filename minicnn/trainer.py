"""One training run: the loop between a network and its images, what it says, and what it leaves in its folder."""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from minicnn import checkpoint, digests, evaluation, optim, plots, provenance, random, saving
from minicnn import data as datasets
from minicnn.errors import TrainingError
from minicnn.loss_scale import LossScale
from minicnn.memory_plan import MemoryUse
from minicnn.nn import Module
from minicnn.ops.precision import precision
from minicnn.progress import Progress
from minicnn.resident import PrepareResident, ResidentBatch, ResidentImages
from minicnn.run_folder import RunFolder
from minicnn.schedules import Schedule
from minicnn.settings import Settings
from minicnn.step import GraphedStep, Step
from minicnn.summary import memory
from minicnn.totals import Totals

PREFETCH = 2  # batches that are prepared ahead
READ_EVERY = 20  # steps between two looks at losses that a GPU is still computing


@dataclass
class History:
    """What a run did: one row an epoch (as in metrics.jsonl), the result on the test images, and where the files are."""

    folder: Path
    epochs: list[dict] = field(default_factory=list)
    test: evaluation.Score | None = None
    linear_test_top1: float | None = None


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
        statistics: datasets.ChannelStatistics | None = None,
        graph: bool = False,
        resident: bool = False,
    ):
        self.network, self.splits, self.settings = network, splits, settings
        self.device, self.folder, self.progress, self.memory_use = device, folder, progress, memory_use
        self.classes = len(splits.class_names)
        self.statistics = statistics or self._measured_statistics(max(workers, 1))
        transform = datasets.Prepare(self.statistics, settings.augmentation)
        if resident:
            transform = PrepareResident(self.statistics, settings.augmentation, splits.image_shape)
        self.loader = datasets.Loader(
            splits.train,
            min(settings.batch_size, len(splits.train)),
            transform,
            shuffle=True,
            drop_last=True,
            seed=settings.seed,
            prefetch=PREFETCH,
            workers=workers,
            worker_type="thread" if resident else "auto",  # who reads nothing needs no processes
        )
        self.optimizer = optim.of_settings(network, settings)
        self.average = optim.Average(self.optimizer.arena, settings.ema) if settings.ema else None
        self.step = step_of(settings, network, self.optimizer, graph)
        self.resident = ResidentImages(splits.train, device) if resident else None
        if resident:
            self.step.prepare = self.resident.prepare
        self.steps_per_epoch = len(self.loader)
        self.schedule = Schedule(
            settings.schedule,
            settings.lr,
            settings.epochs * self.steps_per_epoch,
            settings.warmup_steps,
            settings.patience,
            settings.milestones,
            settings.drop,
        )
        self.history = History(folder.path)
        self.epoch, self.batch, self.best_top1 = 0, 0, -1.0
        self.totals = Totals()

    def _measured_statistics(self, workers: int) -> datasets.ChannelStatistics:
        with self.progress.counting("colours of the training images") as report:
            return datasets.ChannelStatistics.of(self.splits.train, workers=workers, report=report)

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
                        self.save_last()
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
        return name_of(self.network) + (f" ({form} form)" if form else "")

    def config(self) -> dict:
        """What config.json records: all that the run's bytes depend on, and what tells its images from others."""
        return {
            "model": saving.identity(self.network),
            "data": self.splits.name,
            "images": {"training": len(self.splits.train), "mean": list(self.statistics.mean)},
            "device": self.device.name,
            "settings": asdict(self.settings),
            "environment": provenance.environment(),
        } | ({"schedules": measured} if (measured := self.device.choices.measured) else {})

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
        if self.resident:
            self.progress.say(
                f"the training images stay on {self.device.name}: {memory(self.resident.images.data.nbytes)}"
            )
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
            if self.batch < self.steps_per_epoch:
                if interrupted():
                    self.read_losses()
                    return
                if self.settings.save_every and self.step_number % self.settings.save_every == 0:
                    self.save_last()
        self.read_losses()
        if self.step.why_none and self.epoch == 0:
            self.progress.say(f"no graph, kernels are queued one by one: {self.step.why_none}")
        self.end_epoch(seconds, (self.totals.images - already) / seconds, wait)

    def train_step(self, images: datasets.ImageBatch | ResidentBatch, labels: np.ndarray) -> None:
        self.optimizer.lr = self.schedule.at(self.step_number)
        parts = self.step(images, labels)
        self.batch += 1
        if self.average:
            self.average.update(self.step_number)
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
        self.save_last()
        self.draw()
        self.tell(row)

    def score(self, split) -> evaluation.Score:
        """In the precision of the run; as many images at a time as training takes: it needs less memory for each."""
        batch = min(evaluation.BATCH, self.settings.batch_size, self.settings.micro_batch or evaluation.BATCH)
        with precision(self.settings.precision), self.averaged():
            return evaluation.score(self.network, split, self.statistics, self.device, self.view, batch)

    def averaged(self):
        """Within it the network has the weights that the run is judged by and leaves: their average, if there is one."""
        return self.average.in_place() if self.average else nullcontext()

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width of what the network sees of an image."""
        return self.settings.augmentation.size(*self.splits.image_shape[:2])

    def view(self, images: np.ndarray) -> np.ndarray:
        """The centre of each image, as large as what the network was trained on: (N, H, W, C) -> (N, 1, h, w, C)."""
        top, left = ((whole - part) // 2 for whole, part in zip(images.shape[1:3], self.seen, strict=True))
        return images[:, None, top : top + self.seen[0], left : left + self.seen[1]]

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
        plots.curves(self.history.epochs, self.folder.curves, f"{name_of(self.network)} on {self.splits.name}")
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

    def save_last(self) -> None:
        """A checkpoint that --resume goes on from."""
        self.read_losses()
        self.folder.sync_rows()
        self.save(self.folder.last)
        self.folder.keep(self.step_number, self.settings.keep)

    def save(self, path: Path) -> None:
        """model.* is what the run is to be used with; trained.*, beside an average of the weights, what it goes on with."""
        with self.averaged():
            state = checkpoint.with_prefix("model.", self.network.state_dict())
        if self.average:
            state |= checkpoint.with_prefix("trained.", self.network.state_dict())
        state |= checkpoint.with_prefix("optimizer.", self.optimizer.state_dict())
        description = saving.description(self.network, self.splits, self.statistics) | {
            "settings": asdict(self.settings),
            "place": {"epoch": self.epoch, "batch": self.batch, "best_top1": self.best_top1},
            "totals": {"images": self.totals.images, "loss": self.totals.loss, "correct": self.totals.correct},
            "schedule": asdict(self.schedule),
            "random": random.state(),
            "image_shape": [*self.seen, self.splits.image_shape[2]],
        }
        if self.step.loss_scale is not None:
            description["loss_scale"] = asdict(self.step.loss_scale)
        checkpoint.write(path, state, description)

    def restore(self) -> None:
        """Go on from last.safetensors, or from the beginning where a run was killed before it had one: the steps after it
        are computed again, to the same bytes."""
        if not self.folder.last.exists():
            self.folder.forget_after(0)
            return
        state, description = self.read_last()
        saving.check_fits(description, self.network, self.splits, self.folder.last)
        self.network.load_state_dict(checkpoint.without_prefix("model.", state))
        if self.average:
            self.average.restart()
            self.network.load_state_dict(checkpoint.without_prefix("trained.", state))
        self.optimizer.load_state_dict(checkpoint.without_prefix("optimizer.", state))
        place = description["place"]
        self.epoch, self.batch, self.best_top1 = place["epoch"], place["batch"], place["best_top1"]
        self.totals = Totals(**description["totals"])
        random.set_state(description["random"])
        self.schedule = Schedule(**description["schedule"])
        if self.step.loss_scale is not None:
            self.step.loss_scale = LossScale(**description.get("loss_scale", {}))
        self.schedule.total_steps = self.settings.epochs * self.steps_per_epoch
        self.folder.forget_after(self.step_number)
        self.folder.keep(self.step_number, self.settings.keep)  # as the killed process was about to
        self.history.epochs = self.folder.rows(self.folder.metrics)

    def read_last(self) -> tuple[dict[str, np.ndarray], dict]:
        try:
            state, description = checkpoint.read(self.folder.last)
        except checkpoint.CheckpointError as error:
            older = self.folder.checkpoints()
            advice = f"; copy the one before it, {older[-1].name}, over it and resume again" if older else ""
            raise checkpoint.CheckpointError(f"{error}{advice}") from error
        if "place" not in description:
            raise checkpoint.CheckpointError(f"{self.folder.last} holds weights alone, no run that could be resumed")
        return state, description


def step_of(settings: Settings, network: Module, optimizer, graph: bool) -> Step:
    options = {
        "label_smoothing": settings.label_smoothing,
        "clip_norm": settings.clip_norm,
        "micro_batch": settings.micro_batch,
        "numbers": settings.precision,
        "step_in_backward": settings.step_in_backward,
    }
    if graph:
        return GraphedStep(network, optimizer, **options, kept=READ_EVERY)
    return Step(network, optimizer, **options)


def name_of(model) -> str:
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
