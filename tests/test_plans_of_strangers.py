"""A plan that anybody has altered is refused with a reason, or applied; nothing else comes out of it."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import fxgrow
from tests.golden_net import golden_inputs, golden_net
from tests.sharded_nets import Standardised

DATA: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "plan-1.0.json").read_text())
NET = golden_net()
SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _places(value, (*path, key))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


PLACES = list(_places(DATA))
ODD = st.sampled_from(
    [
        '"',
        "'",
        "\n",
        "\\N",
        "a.b",
        "self",
        "class",
        "training",
        "forward",
        "__class__",
        "../x",
        "0",
        "\x00",
        "ä",
        "x" * 999,
    ]
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 64, 2**31, 2**63, 10**30, -(2**70), 0.5, 1e308])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | ODD | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=2),
    max_leaves=6,
)
TAKEN = st.sampled_from(PLACES).map(lambda path: _at(DATA, path))  # what stands elsewhere in the plan


@st.composite
def altered(draw: st.DrawFn) -> str:
    """The text of a plan with some entries replaced, left out or doubled."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PLACES))
        kind = draw(st.sampled_from(["replace", "take", "remove", "double"]))
        try:
            inner, last = _at(data, path[:-1]), path[-1]
            if kind == "remove":
                del inner[last]
            elif kind == "double" and isinstance(inner, list):
                inner.insert(last, copy.deepcopy(inner[last]))
            else:
                inner[last] = copy.deepcopy(draw(TAKEN if kind == "take" else JSON))
        except (LookupError, TypeError):  # an earlier change has removed it
            continue
    return json.dumps(data)


@settings(SETTINGS, max_examples=400)
@given(altered())
def test_an_altered_plan_is_read_or_refused(text: str) -> None:
    try:
        plan = fxgrow.Plan.from_json(text)
    except fxgrow.PlanError:
        return
    assert fxgrow.Plan.from_json(plan.to_json()) == plan
    assert str(plan)
    assert plan._repr_html_()


@settings(SETTINGS, max_examples=30)
@given(altered())
def test_an_altered_plan_is_applied_or_refused_and_leaves_the_teacher(text: str) -> None:
    before = {name: tensor.clone() for name, tensor in NET.state_dict().items()}
    with contextlib.suppress(fxgrow.GrowError):
        plan = fxgrow.Plan.from_json(text)
        assert str(fxgrow.summary(plan))
        assert isinstance(fxgrow.apply(plan, NET, golden_inputs()), nn.Module)
    assert NET.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in NET.state_dict().items())


@pytest.mark.parametrize(
    "altered",
    [
        {"rows": [1, 2, 4]},
        {"rows": [-1, 2, 3]},
        {"rows": [1, 1, 2, 3]},
        {"rows": [2, 1, 3]},
        {"rows": [0]},  # its outputs, which grow
        {"rows": []},  # of which there is no variance with a correction
        {"correction": -1.0},
        {"correction": 1e9},
        {"correction": 108},  # as many as a row has entries
    ],
    ids=str,
)
def test_rows_that_a_tensor_does_not_have_are_refused(altered: dict[str, Any]) -> None:
    net = Standardised().eval()
    data = json.loads(fxgrow.plan_of(fxgrow.grow(net, 2.0, torch.randn(2, 3, 6, 6))).to_json())
    tensor = next(tensor for tensor in data["tensors"] if tensor["name"] == "up.weight")
    assert (tensor["rows"], tensor["correction"]) == ([1, 2, 3], 1)
    tensor.update(altered)
    with pytest.raises(fxgrow.PlanError, match=r"'up.weight' does not say what its rows are"):
        fxgrow.Plan.from_json(json.dumps(data))
