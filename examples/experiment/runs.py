"""An experiment of several runs that grow from each other: performed for each seed, recorded, and gone on with.

A run trains a net: a new one, or what `fxgrow.grow` makes of an earlier run's trained net. Before the first epoch a
student must predict, image by image, what the net that it grew from predicts; only baselines may not.
"""

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import fxgrow
from experiment.data import Data
from experiment.training import (
    Epoch,
    Loss,
    Record,
    Score,
    difference,
    epoch,
    evaluate,
    flops,
    outputs,
    parameters,
    score,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A net and how it is trained: SGD with momentum, its state new for each run.

    Args:
        name: as the tables call it.
        epochs: through the training images.
        rate: the learning rate.
        momentum: of SGD.
        parent: the run whose trained net this one grows from; None: a new net, drawn after growth.
        spec: what grows, as `fxgrow.grow` takes it; (): nothing.
        method: how new channels are filled.
        exact: it must predict what its parent predicts; False for a baseline.
        rival: the run of the same net from scratch.
    """

    name: str
    epochs: int
    rate: float
    momentum: float
    parent: str | None = None
    spec: Any = ()
    method: str = "split"
    exact: bool = True
    rival: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Runs in the order in which they grow from each other.

    Args:
        name: of its files.
        net: the class of the teacher.
        runs: each after its parent.
        batch: images a step.
        loss: of the net's outputs and the classes.
        draw: draws the parameters of one layer; None: as torch.nn does.
    """

    name: str
    net: type[nn.Module]
    runs: tuple[Run, ...]
    batch: int
    loss: Loss = F.cross_entropy
    draw: Callable[[nn.Module], None] | None = None

    def run(self, name: str) -> Run:
        """The run of a name."""
        return next(run for run in self.runs if run.name == name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave.

    Args:
        run: its name.
        seed: its seed.
        parameters: of its net.
        flops: of a forward and backward pass for one image.
        before: the test images before the first epoch.
        changed: test images that it classified differently from its parent before the first epoch.
        error: the largest difference of their outputs, relative to the largest output.
        epochs: in order.
        seconds: of its epochs.
    """

    run: str
    seed: int
    parameters: int
    flops: float
    before: Score
    changed: int | None
    error: float | None
    epochs: tuple[Epoch, ...]
    seconds: float

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Before the first epoch, and after each."""
        return self.before.accuracy, *(e.test.accuracy for e in self.epochs)

    @classmethod
    def read(cls, kept: dict[str, Any]) -> "Outcome":
        """From a record."""
        epochs = tuple(Epoch(e["train_loss"], Score(**e["test"])) for e in kept["epochs"])
        return cls(**{**kept, "before": Score(**kept["before"]), "epochs": epochs})


class FunctionChangedError(AssertionError):
    """A student predicts something else than its teacher."""


def perform(
    experiment: Experiment, data: Data, seeds: Sequence[int], record: Record, *, bars: bool = True
) -> list[Outcome]:
    """All runs for all seeds, but for those that the record holds.

    Args:
        experiment: what to run.
        data: on the device to train on.
        seeds: of weights, growth, dropout and the order of images.
        record: gets each run as it ends; weights that others grow from are kept beside its file.
        bars: show progress.

    Raises:
        FunctionChangedError: growing changed a prediction.
    """
    for seed in seeds:
        for run in experiment.runs:
            if f"{seed}/{run.name}" not in record:
                folder = record.path.parent
                record.add(f"{seed}/{run.name}", _perform(experiment, run, data, seed, folder, bars))
    return [Outcome.read(record[f"{seed}/{run.name}"]) for seed in seeds for run in experiment.runs]


def _perform(experiment: Experiment, run: Run, data: Data, seed: int, folder: Path, bars: bool) -> Outcome:
    images = data.train_x[:2]
    torch.manual_seed(1000 * seed + experiment.runs.index(run))  # of new weights and of dropout
    parent = _trained(experiment, run.parent, images, seed, folder) if run.parent is not None else None
    model = _net(experiment, run, parent, images, seed)
    given = outputs(model, data.test_x)
    changed, error = None, None
    if parent is not None:
        apart = difference(outputs(parent, data.test_x), given)
        changed, error = int(apart["changed"]), apart["error"]
        if run.exact and changed:
            raise FunctionChangedError(
                f"{run.name}, seed {seed}: {changed} of {len(given)} test images are classified differently from "
                f"{run.parent!r} before the first epoch; the largest relative error of an output is {error:.1e}"
            )
    before, cost = score(given, data.test_y, experiment.loss), flops(model, images, data.train_y[:2])
    epochs, seconds = _train(experiment, run, model, data, seed, bars)
    if any(other.parent == run.name for other in experiment.runs):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), _weights(folder, seed, run.name))
    return Outcome(run.name, seed, parameters(model), cost, before, changed, error, epochs, seconds)


