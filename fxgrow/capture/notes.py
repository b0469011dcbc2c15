"""What a user is told of how a model was traced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import fx, nn

from ..model.example_inputs import ModelInputs
from ..model.layer_kinds import is_layer
from ..model.tree import Mode
from ..model.walk import named_modules
from .proxy import FORMS, guard

NUMBERS = (
    "control flow depends on tensor values, so the model was run on the example inputs; other values may take a path "
    "that was not analysed"
)
UNSEEN = " (only the path taken by the example inputs was analysed)"


_HELD = re.compile(r"NotImplementedError: argument of type: <class '(?:.*\.)?(\w+)'>")  # of torch.fx


def one_call(name: str, why: str) -> str:
    """The note of a model that no graph could be made of."""
    return (
        f"{name} is kept as one call{UNSEEN}, because {_in_words(why)}; output='module' gives the student as a {name} "
        "instead"
    )


def _in_words(why: str) -> str:
    """What torch.fx does not take, where its own words are about it and not about the model."""
    held = _HELD.match(why)
    if held is None:
        return why
    cache = " (with use_cache=False among the inputs there is none)" if held[1].endswith("Cache") else ""
    return f"its code hands on a {held[1]}, which a graph cannot hold{cache}"


def notes_of(
    model: nn.Module, inputs: ModelInputs, graphs: Mapping[Mode, fx.Graph], why: Mapping[str, str], missing: str
) -> Iterator[str]:
    """What a user should know of a trace, a sentence each."""
    if inputs.guessed:
        yield f"example inputs were guessed: {inputs}"
    if missing:
        yield f"the example inputs do not run in {missing} mode, so the student does not either"
    for path, reason in why.items():
        yield f"{path} is kept as a call{UNSEEN}, because {_in_words(reason)}"
    asked = {str(n.args[2]) for graph in graphs.values() for n in graph.nodes if n.target is guard}
    if any(not place.startswith(FORMS) for place in asked):
        yield "the model's code asks for sizes or arguments; the student refuses inputs that would answer otherwise"
    elif asked:
        yield "the student takes inputs with as many dimensions as the example's, for which the model's code asks"
    other = [name for name, m in named_modules(model) if m.training != model.training and not is_layer(m)]
    if len(graphs) > 1 and other:
        yield (
            f"{other[0]} is not in the mode of the model: what its own code does by mode will follow the model's; "
            "layers of torch.nn in it keep theirs"
        )
