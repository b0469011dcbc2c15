"""A tensor of an optimizer's state, grown by the plan that grew its parameter.

A channel that is replicated k times shares its gradient among its replicas, as the shares of the consumers' weights do:
each entry that produces or carries the channel gets 1/k of it on average, exactly with equal shares. A consumer's
column reads the same activation as before, so its gradient does not change. With g the gradient that a moment averages,

    a moment of degree p (m = mean of g**p):   carried entries  m / k**p,   contracted entries  m.

An entry that is no replica has no past. Its first moment is 0. Its second moment is the mean of its tensor, scaled as
the other entries of its row are: zero would let the first steps overshoot, because `step`, and with it the correction
of the bias, runs on.

Source: the moments of a student that was trained all along (docs/training.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..base.exact_sum import exact_sum
from ..base.roles import Role
from ..layouts.layout import Layout, only_atom
from ..model.partition import as_dtensor, local_part, partition_of
from ..model.sharded import is_dtensor
from ..plans.entries import TensorPlan
from ..plans.growth_plan import Plan


@dataclass(frozen=True, slots=True)
class Moment:
    """What a tensor of an optimizer's state holds for each entry of the parameter.

    Attributes:
        degree: The power of the gradient that it is proportional to: 1 for momentum, 2 for an average of squares, 0 for
            what does not depend on the gradient's size.
        fresh: What an entry without a past gets: zero, one, or the mean of the tensor.
        began: What all entries were before the first step. It is no part of the average, and stays.
    """

    degree: int
    fresh: Literal["zero", "one", "mean"]
    began: float = 0.0

    def of_fresh(self, tensor: Tensor) -> float:
        """What an entry without a past gets, where a parameter's state is this tensor."""
        return mean_of(tensor) if self.fresh == "mean" else float(self.fresh == "one")


FIRST = Moment(1, "zero")  # an average or a sum of gradients
SECOND = Moment(2, "mean")  # an average, a sum or a maximum of squared gradients
UPDATE = Moment(0, "zero")  # an average of updates that were divided by the size of the gradient
SQUARED_UPDATE = Moment(0, "mean")  # an average of such updates, squared
COPIED = None  # no entry for each of the parameter's: a number of steps


