"""The layouts of the inputs of a run: each dimension is a variable, in runs on other inputs that of the example's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..layouts.input_dims import INPUT
from ..layouts.layout import Layout, Places, fixed, of
from ..layouts.unify import Unifier, size
from ..model.call_args import labelled
from ..model.fixed_sizes import NUMBER_OF_DIMENSIONS
from ..recording.run import named_inputs


def input_layouts(
    unifier: Unifier,
    arguments: Mapping[str, Any],
    known: Mapping[str, tuple[Layout, ...]],
    places: Mapping[str, Places] = MappingProxyType({}),
) -> dict[str, tuple[Layout, ...]]:
    """The layouts of inputs: for each dimension the known one, if it has that size, or a new variable.

    Args:
        unifier: Makes the variables.
        arguments: With the inputs.
        known: The layouts of the example's.
        places: As in `Variant`.
    """

    def layout(name: str, label: str, dim: int, n: int, rank: int) -> Layout:
        place = places[name][dim] if name in places else dim
        before = known.get(name, ())
        if place is not None and (name in places or len(before) == rank) and size(before[place]) == n:
            return before[place]
        own = NUMBER_OF_DIMENSIONS if place is None else place
        return of(unifier.fresh(f"{INPUT}{label}[{dim}]", n, of_input=(name, own))) if n else fixed(0)

    return {
        name: tuple([layout(name, label, d, n, tensor.ndim) for d, n in enumerate(tensor.shape)])
        for (name, tensor), label in zip(named_inputs(arguments).items(), labelled(arguments), strict=True)
    }
