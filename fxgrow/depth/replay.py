"""Recorded ATen calls run again on random numbers: a test that a block of code that no graph shows is the identity.

As `trial` does for the nodes of a graph. The calls are those of one run, so that neither the code nor what it keeps in
attributes and caches runs again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..base.generators import same_randomness
from ..base.magnitude import is_inexact
from ..base.torch_private import pytree
from ..errors import Unfit
from ..recording.program import ProgramTape, Step
from .trial import DRAWS, LEAP, NOT_NEAR, SMALL

Values = dict[int, Tensor]  # by the id of the tensor of the run that it stands for
CPU = torch.device("cpu")


def check_identity(
    tape: ProgramTape,
    steps: Sequence[Step],
    ends: Sequence[tuple[Tensor, Tensor]],
    fills: Mapping[str, int],
    *,
    anywhere: bool = False,
) -> None:
    """Check that a clone of a block maps the block's results to themselves, with random parameters and inputs.

    Small values in the place of the fills must have small effects. Behind a norm they have not: the first step of
    training would change the function as much as all others together.

    Args:
        tape: Of the run.
        steps: The calls of the block.
        ends: Tensors that the block is given, each with the one that it returns for it.
        fills: The parameters that have one value in the clone, by name.
        anywhere: Whether it has to map everything to itself, because it does not stand behind its block.

    Raises:
        Unfit: It is not the identity then, or the calls do not run on random numbers.
    """
    filled = {id(t): fills[name] for t in tape.keepalive if (name := tape.names.get(id(t), "")) in fills}
    with torch.no_grad(), same_randomness():
        trials = [_Trial(tape, steps, ends, filled, mask, anywhere) for mask in (False, True)]
        try:
            trial = next((trial for trial in trials if trial.runs()), None)
            exact = trial is not None and trial.is_identity()
            leaps = trial is not None and trial.leaps()
        except Exception as error:  # noqa: BLE001 - a call may refuse random numbers
            raise Unfit(f"it does not run on random inputs: {type(error).__name__}: {error}") from None
    said = " and ".join(f"{value} in {name}" for name, value in fills.items())
    if not exact:
        raise Unfit(f"with {said} it is not the identity")
    if leaps:
        raise Unfit(f"with {said} {NOT_NEAR}")


@dataclass(slots=True)
class _Trial:
    """The trial of one block.

    Attributes:
        mask: What all entries of masks are: nothing may be masked altogether, whichever of the two means that.
        outside: What the calls read and did not make, by the id of the tensor of the run.
        outputs: What the block returns for that, or, if the clone may stand anywhere, what it is given.
    """

    tape: ProgramTape
    steps: Sequence[Step]
    ends: Sequence[tuple[Tensor, Tensor]]
    filled: Mapping[int, int]
    mask: bool
    anywhere: bool
    outside: Values = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)

    def runs(self) -> bool:
        """Whether the block gives finite results for random numbers."""
        read = read_first(self.steps, [entry for entry, _ in self.ends])
        self.outside = {id(tensor): stand_in(self.tape, tensor, mask=self.mask) for tensor in read}
        self.outputs = [out.clone() for out in self._results({})]
        finite = all(bool(out.isfinite().all()) for out in self.outputs)
        if self.anywhere:
            self.outputs = [self.outside[id(entry)] for entry, _ in self.ends]
        return finite

    def is_identity(self) -> bool:
        """Whether a clone returns what the block returns."""
        results = self._results({key: torch.full_like(self.outside[key], value) for key, value in self._read()}, True)
        return all(map(torch.equal, results, self.outputs))

    def leaps(self) -> bool:
        """Whether a small change of what is filled has an effect that is not small.

        Both effects are measured with the same random masks; those that leave nothing of the block tell nothing.
        """
        small = {key: value + SMALL * (self.outside[key] - value) for key, value in self._read()}
        for _ in range(DRAWS):
            state = torch.default_generator.get_state()
            near = self._effect(small)
            torch.default_generator.set_state(state)
            far = self._effect({})
            if far:
                return near > LEAP * far
        return False

    def _effect(self, parameters: Values) -> float:
        results = self._results(parameters, True)
        return max(float((new - old).abs().max()) for new, old in zip(results, self.outputs, strict=True))

    def _read(self) -> Iterator[tuple[int, int]]:
        return ((key, value) for key, value in self.filled.items() if key in self.outside)

    def _results(self, parameters: Values, again: bool = False) -> list[Tensor]:
        """What the block returns with some parameters; `again` for what it returned."""
        values = copies(self.outside | parameters)
        if again:
            values |= {id(entry): out.clone() for (entry, _), out in zip(self.ends, self.outputs, strict=True)}
        replay(self.tape, self.steps, values)
        return [values[id(exit_)] for _, exit_ in self.ends]


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
    if not is_inexact(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if id(tensor) not in tape.names or tape.names[id(tensor)].startswith("input "):
        return torch.randn(tensor.shape, dtype=tensor.dtype)
    if tensor.ndim < 2:
        return torch.rand(tensor.shape, dtype=tensor.dtype) + 0.5
    return torch.randn(tensor.shape, dtype=tensor.dtype) / math.sqrt(max(1, tensor[0].numel()))
