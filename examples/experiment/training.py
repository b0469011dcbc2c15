"""Epochs, evaluation, the cost of training, and a record that a killed run goes on from.

The data are tensors on the device of the model, so that an epoch is a seeded permutation cut into batches, with no
loader beside it: the same seed gives the same batches on every device.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Loss = Callable[[Tensor, Tensor], Tensor]
EVALUATED_AT_ONCE = 250  # images; larger ones leave the cache of a CPU


@dataclass(frozen=True, slots=True)
class Score:
    """What a net does on images that it was not trained on.

    Args:
        loss: the mean over the images.
        accuracy: per cent.
    """

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: the mean loss while it trained, and the test images after it."""

    train_loss: float
    test: Score


def epoch(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    optimizer: torch.optim.Optimizer,
    batch: int,
    generator: torch.Generator,
    *,
    loss: Loss = F.cross_entropy,
    after_step: Callable[[], object] | None = None,
) -> float:
    """Train for one epoch, in place and in train mode.

    Args:
        model: on the device of the images.
        images: (N, C, H, W).
        classes: (N,).
        optimizer: of the model's parameters.
        batch: images a step; the last step takes what is left.
        generator: draws the order of the images; on the CPU.
        loss: of outputs and classes, its mean over the batch.
        after_step: called after each step (a learning rate's schedule).

    Returns:
        The mean loss over the images, each before the step that it was used in.
    """
    model.train()
    total = torch.zeros((), device=images.device)
    for chosen in torch.randperm(len(images), generator=generator).to(images.device).split(batch):
        value = loss(model(images[chosen]), classes[chosen])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if after_step is not None:
            after_step()
        total += value.detach() * len(chosen)
    return float(total / len(images))


@torch.no_grad()
def outputs(model: nn.Module, images: Tensor) -> Tensor:
    """What the model gives in eval mode, (N, classes)."""
    model.eval()
    return torch.cat([model(part) for part in images.split(EVALUATED_AT_ONCE)])


def score(given: Tensor, classes: Tensor, loss: Loss = F.cross_entropy) -> Score:
    """Loss and accuracy of outputs (N, classes)."""
    hits = (given.argmax(1) == classes).double().mean()
    return Score(float(loss(given, classes)), 100 * float(hits))


def difference(before: Tensor, after: Tensor) -> dict[str, float]:
    """Of class scores (N, 10): how many images get another class, and max |after - before| / max |before|."""
    return {
        "changed": int((before.argmax(1) != after.argmax(1)).sum()),
        "error": float((after - before).abs().max() / before.abs().max()),
    }


def evaluate(model: nn.Module, images: Tensor, classes: Tensor, *, loss: Loss = F.cross_entropy) -> Score:
    """Loss and accuracy in eval mode."""
    return score(outputs(model, images), classes, loss)


def parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


def flops(model: nn.Module, images: Tensor, classes: Tensor, *, loss: Loss = F.cross_entropy) -> float:
    """FLOPs of one forward and backward pass for one image, as torch counts them (two for a multiply-add).

    They are counted on a few images and divided; the gradients that this leaves are removed.
    """
    few = slice(0, 8)
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        loss(model.train()(images[few]), classes[few]).backward()
    model.zero_grad()
    total: int = counter.get_total_flops()
    return total / len(images[few])


class Record:
    """A JSON file of finished runs, written after each.

    Args:
        path: the file; what it holds is read if its settings are these.
        settings: all that the results depend on.

    Raises:
        ValueError: the file was made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self._runs: dict[str, dict[str, Any]] = {}
        if path.exists():
            read = json.loads(path.read_text())
            if read["settings"] != self.settings:
                raise ValueError(f"{path} was made with other settings: {read['settings']}, not {self.settings}")
            self._runs = read["runs"]

    def __contains__(self, key: str) -> bool:
        return key in self._runs

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._runs[key]

    def add(self, key: str, run: Any) -> None:
        """Add a finished run (a dataclass) and write the file: whole, or not at all."""
        self._runs[key] = asdict(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(self.text(self._runs))
        scratch.replace(self.path)

    def text(self, keys: Iterable[str]) -> str:
        """The JSON of some of the runs, a line for each."""
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(self._runs[key])}" for key in keys)
        return f'{{"settings": {json.dumps(self.settings)},\n"runs": {{\n{lines}\n}}}}\n'
