"""Which layers make a width and which read it, by the layouts of their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from ..infer.findings import CARRY, CONTRACT
from ..infer.groups import can_grow
from ..infer.width_graph import WidthGraph
from ..layouts.layout import Layout, atoms, of
from ..model.copies import named_tensors
from ..model.layer_kinds import CONVOLUTION, LINEAR, is_a
from ..model.stated import stated_int, states_its_sizes
from ..model.walk import named_modules


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A linear layer or a convolution of one group, in the copy of the model that is run.

    Attributes:
        path: Its path in the model.
        module: The layer.
        makes: The widths of which it has one row for each channel.
        reads: The widths whose channels it sums over, with the number of its columns for each channel: 49 for features
            of 7 x 7 that were flattened.
    """

    path: str
    module: nn.Module
    makes: frozenset[str]
    reads: Mapping[str, int]


def layers_of(model: nn.Module, widths: WidthGraph) -> list[Layer]:
    """The layers whose weights are parameters of their own, in the order of the modules."""
    names = {id(tensor): name for name, tensor in named_tensors(model).items()}
    found: list[Layer] = []
    for path, module in named_modules(model):
        if is_a(module, LINEAR, CONVOLUTION) and states_its_sizes(module) and stated_int(module, "groups", 1) == 1:
            tensor = widths.tensors.get(names.get(id(getattr(module, "weight", None)), ""))
            if tensor is not None and tensor.roles[:2] == (CARRY, CONTRACT):
                rows, columns = tensor.layouts[:2]
                found.append(Layer(path, module, frozenset(_rows(rows)), dict(_columns(columns))))
    return found


def scored(widths: WidthGraph) -> list[str]:
    """The widths that can grow."""
    return [group.name for group in widths.groups if can_grow(group)]


def why_none(widths: WidthGraph, layers: list[Layer], name: str) -> str:
    """Why no layer meets another in a width; empty where some may."""
    makers = [layer for layer in layers if name in layer.makes]
    readers = [layer for layer in layers if name in layer.reads]
    inside = {tensor.rpartition(".")[0] or tensor for tensor, _ in widths.groups_by_name[name].members}
    said = ", ".join(sorted(inside)[:3])
    if not makers:
        return f"no linear layer or convolution of one group has one row for each of its channels ({said})"
    return "" if readers else f"no linear layer or convolution of one group sums over its channels alone ({said})"


def _rows(layout: Layout) -> Iterator[str]:
    """The widths that are blocks of a dimension of their own."""
    return (name for block in layout for name in atoms((block,)) if (block,) == of(name))


def _columns(layout: Layout) -> Iterator[tuple[str, int]]:
    for block in layout:
        if isinstance(block[0] if block else 1, str) and all(isinstance(factor, int) for factor in block[1:]):
            yield block[0], block[1] if len(block) > 1 else 1