class Grow(Protocol):
    """Makes the student's tensor of state from the teacher's."""

    def __call__(self, tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
        """The tensor for the grown parameter, new memory, in the same dtype and on the same device.

        Args:
            tensor: Of the parameter's shape, with size 1 in the reduced dimensions.
            moment: What it holds.
            reduced: The dimensions over which it is a mean.
        """


@dataclass(frozen=True, slots=True)
class Axis:
    """How one dimension of a parameter grows.

    Attributes:
        index: For each new entry the old one that it copies, int64 `(new,)`.
        shares: The number of replicas k that share its gradient, float64 `(new,)`; 1 where it is contracted or fresh.
        fresh: Which new entries are no replicas, bool `(new,)`.
    """

    index: Tensor
    shares: Tensor
    fresh: Tensor


class MomentFilling:
    """Grows the state of parameters by the widths of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._axes: dict[tuple[Layout, Role], Axis] = {}

    def of(self, planned: TensorPlan) -> Grow:
        """The function that grows the state of one parameter."""
        return partial(self._grown, planned)

    def _grown(self, planned: TensorPlan, tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
        if tensor.is_complex():  # torch keeps the moments of the real and of the imaginary part in it
            return torch.view_as_complex(self._grown(planned, torch.view_as_real(tensor), moment, reduced).contiguous())
        axes = {dim: axis for dim, axis in self.axes(planned).items() if dim not in reduced}
        return grown(tensor, moment, axes, self.gain(planned), start_of(tensor, moment, axes))

    def parts(self, planned: TensorPlan, tensor: Tensor, moment: Moment, most: int) -> Iterator[tuple[int, Tensor]]:
        """The same, part by part: the first new row of each, and its rows; so many entries, or one row."""
        axes = self.axes(planned)
        start, rows = start_of(tensor, moment, axes), self.plan.new_size(planned.layouts[0])
        number = max(1, most // max(1, math.prod(map(self.plan.new_size, planned.layouts[1:]))))
        for first in range(0, rows, number):
            last, own = min(first + number, rows), dict(axes)
            if 0 in axes:
                source = tensor.index_select(0, axes[0].index[first:last])
                shares, fresh = axes[0].shares[first:last], axes[0].fresh[first:last]
                own[0] = Axis(torch.arange(last - first), shares, fresh)
            else:
                source = tensor[first:last]
            yield first, grown(source, moment, own, self.gain(planned), start)

    def axes(self, planned: TensorPlan) -> dict[int, Axis]:
        """How each dimension of a parameter grows; those that do not are left out."""
        both = enumerate(zip(planned.layouts, planned.roles, strict=True))
        axes = {dim: self._axis(layout, role) for dim, (layout, role) in both if self.plan.grows(layout)}
        for dim in set(planned.zeroed).intersection(axes):
            new = ~self.plan.index(planned.layouts[dim])[1]
            axes[dim] = Axis(axes[dim].index.masked_fill(new, 0), torch.ones_like(axes[dim].shares), new)
        return axes

    def gain(self, planned: TensorPlan) -> float:
        """The factor by which the plan scales a norm's gain, because channels that carry means lower the variance."""
        scaled = [
            self.plan.width(str(only_atom(planned.layouts[d]))) for d, f in enumerate(planned.mean_fill) if f == "gain"
        ]
        return math.prod(math.sqrt(width.variance) for width in scaled)

    def _axis(self, layout: Layout, role: Role) -> Axis:
        key = (layout, role)
        if key not in self._axes:
            self._axes[key] = _axis(self.plan, layout, role)
        return self._axes[key]


def _axis(plan: Plan, layout: Layout, role: Role) -> Axis:
    index, _ = plan.index(layout)
    fresh = torch.ones(len(index), dtype=torch.bool)
    fresh[plan.kept(layout, lambda name: plan.width(name).new, without=plan.fresh)] = False
    name = only_atom(layout)
    if name is not None and (means := plan.width(str(name)).mean_channels):
        fresh[-means:] = True
    index = torch.where(fresh, 0, index)
    shares = torch.ones(len(index), dtype=torch.float64)
    if role == "carry":
        replicas = torch.bincount(index[~fresh], minlength=plan.old_size(layout)).double()
        shares = torch.where(fresh, shares, replicas[index])
    return Axis(index, shares, fresh)


def start_of(tensor: Tensor, moment: Moment, axes: Mapping[int, Axis]) -> float:
    """What the new entries without a past get; 0 where all have one."""
    return moment.of_fresh(tensor) if any(bool(axis.fresh.any()) for axis in axes.values()) else 0.0


def grown(tensor: Tensor, moment: Moment, axes: Mapping[int, Axis], gain: float, start: float) -> Tensor:
    """The new entries, where an entry without a past gets `start`."""
    new = tensor if axes else tensor.clone()
    for dim, axis in axes.items():
        new = new.index_select(dim, axis.index.to(tensor.device))
    for dim, axis in axes.items():
        if axis.fresh.any():
            new.index_fill_(dim, axis.fresh.nonzero().flatten().to(tensor.device), start)
    if moment.degree:
        for dim, axis in axes.items():
            if (axis.shares > 1).any():
                shape = [-1 if d == dim else 1 for d in range(new.ndim)]
                _scale(new, (axis.shares**-moment.degree).to(tensor).view(shape), moment)
        if gain != 1.0:
            _scale(new, gain**-moment.degree, moment)
    return new


def _scale(state: Tensor, factor: Tensor | float, moment: Moment) -> None:
    """Multiply what was added to a state since it began; entries with the factor 1 keep their bits."""
    state.mul_(factor)
    if moment.began:
        state.add_((1 - factor) * moment.began)


def mean_of(tensor: Tensor) -> float:
    """The mean of a tensor, of any number of processes the same; 0 where it has no entries."""
    if not tensor.numel() or tensor.is_meta:
        return 0.0
    if is_dtensor(tensor):
        return exact_sum(local_part(tensor), partition_of(tensor, "the state").reduce) / tensor.numel()
    return exact_sum(tensor) / tensor.numel()


def by_parts(tensor: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What a function makes of a tensor, or of this process's part; it leaves the divided dimension as it is."""
    if not is_dtensor(tensor):
        return make(tensor)
    partition = partition_of(tensor, "the state")
    local = make(local_part(tensor))
    shape = [tensor.shape[d] if d == partition.dim else size for d, size in enumerate(local.shape)]
    return as_dtensor(local, partition, torch.Size(shape))


def copied(tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
    """The state of a parameter that does not change."""
    return tensor.clone()


def without_past(tensor: Tensor, moment: Moment, reduced: Collection[int] = ()) -> Tensor:
    """The state of a copy of a parameter that has no past of its own: a block's clone."""
    if tensor.is_complex():
        return torch.view_as_complex(without_past(torch.view_as_real(tensor), moment, reduced))
    return torch.full_like(tensor, moment.of_fresh(tensor))
