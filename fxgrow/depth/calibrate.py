"""Calibration: the mean and variance of activations over batches of data, for norms that start as the identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..base.progress import advance, step
from ..base.structures import has_values
from ..base.wording import a_type
from ..errors import PlanError, in_words
from ..model.call_args import taken
from ..model.layer_kinds import BATCH_NORM, is_a
from ..model.partition import local_part, partition_of
from ..model.sharded import is_dtensor
from ..model.tree import set_training
from ..model.walk import modules


class _Moments:
    """Mean and variance per channel over all batches so far, float64.

    Source: the pairwise update of Chan, Golub, LeVeque (1979).
    """

    def __init__(self) -> None:
        self.number = 0
        self.mean = self.squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Add a batch of shape (N, C, ...)."""
        rows = x.detach().double().transpose(0, 1).flatten(1)  # (C, N * ...)
        number = rows.shape[1]
        if not number:
            return
        mean = rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1)
        if self.number:
            difference = mean - self.mean
            total = self.number + number
            squares = self.squares + squares + difference.square() * (self.number * number / total)
            mean = self.mean + difference * (number / total)
        self.number, self.mean, self.squares = self.number + number, mean, squares

    @property
    def variance(self) -> Tensor:
        """The biased variance per channel, shape (C,)."""
        return self.squares / self.number


def check_batches(batches: object) -> None:
    """Whether batches can be iterated over.

    Raises:
        PlanError: They cannot.
    """
    if not isinstance(batches, Iterable):
        raise PlanError(f"calibration is {a_type(batches)}; expected an iterable of batches")


def calibrate(student: nn.Module, new: Iterable[str], batches: Iterable[Any]) -> None:
    """Initialise the norms of new identity layers with the mean and variance of their inputs over all batches.

    A norm normalises by these statistics and its weight and bias invert that: the identity in eval mode, and
    approximately in train mode. Runs the student in eval mode and restores the mode of each module.

    Args:
        student: The student, with the new layers inserted; its new norms are changed in place.
        new: The paths of the layers whose norms are calibrated.
        batches: Inputs as for `trace`; of a tuple (such as images and labels) the entries that `forward` takes.

    Raises:
        PlanError: There is no batch, the student does not run on one, or the statistics overflow the dtype.
    """
    norms = {student.get_submodule(f"{path}.norm"): _Moments() for path in new}
    batches = as_batches(batches)
    with step("calibrating"), _recorded(norms), _in_eval_mode(student):
        _run_on_all(student, batches)
    for norm, moments in norms.items():
        if not moments.number:
            raise PlanError(
                "calibration has no batches; an iterator is empty after its first use, so give a list or a DataLoader"
            )
        values = _of_identity(norm, moments)
        if not all(bool(value.isfinite().all()) for _, value in values):
            raise PlanError(
                f"the variance of the calibration data is not finite in {next(norm.parameters()).dtype}; calibrate "
                "with scaled inputs or in another dtype"
            )
        for tensor, value in values:
            _set(tensor, value)


def as_batches(batches: Iterable[Any]) -> Iterable[Any]:
    """Batches to go through, where one batch alone may be given."""
    return [batches] if isinstance(batches, Tensor | Mapping) else batches


@contextmanager
def _recorded(norms: Mapping[nn.Module, _Moments]) -> Iterator[None]:
    """Inside, each norm adds its input to its moments and returns it unchanged."""

    def record(norm: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        norms[norm].add(args[0])
        return args[0]  # later layers must not depend on statistics that are not known yet

    handles = [norm.register_forward_hook(record) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in modules(model)]
    try:
        model.eval()
        yield
    finally:
        model.train(modes[0][1])
        for module, training in modes:
            set_training(module, training=training)


def _run_on_all(student: nn.Module, batches: Iterable[Any]) -> None:
    try:
        with torch.no_grad():
            for batch in batches:
                args, kwargs = taken(student, batch)
                if not has_values((args, kwargs)):
                    raise PlanError("a batch of the calibration is on the meta device and has no values; give others")
                student(*args, **kwargs)
                advance()
    except PlanError:
        raise
    except Exception as error:  # also where the student's guards refuse a batch
        raise PlanError(
            f"the student does not run on a batch of the calibration: {in_words(error)}; give an "
            "iterable of batches, such as a DataLoader, with as many channels as the student takes"
        ) from error


def _of_identity(norm: Any, moments: _Moments) -> list[tuple[Tensor, Tensor]]:
    """The statistics of a norm, and the weight and bias that invert the normalisation; each with what it is to be."""
    mean, variance, values = moments.mean, moments.variance, []
    if is_a(norm, BATCH_NORM):
        rounded = variance.to(norm.running_var.dtype)
        values = [(norm.running_mean, mean.to(norm.running_mean.dtype)), (norm.running_var, rounded)]
        variance = rounded.double()
    weight = (variance + norm.eps).sqrt().to(norm.weight.dtype)
    return [*values, (norm.weight, weight), (norm.bias, mean.to(norm.bias.dtype))]


@torch.no_grad()
def _set(tensor: Tensor, value: Tensor) -> None:
    """Write a vector, or this process's part of it."""
    if not is_dtensor(tensor):
        tensor.copy_(value)
        return
    partition = partition_of(tensor, "a norm")
    start, stop = (0, len(value)) if partition.dim is None else partition.own(len(value))
    local_part(tensor).copy_(value[start:stop])
