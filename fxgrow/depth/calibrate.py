"""Mean and variance of activations over batches of data, for new norms that undo what they normalise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import GrowError, PlanError
from ..model.call_args import taken
from ..model.layer_kinds import BATCH_NORM, is_a
from ..plans.changes import Insert


class _Moments:
    """Mean and variance per channel, over all batches so far.

    Source: the pairwise update of Chan, Golub, LeVeque (1979).
    """

    def __init__(self) -> None:
        self.number = 0
        self.mean = self.squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in a batch of shape (N, C, ...)."""
        rows = x.detach().double().transpose(0, 1).flatten(1)
        number = rows.shape[1]
        if not number:
            return
        mean = rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1)
        if self.number:
            apart = mean - self.mean
            total = self.number + number
            squares = self.squares + squares + apart.square() * (self.number * number / total)
            mean = self.mean + apart * (number / total)
        self.number, self.mean, self.squares = self.number + number, mean, squares

    @property
    def variance(self) -> Tensor:
        """Of the population."""
        return self.squares / self.number


def calibrate(student: nn.Module, new: Iterable[Insert], batches: Iterable[Any]) -> None:
    """Give the norms of new identity layers the mean and variance of what reaches them, over all batches.

    A batch norm then normalises by them and undoes that by its weight and bias: the identity in eval mode, and in
    train mode about that. Runs the student in eval mode; its mode is afterwards what it was.

    Args:
        student: With the changes made.
        new: The layers whose norms are to be calibrated.
        batches: Of inputs, as for `trace`; of a tuple (such as images and labels) what `forward` takes.

    Raises:
        PlanError: There is no batch, or the student does not run on one.
    """
    norms = {student.get_submodule(f"{one.path}.norm"): _Moments() for one in new}

    def seen(norm: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        norms[norm].add(args[0])
        return args[0]  # what the layers behind it get must not depend on statistics that are still to come

    given = [batches] if isinstance(batches, Tensor | Mapping) else batches
    if not isinstance(given, Iterable):
        raise PlanError(f"calibration is an iterable of batches, not a {type(batches).__name__}")
    handles = [norm.register_forward_hook(seen) for norm in norms]
    modes = [(module, module.training) for module in student.modules()]
    try:
        student.eval()
        with torch.no_grad():
            for batch in given:
                args, kwargs = taken(student, batch)
                student(*args, **kwargs)
    except GrowError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise PlanError(
            f"the student does not run on a batch of the calibration: {type(error).__name__}: {reason}; give an "
            "iterable of batches, such as a DataLoader, with as many channels as the student takes"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        student.train(modes[0][1])
        for module, training in modes:
            module.training = training
    for norm, moments in norms.items():
        if not moments.number:
            raise PlanError(
                "calibration gave no batch; an iterator can be gone through once, a list or a DataLoader again"
            )
        _undo(norm, moments)
        if not all(bool(tensor.isfinite().all()) for tensor in norm.state_dict().values()):
            raise PlanError(f"the variance of what is calibrated does not fit into {next(norm.parameters()).dtype}")


def _undo(norm: Any, moments: _Moments) -> None:
    variance = moments.variance
    with torch.no_grad():
        of_batches = is_a(norm, BATCH_NORM)
        if of_batches:
            norm.running_mean.copy_(moments.mean)
            norm.running_var.copy_(variance)
            variance = norm.running_var.double()  # as it is kept
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(moments.mean)
