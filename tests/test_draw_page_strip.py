"""What the page says first: totals, counts and changes are those of the plan, its summary and its student."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.drawing import drawing, source_of
from fxgrow.drawing.colours import DARK, LIGHT, contrast, ramp
from fxgrow.drawing.given import Drawable
from fxgrow.drawing.html import data_of
from fxgrow.plans.chain_entries import ChainEntries

from .test_draw import DEEPER, IMAGES, Small

MIXED = [fxgrow.Widen("*", 1.5), *DEEPER]
OTHERS = ("layer", "block", "kernel")
GROWN = ("width", "input", "output")


def _page(given: Drawable, folder: Path, **options: Any) -> dict[str, Any]:
    """The data in the page."""
    text = fxgrow.draw(given, folder / "a.html", **options).read_text(encoding="utf-8")
    data: dict[str, Any] = data_of(text)
    return data


@functools.cache
def _found() -> fxgrow.WidthGraph:
    return fxgrow.widths(Small(), IMAGES)


def _plan(spec: object) -> fxgrow.Plan:
    return fxgrow.plan(_found(), spec)  # type: ignore[arg-type]


def _number(data: dict[str, Any], kinds: tuple[str, ...]) -> int:
    return sum(entry["kind"] in kinds for entry in data["changes"])


@pytest.mark.parametrize("spec", [1.5, MIXED, [fxgrow.Kernel("stem.0", 5)], [fxgrow.Outputs(8)]])
def test_totals_and_counts_are_those_of_the_plan(spec: object, tmp_path: Path) -> None:
    plan = _plan(spec)
    for given in ((_found(), plan), plan):
        data = _page(given, tmp_path)
        flops = plan.flops
        assert data["totals"]["parameters"] == [plan.parameters.before, plan.parameters.after]
        assert flops is not None
        assert data["totals"]["flops"] == [flops.before, flops.after]
        assert _number(data, GROWN) == len(plan.grown_widths)
        assert _number(data, OTHERS) == plan.other_changes


def test_totals_of_a_student_are_those_of_its_plan(tmp_path: Path) -> None:
    student = fxgrow.grow(Small(), MIXED, IMAGES)
    data = _page(student, tmp_path, example_inputs=IMAGES)
    after = sum(parameter.numel() for parameter in student.parameters())
    before = sum(parameter.numel() for parameter in Small().parameters())
    assert data["totals"]["parameters"] == [before, after]
    names = {entry["name"] for entry in data["changes"] if entry["kind"] == "block"}
    assert names
    assert all(name in dict(student.named_modules()) for name in names)


def test_totals_without_a_plan_are_those_of_the_model(tmp_path: Path) -> None:
    data = _page(Small(), tmp_path, example_inputs=IMAGES)
    number = sum(parameter.numel() for parameter in Small().parameters())
    assert data["totals"]["parameters"] == [number, number]
    assert data["totals"]["flops"] == list(_page((_found(), _plan(1.5)), tmp_path)["totals"]["flops"][:1]) * 2
    assert {entry["kind"] for entry in data["changes"]} == {"pinned"}


def test_a_parameter_that_layers_share_counts_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.second(torch.relu(self.first(x))))

    data = _page(Tied(), tmp_path, example_inputs=torch.rand(2, 6))
    assert data["totals"]["parameters"][0] == sum(p.numel() for p in Tied().parameters())


def test_each_entry_has_its_factor_and_what_it_costs(tmp_path: Path) -> None:
    plan = _plan(MIXED)
    by_name = {(entry["kind"], entry["name"]): entry for entry in _page((_found(), plan), tmp_path)["changes"]}
    stem = by_name["width", "stem.0"]
    assert (stem["factor"], stem["text"]) == (1.5, "4→6")
    assert stem["layers"] > 1
    kernel = by_name["kernel", "blocks.0.conv1"]
    assert kernel["text"] == "3×3→5×5"
    assert kernel["factor"] == pytest.approx(25 / 9)
    costs = {layer.name: layer for layer in plan.cost().layers}
    assert tuple(kernel["parameters"]) == costs["blocks.0.conv1"].parameters
    block = next(entry for (kind, _), entry in by_name.items() if kind == "block")
    assert block["new"]
    inside = [one for name, one in costs.items() if f"{name}.".startswith(f"{block['name']}.")]
    assert block["parameters"] == [0, sum(one.parameters[1] for one in inside)]
    assert block["parameters"][1] > 0


def test_every_entry_is_a_box_at_some_level(tmp_path: Path) -> None:
    data = _page((_found(), _plan(MIXED)), tmp_path)
    boxes = [node for level in data["levels"].values() for node in level["nodes"]]
    groups = {node.get("group") for node in boxes}
    paths = {path for node in boxes for path in (node.get("path", ""), *node.get("paths", ()))}
    for entry in data["changes"]:
        name = entry["name"]
        assert entry.get("group") in groups if "group" in entry else any(f"{p}.".startswith(f"{name}.") for p in paths)


def test_what_is_pinned_and_what_is_left_have_reasons(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    found = fxgrow.widths(Two(), torch.rand(2, 4))
    data = _page((found, fxgrow.plan(found, 2.0)), tmp_path)
    pinned = {entry["name"]: entry["reason"] for entry in data["changes"] if entry["kind"] == "pinned"}
    assert "output of the model" in pinned["b"]
    assert all(pinned.values())
    assert all(entry["reason"] for entry in data["changes"] if entry["kind"] == "left")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ([fxgrow.Widen("stem.0", 2.0)], "1 of 5 widths grows"),
        ([fxgrow.Widen("stem.0", 2.0), fxgrow.Deepen("blocks.1", blocks=2)], "1 of 5 widths grows, 2 other changes"),
        ([fxgrow.Widen("stem.0", 2.0), fxgrow.Kernel("blocks.0.conv1", 5)], "1 of 5 widths grows, 1 other change"),
        (2.0, "4 of 5 widths grow"),
    ],
)
def test_titles_count_what_the_plan_counts_in_one_and_in_many(spec: object, said: str) -> None:
    plan = _plan(spec)
    source = source_of((_found(), plan))
    assert source.title == f"Small: {said.replace('of 5', f'of {len(_found().groups)}')}"
    assert len(source.grown) == len(plan.grown_widths) == len(ChainEntries(plan).grown)
    number = re.sub(r" of \d", "", said.partition(",")[0])
    number = number if number.startswith("4") else "1 width grows"
    assert number in str(plan)
    assert number in fxgrow.summary(plan, teacher=_found()).title
    assert number in source_of(plan).title


def test_a_width_that_grows_twice_in_a_chain_counts_once() -> None:
    first = _plan([fxgrow.Widen("blocks.0.conv1", 2.0), fxgrow.Deepen("blocks.1", blocks=1)])
    student = fxgrow.apply(first, Small())
    chain = first.then(fxgrow.plan(fxgrow.widths(student, IMAGES), [fxgrow.Widen("blocks.0.conv1", 2.0)]))
    assert "1 width grows, 1 other change" in fxgrow.summary(chain, teacher=_found()).title
    assert "1 of" in source_of((_found(), chain)).title


def test_names_with_tags_stay_data(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("</script><img src=x onerror=alert(1)>", nn.Linear(3, 4))
    model.add_module("last", nn.Linear(4, 2))
    found = fxgrow.widths(model, torch.zeros(2, 3))
    plan = fxgrow.plan(found, 2.0)
    text = fxgrow.draw((found, plan), tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert any("<img" in entry["name"] for entry in _page((found, plan), tmp_path)["changes"])


def test_a_plan_without_costs_says_that_they_are_not_known(tmp_path: Path) -> None:
    old = json.loads(_plan(1.5).to_json())
    assert old.pop("costs")
    old["costs"] = []
    plan = fxgrow.Plan.from_json(json.dumps(old))
    data = _page((_found(), plan), tmp_path)
    assert data["totals"] == {"parameters": None, "flops": None}
    assert _number(data, GROWN) == len(plan.grown_widths)


def test_each_row_of_a_width_has_the_figures_of_its_box(tmp_path: Path) -> None:
    plan = _plan(MIXED)
    boxes = {node.key: node for node in drawing(source_of((_found(), plan)), "groups").nodes}
    rows = [entry for entry in _page((_found(), plan), tmp_path)["changes"] if entry["kind"] in GROWN]
    assert rows
    for entry in rows:
        assert tuple(entry["parameters"]) == boxes[entry["group"]].parameters


# -- colours ------------------------------------------------------------------------------------------


def test_data_of_the_user_is_in_the_page(tmp_path: Path) -> None:
    plan = _plan(MIXED)
    new = next(path for change in plan.changes for path in change.new_paths)
    data = {"blocks.0": 1, "stem.0": -0.5, new: 2.5}
    assert _page((_found(), plan), tmp_path, data=data)["data"]["values"] == data
    assert _page((_found(), plan), tmp_path)["data"] is None
    assert data_of(fxgrow.draw((_found(), plan), data=data).page)["data"]["values"]["stem.0"] == -0.5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([("stem.0", 1)], "data is a list"),
        ({"stem.1.conv": 1}, "no layer or width"),
        ({3: 1}, "no layer or width"),
        ({"stem.0": "much"}, "finite number"),
        ({"stem.0": True}, "finite number"),
        ({"stem.0": float("nan")}, "finite number"),
        ({"stem.0": float("inf")}, "finite number"),
        ({"stem.0": 10**400}, "finite number"),
        ({"": 1}, "no layer or width"),
        ({"stem.0": None}, "finite number"),
        ({"stem.0": torch.zeros(2)}, "finite number"),
        ({"</script>": 1}, "no layer or width"),
    ],
)
def test_data_that_is_none_is_refused(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(fxgrow.DrawError, match=said):
        fxgrow.draw(_found(), tmp_path / "a.html", data=data)
    assert not (tmp_path / "a.html").exists()


def test_data_for_a_format_that_does_not_show_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(fxgrow.DrawError, match="does not show data"):
        fxgrow.draw(_found(), tmp_path / "a.txt", data={"stem.0": 1})


def test_the_colours_of_a_measure_read_and_are_in_order() -> None:
    fills = [fill for fill, _ in ramp()]
    for theme, column in ((LIGHT, 0), (DARK, 1)):
        ratios = [contrast(theme.ink, fill[column]) for fill in fills]
        assert min(ratios) >= 4.5
        assert ratios == sorted(ratios, reverse=True)
        assert len(set(ratios)) == len(ratios)
