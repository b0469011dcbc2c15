"""Names in a student whose containers are numbered through: as counting gives them, without counting each time."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fxgrow
from fxgrow.plans.numbering import PLACE, Numbering

ENTRIES = st.sampled_from(["0", "1", "2", "7", "10", "block_1", "block_2", "block_10", "head", "01"])
PARTS = st.lists(st.sampled_from(["", ".conv", ".norm", ".act"]), min_size=1, max_size=3, unique=True)
BEHIND = st.dictionaries(ENTRIES, st.lists(PARTS, min_size=1, max_size=3), max_size=5)


def counted(behind: dict[str, tuple[str, ...]], own: str) -> str:
    """The name of an entry by its place among all."""
    places = {new: (entry, at) for entry, several in behind.items() for at, new in enumerate(several, 1)}
    place = next((new for new in places if new == own or new.startswith(f"{own}.")), None)
    old, more = places[place] if place is not None else (own, 0)
    match = PLACE.fullmatch(old)
    if match is None:
        return own
    others = ((PLACE.fullmatch(entry), len(several)) for entry, several in behind.items())
    before = (n for m, n in others if m is not None and m[1] == match[1] and int(m[2]) < int(match[2]))
    return f"{match[1]}{int(match[2]) + more + sum(before)}"


@settings(max_examples=200, deadline=None)
@given(BEHIND)
def test_an_entry_stands_where_counting_puts_it(drawn: dict[str, list[list[str]]]) -> None:
    behind = {
        entry: tuple(f"{entry}_deeper{n}{part}" for n, parts in enumerate(layers, 1) for part in parts)
        for entry, layers in drawn.items()
    }
    numbering = Numbering({"layers": behind} if behind else {})
    new = [name for several in behind.values() for name in several]
    for own in (*behind, *new, *(name.partition(".")[0] for name in new), "0", "3", "11", "block_3", "other"):
        assert numbering.entry("layers", own) == (counted(behind, own) if behind else own)
        assert numbering.entry("elsewhere", own) == own


@pytest.mark.parametrize("flat", [False, True])
def test_the_steps_of_a_chain_keep_what_they_know_of_names(flat: bool) -> None:
    x, model = torch.randn(2, 8), nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.ReLU())])
    first = fxgrow.grow(model, fxgrow.Deepen("*", flat=flat), x, output="module")
    student = fxgrow.grow(first, 2.0, x, output="module")
    chain = fxgrow.plan_of(student)
    assert chain is not None
    assert [step.numbering for step in chain.steps] == [Numbering.of(step.changes) for step in chain.steps]
    assert all(
        one is other and one.numbering is other.numbering for one, other in zip(chain.steps, chain.steps, strict=True)
    )
    assert chain.steps[-1].steps == (chain.steps[-1],)
    again = pickle.loads(pickle.dumps(chain))
    assert again == chain
    assert again.new_modules == chain.new_modules
    assert {path for path, _ in student.named_modules()} >= chain.new_modules.keys()