def _train(
    experiment: Experiment, run: Run, model: nn.Module, data: Data, seed: int, bars: bool
) -> tuple[tuple[Epoch, ...], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=run.rate, momentum=run.momentum)
    order = torch.Generator().manual_seed(1000 * seed + experiment.runs.index(run))
    done, start = [], time.perf_counter()
    bar = tqdm(range(run.epochs), desc=f"seed {seed}: {run.name:<30}", unit="epoch", disable=not bars, ncols=110)
    for _ in bar:
        loss = epoch(model, data.train_x, data.train_y, optimizer, experiment.batch, order, loss=experiment.loss)
        done.append(Epoch(loss, evaluate(model, data.test_x, data.test_y, loss=experiment.loss)))
        bar.set_postfix(loss=f"{loss:.3f}", test=f"{done[-1].test.accuracy:.2f} %")
    return tuple(done), time.perf_counter() - start


def _net(experiment: Experiment, run: Run, parent: nn.Module | None, images: Tensor, seed: int) -> nn.Module:
    """The net of a run before its first epoch, on the device of the images.

    Channels last: the same numbers in another order of memory, in which a CPU pools and convolves these nets faster
    (measured: the PyTorch notebook's teacher by 26 %, the Keras notebook's by 45 %).
    """
    net = parent if parent is not None else experiment.net().to(images.device)
    if run.spec:
        net = fxgrow.grow(net, run.spec, images, seed=seed, method=run.method)
    if parent is None or not run.exact:  # a baseline's new layers are drawn as those of a new net
        draw(net, experiment, {name for name, _ in parent.named_modules()} if parent is not None else ())
    net.to(memory_format=torch.channels_last)
    return net


def draw(net: nn.Module, experiment: Experiment, but: Container[str] = ()) -> None:
    """Draw the parameters of all layers but some anew, in place, as the experiment says."""
    for name, layer in net.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        if name not in but and callable(reset):
            reset()
            if experiment.draw is not None:
                experiment.draw(layer)


def untrained(experiment: Experiment, run: Run, images: Tensor, seed: int) -> nn.Module:
    """The net of a run, with random weights."""
    parent = untrained(experiment, experiment.run(run.parent), images, seed) if run.parent is not None else None
    return _net(experiment, run, parent, images, seed)


def _trained(experiment: Experiment, name: str, images: Tensor, seed: int, folder: Path) -> nn.Module:
    """The net of a finished run: built as it was, with the weights that were kept."""
    with torch.random.fork_rng():
        net = untrained(experiment, experiment.run(name), images, seed)
    net.load_state_dict(torch.load(_weights(folder, seed, name), weights_only=True, map_location=images.device))
    return net


def seconds_an_epoch(experiment: Experiment, run: Run, data: Data, steps: int = 100) -> float:
    """Processor time of an epoch of training, from some of its steps."""
    net = untrained(experiment, run, data.train_x[:2], 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=run.rate, momentum=run.momentum)

    def train(count: int) -> float:
        start = time.process_time()
        images, classes = data.train_x[: count * experiment.batch], data.train_y[: count * experiment.batch]
        epoch(net, images, classes, optimizer, experiment.batch, torch.Generator().manual_seed(0), loss=experiment.loss)
        return (time.process_time() - start) / len(images) * len(data.train_x)

    train(5)  # the first steps also choose and compile kernels
    return train(steps)


def _weights(folder: Path, seed: int, name: str) -> Path:
    return folder / f"{seed} {name}.pt"
