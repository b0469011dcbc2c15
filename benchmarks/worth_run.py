"""One run of benchmarks/worth.py: a method, a budget, a rate and a seed, from the first net to the test loss."""

import contextlib
import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.worth_data import Data, Stream
from benchmarks.worth_methods import Method, Schedule, Stage
from benchmarks.worth_nets import built, flops_of, larger, loss_of, optimizer_of
from benchmarks.worth_settings import BUDGETS, Key, Net, Settings

CLIP = 1.0  # of the norm of the gradients, for text


def rate_at(schedule: Schedule, spent: float, of: Settings) -> float:
    """The rate after a part of the budget, as a part of the highest. It rises first, and ends at zero.

    "cosine" falls all the time; "wsd" (warm-up, stable, decay) is constant and falls linearly at the end.
    """
    spent = min(1.0, spent)
    rising = min(1.0, spent / of.warmup)
    if schedule == "cosine":
        falling = max(0.0, (spent - of.warmup) / (1 - of.warmup))
        return rising * 0.5 * (1 + math.cos(math.pi * falling))
    return min(rising, (1 - spent) / of.decay)


def clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, where other jobs may run; else of the clock on the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


@torch.no_grad()
def evaluated(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """The mean loss in eval mode, and the predictions."""
    model.eval()
    total, predictions = 0.0, []
    for inputs, classes in zip(x.split(128), y.split(128), strict=True):
        outputs = model(inputs)
        total += float(loss_of(outputs, classes).double()) * len(inputs)
        predictions.append(outputs.argmax(-1))
    return total / len(x), torch.cat(predictions)


def batch_in(of: Settings, method: Method, net: Net) -> int:
    """Examples of a step of a net in a method."""
    return of.batch_of(net) if method.doubled else of.batch


def budget_of(of: Settings, name: str) -> float:
    """FLOPs, forward and backward."""
    return BUDGETS[name] * of.examples * flops_of(of, of.big)


class Run:
    """The state of one run.

    Attributes:
        spent: FLOPs that count.
        free: FLOPs of a free teacher.
        seconds: Of training and growing, without evaluation.
        growing: Of growing alone.
    """

    def __init__(self, of: Settings, method: Method, key: Key, data: Data) -> None:
        self._of, self._method, self._key, self._data = of, method, key, data
        self._device = data.test.device
        self._budget = budget_of(of, key.budget)
        self._stream = Stream(of, data, key.seed)
        torch.manual_seed(key.seed)
        self.model = self._placed(built(of, method.stages[0].net))
        self.optimizer = optimizer_of(of, self.model)
        self.spent = self.free = self.seconds = self.growing = self.free_seconds = 0.0
        self.growths: list[dict[str, Any]] = []
        self.steps: list[int] = []
        self._watched = data.test[: of.watched], data.test_classes[: of.watched]

    def _placed(self, model: nn.Module) -> nn.Module:
        """On the device; images run faster with channels last."""
        if self._of.track == "images":
            return model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
        return model.to(self._device)

    def make(self) -> dict[str, Any]:
        """Train through all stages, and test."""
        ends, old = 0.0, None
        for stage in self._method.stages:
            if old is not None:
                self._grow(old, stage)
            ends += 0 if stage.free else stage.part * self._budget
            self._train(stage, stage.part * self._budget if stage.free else ends, after=old is not None)
            old = stage
        loss, predictions = evaluated(self.model, self._data.test, self._data.test_classes)
        right = (predictions == self._data.test_classes).double().mean()
        return {
            "loss": loss if math.isfinite(loss) else None,  # None: it has diverged
            "accuracy": 100 * float(right),
            "flops": self.spent,
            "budget": self._budget,
            "free_flops": self.free,
            "seconds": self.seconds,
            "free_seconds": self.free_seconds,
            "growing": self.growing,
            "steps": self.steps,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "growths": self.growths,
        }

    def seconds_of(self, size: int, steps: int) -> float:
        """How long some steps of `size` examples take, at a tenth of the rate."""
        started = clock(self._device)
        for _ in range(steps):
            self._step(size, 0.1 * self._of.rate)
        return clock(self._device) - started

    def _grow(self, old: Stage, new: Stage) -> None:
        loss, before = evaluated(self.model, *self._watched)
        started = clock(self._device)
        self.model, self.optimizer = larger(
            self._of, self._method, self.model, self.optimizer, old.net, new.net, self._key.seed
        )
        self._placed(self.model)
        took = clock(self._device) - started
        if old.free:  # the teacher is free, and the student has a run of its own
            self.free, self.free_seconds = self.spent, self.seconds
            self.spent = self.seconds = 0.0
        self.seconds += took
        self.growing += took
        grown_loss, after = evaluated(self.model, *self._watched)
        self.growths.append(
            {
                "net": asdict(new.net),
                "flops": self.spent,
                "changed": int((before != after).sum()),
                "predictions": before.numel(),
                "loss_before": loss,
                "loss_after": grown_loss,
            }
        )

    def _train(self, stage: Stage, end: float, *, after: bool) -> None:
        """Steps until the FLOPs are spent, to the nearest step."""
        of = self._of
        size = batch_in(of, self._method, stage.net)
        cost = size * flops_of(of, stage.net)
        highest = self._key.rate * of.rate
        if self._method.scaled:
            highest *= (size / of.batch) ** (1 if of.track == "images" else 0.5)
        steps = 0
        started = clock(self._device)
        while self.spent + cost / 2 < end:
            middle = (self.spent + cost / 2) / self._budget
            self._step(size, highest * rate_at(self._method.schedule, middle, of))
            self.spent += cost
            steps += 1
            if after and steps == of.after:
                self.seconds += clock(self._device) - started
                self._watch(steps)
                started = clock(self._device)
        self.seconds += clock(self._device) - started
        if after and steps < of.after:
            self._watch(steps)
        self.steps.append(steps)

    def _watch(self, steps: int) -> None:
        loss, _ = evaluated(self.model, *self._watched)
        self.growths[-1] |= {"steps": steps, "loss_then": loss}

    def _step(self, size: int, rate: float) -> None:
        x, y = self._stream.take(size)
        if self._of.track == "images":
            x = x.to(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        amp = torch.autocast(self._device.type, torch.bfloat16) if self._of.amp else contextlib.nullcontext()
        with amp:
            loss = loss_of(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        if self._of.track == "text":
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
