"""Graphs of code that stays calls: no student runs them, they show what the code does with sizes."""

from __future__ import annotations

from contextlib import nullcontext, suppress

from ..base.generators import same_randomness
from ..base.isolation import no_collection, silent
from ..model.copies import inventory
from ..recording.recall import Recall
from .draft import Draft
from .traced import Traced


def graphs_of_code(traced: Traced) -> tuple[Traced | None, bool]:
    """The graphs of a model of which some code is no graph, because it cannot be one or a student is to be a module.

    They may lose what the code does beside them: gradients, state, errors that it catches.

    Args:
        traced: The model.

    Returns:
        The same model on the same inputs as graphs, or None where no code stays a call, or none can be traced; and
        whether they show all code that stays a call.
    """
    model = traced.code
    if model is None:
        return None, True
    real = traced.inputs.real
    recall = Recall() if real else None
    with suppress(Exception), silent(), same_randomness(), nullcontext() if real else no_collection():
        held = inventory(model)
        draft = Draft(model, held, traced.inputs, traced.tapes, frozenset(), traced.infinite, recall, lenient=True)
        return draft.shown()
    return None, False
