"""Sizes of inputs that a student keeps to, because its code mixes them with widths that have grown."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ..errors import GrowError
from .call_args import labelled
from .recorded import recorded

NUMBER_OF_DIMENSIONS = -1


@dataclass(frozen=True, slots=True)
class FixedSize:
    """A size that an input must have.

    Attributes:
        input: The label of the input, as `call_args.labelled` gives it.
        dim: The dimension; -1: the size is the number of dimensions.
        size: The size.
    """

    input: str
    dim: int
    size: int


Entry = tuple[str, int, int]  # the fields of a `FixedSize`, as the code of a graph can hold them


@recorded
def check_sizes(arguments: Mapping[str, Any], sizes: Sequence[Entry]) -> None:
    """In a student: stop where an input has another size than the one that its code was grown for.

    Args:
        arguments: The arguments by name.
        sizes: What to check.

    Raises:
        GrowError: An input has another size.
    """
    given = labelled(arguments)
    for label, dim, size in sizes:
        tensor = given.get(label)
        if tensor is None:
            continue
        found = tensor.ndim if dim == NUMBER_OF_DIMENSIONS else tensor.shape[dim] if dim < tensor.ndim else size
        if found != size:
            what = "dimensions" if dim == NUMBER_OF_DIMENSIONS else f"entries in dimension {dim}"
            raise GrowError(
                f"{label} has {found} {what} instead of {size}: the model's code mixes this size with a width that has "
                "grown, so these inputs would take another path than the example inputs that it was grown with; grow "
                "it with such inputs as the example"
            )


fx.node.has_side_effect(check_sizes)


class SizesChecked:
    """A hook before `forward` that checks sizes, for students of the user's own class. It can be copied and pickled.

    Args:
        sizes: What to check.
    """

    def __init__(self, sizes: Sequence[Entry]) -> None:
        self.sizes = tuple(sizes)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            bound = inspect.signature(module.forward).bind(*args, **kwargs)
        except TypeError:  # `forward` says it in its own words
            return
        check_sizes(bound.arguments, self.sizes)


def check_in_graph(graph: fx.Graph, sizes: Sequence[FixedSize]) -> None:
    """Add a check to a graph, after its placeholders."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    if not sizes or not placeholders:
        return
    given = {str(node.target).lstrip("*"): node for node in placeholders}
    with graph.inserting_after(placeholders[-1]):
        graph.call_function(check_sizes, (given, _entries(sizes)))


def check_in_module(module: nn.Module, sizes: Sequence[FixedSize]) -> None:
    """Add a check to a module of the user's own class."""
    if sizes:
        module.register_forward_pre_hook(SizesChecked(_entries(sizes)), with_kwargs=True)


def _entries(sizes: Sequence[FixedSize]) -> tuple[Entry, ...]:
    return tuple([(one.input, one.dim, one.size) for one in sizes])
