"""Graphs of the code of a model that stays one call: no student runs them, they show what the code does with sizes."""

from __future__ import annotations

from contextlib import nullcontext, suppress

from ..base.generators import same_randomness
from ..base.isolation import no_collection, silent
from ..model.copies import inventory
from ..model.layer_kinds import is_hooked
from ..model.opaque import OPAQUE_MODEL
from ..recording.recall import Recall
from .draft import Draft
from .traced import Traced


def graphs_of_code(traced: Traced) -> Traced | None:
    """The graphs of a model that was kept as one call because a student is to be a module.

    Args:
        traced: Of `trace(..., output="module")`.

    Returns:
        The same model on the same inputs as graphs, or None where its own code cannot be traced.
    """
    if traced.output != "module":
        return None
    model = vars(traced.root)[OPAQUE_MODEL]
    if is_hooked(model):
        return None
    real = traced.inputs.real
    kept = frozenset[str]().union(*[run.stateful for run in traced.tapes.values()])
    recall = Recall() if real else None
    with suppress(Exception), silent(), same_randomness(), nullcontext() if real else no_collection():
        held = inventory(model)
        draft = Draft(model, held, traced.inputs, traced.tapes, frozenset(), traced.infinite, recall, layers=True)
        return draft.climb(kept | traced.asked)
    return None
