"""Recorded ATen calls run again on random numbers: a test that a block of code that no graph shows is the identity.

As `trial` does for the nodes of a graph. The calls are those of one run, so that neither the code nor what it keeps in
attributes and caches runs again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..base.generators import same_randomness
from ..base.torch_private import pytree
from ..recording.program import ProgramTape, Step

Values = dict[int, Tensor]  # by the id of the tensor of the run that it stands for
CPU = torch.device("cpu")


def is_identity(
    tape: ProgramTape, steps: Sequence[Step], ends: Sequence[tuple[Tensor, Tensor]], zeros: Iterable[Tensor]
) -> bool:
    """Whether a clone of a block maps the block's results to themselves, tested with random parameters and inputs.

    Args:
        tape: Of the run.
        steps: The calls of the block.
        ends: Tensors that the block is given, each with the one that it returns for it.
        zeros: The parameters that are zero in the clone.
    """
    with torch.no_grad(), same_randomness():
        return any(_is_identity(tape, steps, ends, list(zeros), mask) for mask in (False, True))


def _is_identity(
    tape: ProgramTape, steps: Sequence[Step], ends: Sequence[tuple[Tensor, Tensor]], zeros: list[Tensor], mask: bool
) -> bool:
    """The same with all entries of masks alike: nothing may be masked altogether, whichever of the two means that."""
    outside = {id(t): stand_in(tape, t, mask=mask) for t in read_first(steps, [entry for entry, _ in ends])}
    values = copies(outside)
    replay(tape, steps, values)
    outputs = [values.get(id(exit_)) for _, exit_ in ends]
    if any(out is None or not bool(out.isfinite().all()) for out in outputs):
        return False
    given = copies(outside)
    for tensor in zeros:
        given[id(tensor)] = torch.zeros_like(given[id(tensor)]) if id(tensor) in given else torch.zeros(tensor.shape)
    expected = []
    for (entry, _), out in zip(ends, outputs, strict=True):
        assert out is not None
        expected.append(out.clone())
        given[id(entry)] = out.clone()
    replay(tape, steps, given)
    return all(torch.equal(given[id(exit_)], out) for (_, exit_), out in zip(ends, expected, strict=True))


def copies(values: Mapping[int, Tensor]) -> Values:
    """The same values in memory of their own, as calls may write to them."""
    return {key: value.clone() for key, value in values.items()}


def read_first(steps: Iterable[Step], also: Iterable[Tensor] = ()) -> list[Tensor]:
    """The tensors that calls read and did not make."""
    made: set[int] = set()
    found: dict[int, Tensor] = {id(tensor): tensor for tensor in also}
    for step in steps:
        for tensor in step.reads():
            if id(tensor) not in made:
                found.setdefault(id(tensor), tensor)
        made.update(id(out) for out in step.outs)
    return list(found.values())


def replay(tape: ProgramTape, steps: Iterable[Step], values: Values) -> None:
    """Run calls again; the values of what they read are given, those of their results are added."""

    def value(tensor: Tensor) -> Tensor:
        known = values.get(id(tensor))
        return stand_in(tape, tensor) if known is None else known

    for step in steps:
        args, kwargs = pytree.tree_map_only(Tensor, value, (step.args, dict(step.kwargs)))
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        out = step.op(*args, **kwargs)
        outs = (out,) if isinstance(out, Tensor) else out if isinstance(out, tuple | list) else ()
        values.update({id(t): new for t, new in zip(step.outs, outs, strict=False) if isinstance(t, Tensor)})


def stand_in(tape: ProgramTape, tensor: Tensor, *, mask: bool = False) -> Tensor:
    """What a tensor that calls read is in a trial: a constant itself, and random numbers for all else.

    Matrices of parameters are scaled by 1/sqrt(fan_in), vectors are in [0.5, 1.5), integers 0.
    """
    real = tape.constant(tensor)
    if real is not None:
        return real.detach().to(CPU, copy=True)
    if tensor.dtype is torch.bool:
        return torch.full(tensor.shape, mask)
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if id(tensor) not in tape.names or tape.names[id(tensor)].startswith("input "):
        return torch.randn(tensor.shape, dtype=tensor.dtype)
    if tensor.ndim < 2:
        return torch.rand(tensor.shape, dtype=tensor.dtype) + 0.5
    return torch.randn(tensor.shape, dtype=tensor.dtype) / math.sqrt(max(1, tensor[0].numel()))
