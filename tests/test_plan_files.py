"""Plans as files: every version is read, and whatever is wrong in one is a PlanError, whoever wrote it."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.decode import decode
from fxgrow.plans import serial
from fxgrow.plans.validation import MOST_PLANS, is_module_path
from tests.check import randomise, relative_error, run
from tests.golden_net import golden_inputs, golden_net, golden_plan
from tests.thinned import pairs

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("plan-*.json"))
TEXT = (GOLDEN / f"plan-{serial.MAJOR}.{serial.MINOR}.json").read_text()
DATA: dict[str, Any] = json.loads(TEXT)


# -- versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_plan_of_each_version_is_read_and_applied(path: Path) -> None:
    plan = fxgrow.Plan.from_json(path.read_text())
    teacher, x = randomise(golden_net().double()), golden_inputs().double()
    student = fxgrow.apply(plan, teacher, x)
    assert student.get_parameter("embed.weight").shape == (7, 6)
    report = fxgrow.verify(teacher, student, x)
    assert report.exact
    twin = fxgrow.apply(golden_plan(), teacher, x)
    for mode in ("eval", "train"):
        inputs = (nn.functional.pad(x, (0, 0, 0, 0, 0, 1)),)
        assert relative_error(run(student, inputs, mode), run(twin, inputs, mode)) == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_rests_while_a_plan_is_read(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text, during, was = golden_plan().to_json(), list[bool](), gc.isenabled()

    def noted(*args: Any, **kwargs: Any) -> Any:
        during.append(gc.isenabled())
        return decode(*args, **kwargs)

    monkeypatch.setattr("fxgrow.plans.growth_plan.decode", noted)
    (gc.enable if enabled else gc.disable)()
    try:
        fxgrow.Plan.from_json(text)
        assert gc.isenabled() == enabled
        with pytest.raises(fxgrow.PlanError):
            fxgrow.Plan.from_json("{")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()
    assert set(during) == {False}


def test_a_plan_of_this_version_is_written_as_it_was_read() -> None:
    assert fxgrow.Plan.from_json(TEXT).to_json(indent=1) + "\n" == TEXT
    assert fxgrow.Plan.from_json(TEXT) == golden_plan()


def test_the_golden_plan_holds_every_kind_of_entry() -> None:
    first, second = DATA, DATA["next"]
    for key in ("groups", "tensors", "edits", "resizes", "notes"):
        assert first[key], key
    assert {change["type"] for change in first["changes"]} == {"insert", "repeat", "enlarge"}
    assert {tensor["kind"] for tensor in first["tensors"]} >= {"weight", "bias", "gain", "shift", "running_var"}
    assert {end["kind"] for end in second["io_dims"]} == {"input", "output"}
    assert any(group["mean_channels"] for group in first["groups"])


def test_a_file_of_a_newer_minor_version_is_read_without_what_is_not_known() -> None:
    newer = {**DATA, "version": f"{serial.MAJOR}.{serial.MINOR + 1}", "colour": "red"}
    newer["groups"] = [{**group, "weight": 1} for group in DATA["groups"]]
    newer["next"] = {**DATA["next"], "colour": "blue"}
    assert fxgrow.Plan.from_json(json.dumps(newer)) == fxgrow.Plan.from_json(TEXT)


def test_a_file_of_this_version_holds_no_unknown_field_and_lacks_none() -> None:
    with pytest.raises(fxgrow.PlanError, match="colour"):
        fxgrow.Plan.from_json(json.dumps({**DATA, "colour": "red"}))
    with pytest.raises(fxgrow.PlanError, match="notes: missing"):
        fxgrow.Plan.from_json(json.dumps({key: value for key, value in DATA.items() if key != "notes"}))


def test_an_older_major_version_is_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        serial.UPGRADES, 0, lambda data: {**{k: v for k, v in data.items() if k != "left"}, "skipped": data["left"]}
    )
    older = {**DATA, "version": "0.7", "left": DATA["skipped"]}
    del older["skipped"]
    assert fxgrow.Plan.from_json(json.dumps(older)) == fxgrow.Plan.from_json(TEXT)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"version": "2.0"}, "update fxgrow, or plan again"),
        ({"version": "0.9"}, "plan again"),
        ({"version": 1}, "version: expected two numbers"),
        ({"version": "1.0.0"}, "version: expected two numbers"),
        ({"format": "other"}, "other JSON"),
        ({"format": None, "fxgrow": 3}, "before version 1.0.*plan again"),
    ],
)
def test_what_cannot_be_read_is_told(header: dict[str, Any], told: str) -> None:
    with pytest.raises(fxgrow.PlanError, match=told):
        fxgrow.Plan.from_json(json.dumps({**DATA, **header}))


# -- a stranger's plan ---------------------------------------------------------------------------------


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a plan's data, of lists the first entry and each of another kind."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            if path[-1:] != ("next",) or key in ("io_dims", "spec"):
                yield from _places(value, (*path, key))
    elif isinstance(data, list):
        seen = set()
        for i, value in enumerate(data):
            kind = value.get("type", value.get("kind")) if isinstance(value, dict) else type(value)
            if kind not in seen:
                seen.add(kind)
                yield from _places(value, (*path, i))


def _with(path: tuple[Any, ...], value: Any) -> str:
    data = copy.deepcopy(DATA)
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return json.dumps(data)


PLACES = list(_places(DATA))
WRONG = ({"?": 0}, [[{}]], "'\"\\\n", "", -1, 0, 10**12, 10**400, 1.5, True, None, [], ["x"], [-1], [0])


THIRDS = {f"third {i}": WRONG[i::3] for i in range(3)}


@pytest.mark.parametrize(("path", "values"), pairs({".".join(map(str, path)): path for path in PLACES}, THIRDS))
def test_a_wrong_value_anywhere_is_a_plan_error(path: tuple[Any, ...], values: tuple[Any, ...]) -> None:
    with pytest.raises(fxgrow.PlanError):
        fxgrow.Plan.from_json(_with(path, {"?": 0}))
    for value in values:
        try:
            plan = fxgrow.Plan.from_json(_with(path, value))
        except fxgrow.PlanError:
            continue
        assert fxgrow.Plan.from_json(plan.to_json()) == plan
        assert str(plan)


MEANT = [path for path in PLACES if path[0] in ("edits", "resizes", "changes")]


@pytest.mark.parametrize("path", MEANT, ids=lambda path: ".".join(map(str, path)))
def test_a_plan_that_names_what_is_not_there_is_a_growth_error_or_its_student_is_exact(path: tuple[Any, ...]) -> None:
    teacher, x = randomise(golden_net().double()), golden_inputs().double()
    refused = 0
    for value in ("absent", 2, [7], "args", "halves"):
        try:
            student = fxgrow.apply(fxgrow.Plan.from_json(_with(path, value)), teacher)
        except fxgrow.GrowError:
            refused += 1
        else:
            fxgrow.verify(teacher, student, x).raise_if_different()
    assert refused >= 3


@pytest.mark.parametrize(
    "path",
    ['a"),exec("1"),getattr(self,"b', "a\nb", "a.", "", ".a", "a..b", 'a".b', "a\\.b", "a.b c", "ä", "a.b-c"],
)
def test_the_path_of_a_new_module_holds_no_code(path: str) -> None:
    assert not is_module_path(path)
    for change, key in ((0, "paths"), (1, "path")):
        assert key in DATA["changes"][change]
        value: Any = [path] if key == "paths" else path
        with pytest.raises(fxgrow.PlanError):
            fxgrow.Plan.from_json(_with(("changes", change, key), value))


@pytest.mark.parametrize("path", ["a", "0_deeper1", "a.0.b_1", "blocks.3x3-conv.x", "größe.a", "a b.c"])
def test_names_of_the_users_own_modules_are_no_obstacle(path: str) -> None:
    assert is_module_path(path)


def test_a_layer_whose_name_has_signs_gets_new_layers() -> None:
    net = nn.Sequential()
    net.add_module("1x1-conv", nn.Linear(4, 4))
    net.add_module("act", nn.ReLU())
    net.add_module("out", nn.Linear(4, 2))
    student = fxgrow.grow(net, [fxgrow.Deepen("1x1-conv")])
    assert "1x1_conv_deeper1.linear.weight" in student.state_dict()


def test_a_plan_made_by_hand_is_checked_before_it_is_applied() -> None:
    plan = fxgrow.Plan.from_json(TEXT)
    insert = plan.changes[1]
    object.__setattr__(insert, "path", 'a"),exec("1"),getattr(self,"b')
    with pytest.raises(fxgrow.PlanError, match="words and dots"):
        fxgrow.apply(plan, golden_net())


def test_long_chains_and_deep_texts_are_refused() -> None:
    single: dict[str, Any] = {**DATA, "next": None}
    chain = copy.deepcopy(single)
    for _ in range(MOST_PLANS):
        chain = {**single, "next": {k: v for k, v in chain.items() if k not in ("format", "version")}}
    with pytest.raises(fxgrow.PlanError, match="chain"):
        fxgrow.Plan.from_json(json.dumps(chain))
    fxgrow.Plan.from_json(json.dumps({**single, "next": chain["next"]["next"]}))
    for depth in (200, 10**5):
        with pytest.raises(fxgrow.PlanError):
            fxgrow.Plan.from_json(_with(("spec",), 0).replace('"spec": 0', f'"spec": {"[" * depth}{"]" * depth}'))


@pytest.mark.parametrize("text", [None, b"{}", 3, "", "[]", "{}", "null", "\ud800"])
def test_what_is_no_plan_at_all_is_a_plan_error(text: Any) -> None:
    with pytest.raises(fxgrow.PlanError):
        fxgrow.Plan.from_json(text)


# -- a plan for a model that is another one inside of its layers -----------------------------------------


class Tokens(nn.Module):
    """Layers of torch.nn that compute something else with other settings, at the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.1))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens)
        return self.head(self.norm(h + self.attention(h, h, h)[0] + self.mlp(h)))  # type: ignore[no-any-return]


def _patch_forward(model: Any) -> None:
    model.mlp[0].forward = lambda x: nn.functional.linear(x, model.mlp[0].weight) * model.mlp[0].out_features


OTHERS: dict[str, Any] = {
    "another class": lambda model: model.mlp.__setitem__(1, nn.Softmax(-1)),
    "more heads": lambda model: vars(model.attention).update(num_heads=4, head_dim=2),
    "rows with a largest norm": lambda model: setattr(model.embed, "max_norm", 0.5),
    "a patched forward": _patch_forward,
}


def _tokens() -> Tensor:
    return torch.randint(20, (2, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("other", OTHERS)
def test_a_plan_is_not_applied_to_a_model_with_other_layers(other: str) -> None:
    plan = fxgrow.plan(fxgrow.widths(Tokens(), _tokens()), 2.0)
    model = Tokens()
    OTHERS[other](model)
    with pytest.raises(fxgrow.PlanError, match="plan again for"):
        fxgrow.apply(fxgrow.Plan.from_json(plan.to_json()), model)
    older = json.loads(plan.to_json()) | {"layers": ""}  # as a plan of another torch, whose settings do not compare
    del older["next"]
    assert fxgrow.Plan.from_json(json.dumps({**older, "version": "1.7"})).layers == ""


def test_numbers_with_a_fraction_may_be_other_ones() -> None:
    plan = fxgrow.plan(fxgrow.widths(Tokens(), _tokens()), 2.0)
    model = Tokens().double()
    model.norm.eps, model.mlp[2].p = 0.3, 0.2  # type: ignore[assignment]
    student = fxgrow.apply(plan, model)
    assert fxgrow.verify(model, student, _tokens()).exact


class AsksInEvalMode(nn.Module):
    """Asks for numbers in eval mode, so that only train mode runs on shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.b(self.a(x).relu())
        return y if self.training or y.max() < 1e6 else y * 0


def test_a_plan_for_code_that_decides_by_numbers_in_one_mode_asks_for_example_inputs() -> None:
    teacher, x = AsksInEvalMode(), torch.randn(5, 4)
    plan = fxgrow.plan_of(fxgrow.grow(teacher, 2.0, x))
    assert plan is not None
    with pytest.raises(fxgrow.PlanError, match="or give example_inputs with numbers: without, it runs in train mode"):
        fxgrow.apply(plan, teacher)
    torch.testing.assert_close(fxgrow.apply(plan, teacher, x)(x), teacher(x))


class ManyDims(nn.Module):
    """It has a tensor of many dimensions."""

    def __init__(self, buffer: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("grid", torch.ones((1,) * buffer))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu() * self.grid.sum())


@pytest.mark.parametrize(("buffer", "given"), [(9, 2), (20, 2), (1, 9), (20, 20)])
def test_tensors_of_many_dimensions_are_read_and_applied(buffer: int, given: int) -> None:
    model, inputs = ManyDims(buffer), torch.randn(*(1,) * (given - 2), 2, 4)
    plan = fxgrow.plan(fxgrow.widths(model, inputs), [2.0, fxgrow.Outputs(5)])
    assert fxgrow.Plan.from_json(plan.to_json()) == plan
    student = fxgrow.apply(plan, model)
    assert student.a.out_features == 16
    assert relative_error(student(inputs)[..., :3], model(inputs)) < 1e-5
