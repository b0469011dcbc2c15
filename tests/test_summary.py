"""The table of layers says of each what is there, before and after growth, in the teacher's own terms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Deepen
from fxgrow.base.tables import columns, cut, short, shortened, table
from fxgrow.model.provenance import in_package
from tests.check import randomise


class Net(nn.Module):
    """A residual block, a layer in functional form, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 1))
        self.extra = nn.Parameter(torch.randn(6, 8, 1, 1))
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.block(x)
        x = F.conv2d(x, self.extra).mean((2, 3))
        return self.head(self.b(F.relu(self.a(x))))


IMAGES = torch.randn(2, 3, 10, 10, dtype=torch.float64)
SPEC = [{"stem": 1.5, "block.0": 20}, fxgrow.Deepen("block.0"), fxgrow.Kernel("block.2", 3)]


def teacher() -> nn.Module:
    return randomise(Net().double())


def by_layer(found: fxgrow.Summary) -> dict[str, object]:
    return {row.layer: row for row in found.rows}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("spec", [2.0, [{"stem": 2.0}, fxgrow.Kernel("stem", 5)]], ids=["widths", "a kernel, too"])
def test_a_student_is_compared_with_any_of_its_teachers(output: Any, spec: Any) -> None:
    models = [teacher()]
    for _ in range(2):
        models.append(fxgrow.grow(models[-1], spec if len(models) == 1 else {"stem": 1.5}, IMAGES, output=output))
    sizes = [int(model.get_parameter("stem.weight").shape[0]) for model in models]
    assert sizes == [8, 16, 24]
    for model, size in zip(models[:2], sizes, strict=False):
        for given in (model, fxgrow.widths(model, IMAGES, output=output)):
            found = fxgrow.summary(models[2], IMAGES, teacher=given)
            assert by_layer(found)["stem"].width == (size, 24)
            assert found.parameters == tuple(sum(p.numel() for p in m.parameters()) for m in (model, models[2]))


def test_a_model_is_listed_layer_by_layer() -> None:
    model = teacher()
    found = fxgrow.summary(model, IMAGES)
    rows = by_layer(found)
    assert list(rows) == ["", "stem", "norm", "block.0", "block.2", "a", "b", "head"]
    assert (rows["stem"].kind, rows["stem"].group, rows["stem"].width) == ("Conv2d", "stem", (8, 8))
    assert rows["stem"].flops == (2 * 2 * 100 * 27 * 8,) * 2
    assert rows[""].flops == (2 * 2 * 100 * 8 * 6,) * 2, "what forward itself computes counts for the model"
    assert rows["block.2"].group == "stem", "the addition ties them"
    assert rows["b"].parameters == (6, 6), "a tied weight counts where it first occurs"
    assert "output of the model" in rows["head"].why
    assert not rows["stem"].why
    assert found.parameters == (sum(p.numel() for p in model.parameters()),) * 2


def test_the_work_for_a_layer_does_not_grow_with_the_number_of_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("fxgrow.report.figures.module_of", lambda name: asked.append(name) or name.rpartition(".")[0])
    counts = []
    for number in (5, 50):
        asked.clear()
        fxgrow.summary(nn.Sequential(*[nn.Linear(4, 4) for _ in range(number)]), torch.randn(2, 4))
        counts.append(len(asked) / number)
    assert 0 < counts[1] <= counts[0]


def test_totals_are_those_of_verify() -> None:
    model = teacher()
    student = fxgrow.grow(model, SPEC, IMAGES)
    report = fxgrow.verify(model, student, IMAGES)
    found = fxgrow.summary(student, IMAGES, teacher=model)
    assert report.exact
    assert report.flops[1] > report.flops[0]
    assert (found.parameters, found.flops) == (report.parameters, report.flops)
    assert sum(row.flops[1] for row in found.rows) == report.flops[1]


def test_flops_of_fused_kernels_count_in_summary_and_verify() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.lstm, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.encoder(x))[0])

    model, x = Sequence(), torch.randn(2, 5, 8)
    student = fxgrow.grow(model, {"encoder.linear1": 24}, x)
    report, found = fxgrow.verify(model, student, x), fxgrow.summary(student, teacher=model)
    linear = 2 * 10 * (8 * 3 * 8 + 8 * 8 + 2 * 8 * 16 + 8 * 24 + 6 * 24 + 6 * 3)
    attention = 2 * 2 * (2 * 2 * 5 * 5 * 4)
    assert report.flops == found.flops == (linear + attention, linear + attention + 2 * 10 * 2 * 8 * 8)


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_plan_and_its_student_have_one_summary(output: str) -> None:
    model = teacher()
    spec = SPEC[:1] if output == "module" else SPEC
    widths = fxgrow.widths(model, IMAGES, output=output)
    plan = fxgrow.plan(widths, spec)
    student = fxgrow.apply(plan, model)
    planned = fxgrow.summary(plan, teacher=widths)
    assert planned == fxgrow.summary(plan, teacher=model)
    assert planned == fxgrow.summary(student, IMAGES, teacher=model)
    assert by_layer(planned)["stem"].width == (8, 12)
    if output == "graph":
        new = by_layer(planned)["block.0_deeper1.conv"]
        assert new.new
        assert (new.width, new.parameters) == ((None, 20), (None, 420))
        assert by_layer(planned)["block.2"].parameters == (12 * 8 + 8, 20 * 12 * 9 + 12)


def test_before_and_after_are_of_the_same_inputs() -> None:
    model = teacher()
    found = fxgrow.widths(model, torch.randn(1, 3, 20, 20).double())
    student = fxgrow.grow(model, SPEC, IMAGES)
    small, large = (fxgrow.summary(student, teacher=one) for one in (model, found))
    assert large == fxgrow.summary(student, torch.randn(1, 3, 20, 20).double(), teacher=model)
    for one in (small, large):
        row = by_layer(one)["stem"]
        assert row.flops[1] == row.flops[0] * 12 / 8


def test_a_student_alone_knows_what_it_was() -> None:
    model = teacher()
    student = fxgrow.grow(model, SPEC, IMAGES)
    alone, both = fxgrow.summary(student), fxgrow.summary(student, teacher=model)
    assert alone.parameters == both.parameters
    assert alone.flops == (None, both.flops[1])
    assert [(r.layer, r.width, r.parameters) for r in alone.rows] == [
        (r.layer, r.width, r.parameters) for r in both.rows
    ]
    assert "give summary the teacher" in str(alone)


def test_a_plan_alone_shows_its_widths_and_what_is_new() -> None:
    plan = fxgrow.plan(fxgrow.widths(teacher(), IMAGES), SPEC)
    rows = by_layer(fxgrow.summary(fxgrow.Plan.from_json(plan.to_json())))
    assert rows["stem"].width == (8, 12)
    assert rows["block.0_deeper1"].new
    assert "1x1 -> 3x3" in str(fxgrow.summary(plan))


def test_a_plan_alone_lists_what_it_leaves_once_with_the_reason() -> None:
    plan = fxgrow.plan(fxgrow.widths(teacher(), IMAGES), 2.0)
    heads = [row for row in fxgrow.summary(plan).rows if row.layer == "head"]
    assert [(row.width, "output of the model" in row.why) for row in heads] == [((4, 4), True)]


def test_a_chain_of_plans_is_summed_up_from_the_first_teacher_to_the_last_student() -> None:
    model = teacher()
    first = fxgrow.plan(fxgrow.widths(model, IMAGES), [fxgrow.Inputs("x", 5), fxgrow.Deepen("a")])
    middle = fxgrow.apply(first, model)
    chain = first.then(fxgrow.plan(fxgrow.widths(middle, torch.randn(2, 5, 10, 10).double()), {"stem": 16}))
    found = fxgrow.summary(chain, teacher=model)
    rows = by_layer(found)
    assert rows["stem"].parameters == (3 * 8 * 9 + 8, 5 * 16 * 9 + 16)
    assert rows["a_deeper1.linear"].new
    assert found == fxgrow.summary(fxgrow.apply(chain, model), teacher=model)


def test_clones_of_a_block_have_the_widths_of_the_block() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.ConvTranspose2d(8, 6, 1), nn.Conv2d(6, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(F.relu(self.up(x)))

    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Block(), Block()), nn.Flatten(), nn.Linear(800, 2))
    plan = fxgrow.plan(fxgrow.widths(model, IMAGES.float()), [{"1.1.up": 9}, fxgrow.Deepen("1", blocks=1)])
    new = {row.layer: row for row in fxgrow.summary(plan, teacher=model).rows if row.new}
    assert {path: row.width for path, row in new.items()} == {
        "1.1_deeper1.up": (None, 9),
        "1.1_deeper1.down": (None, 8),
    }


def test_the_width_of_a_layer_is_the_one_that_can_grow() -> None:
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3))
    found = fxgrow.summary(model, torch.zeros(2, 5, dtype=torch.int64))
    assert by_layer(found)["0"].width == (8, 8)
    assert by_layer(found)["1"].width == (3, 3)


def test_what_has_a_part_that_can_grow_has_no_reason_to_stay() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            first, second = self.a(x).split([4, 4], 1)
            return first, self.b(F.relu(second))

    row = by_layer(fxgrow.summary(Half(), torch.randn(2, 4)))["a"]
    assert " + " in row.group
    assert not row.why


def test_what_asks_for_numbers_is_run_on_numbers() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x[: int(x.sum().item() * 0) + 1]))

    model, x = Asking(), torch.randn(3, 4)
    found = fxgrow.widths(model, x)
    assert found.traced.inputs.real
    assert by_layer(fxgrow.summary(fxgrow.plan(found, {"a": 12}), teacher=found))["a"].flops == (2 * 4 * 8, 2 * 4 * 12)


def test_a_parameter_can_be_handed_to_a_module() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.a, self.b = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) + self.a(self.queries))

    model, x = Queries(), torch.randn(5, 4)
    student = fxgrow.grow(model, {"a": 12}, x)
    assert by_layer(fxgrow.summary(student, teacher=model))["a"].flops == (2 * 2 * 5 * 4 * 8, 2 * 2 * 5 * 4 * 12)
    assert fxgrow.verify(model, student, x).flops == fxgrow.summary(student, teacher=model).flops


def test_the_class_of_a_layer_is_the_teachers() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.by

    model = nn.Sequential(nn.Linear(4, 8), Scale(), nn.Linear(8, 2))
    assert by_layer(fxgrow.summary(fxgrow.grow(model, {"0": 12}), teacher=model))["1"].kind == "Scale"


def test_summary_changes_nothing_and_refuses_what_is_no_model() -> None:
    model = teacher()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = fxgrow.plan(fxgrow.widths(model, IMAGES), 2.0)
    fxgrow.summary(plan, IMAGES, teacher=model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(fxgrow.GrowError, match="got a str"):
        fxgrow.summary("resnet")
    with pytest.raises(fxgrow.GrowError, match="teacher is a str"):
        fxgrow.summary(plan, teacher="resnet")
    with pytest.raises(fxgrow.PlanError, match="does not have"):
        fxgrow.summary(plan, teacher=nn.Linear(2, 2))


def test_it_is_data_text_and_html() -> None:
    found = fxgrow.summary(fxgrow.grow(teacher(), {"stem": 12}, IMAGES), teacher=teacher())
    data = json.loads(json.dumps(found.data()))
    assert data["rows"][1]["layer"] == "stem"
    assert data["rows"][1]["width"] == [8, 12]
    assert data["total"]["parameters"] == list(found.parameters)
    text = str(found)
    assert "8 -> 12" in text
    assert text.split("\n\n")[0].splitlines()[-1].startswith("total")
    assert "<td" in found._repr_html_()
    assert " 8 -&gt; 12" in found._repr_html_()


def test_rich_prints_it_as_a_table() -> None:
    console = pytest.importorskip("rich.console", reason="rich is an extra").Console(width=140, record=True)
    with console.capture() as printed:
        console.print(fxgrow.summary(fxgrow.grow(teacher(), {"stem": 12}, IMAGES)))
    assert "8 -> 12" in printed.get()
    assert [short(n) for n in (0, 999, 1000, 594_231_296, 1_027_293_184)] == ["0", "999", "1.00 k", "594 M", "1.03 G"]


# -- in so many columns --------------------------------------------------------------------------------


def long_names() -> fxgrow.Summary:
    names = ("transition_with_squeeze_excitation", "transition_with_channel_shuffle")
    inside = {name: nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()) for name in names}
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    for name, part in inside.items():
        model.add_module(name, part)
    found = fxgrow.widths(model.double(), IMAGES)
    return fxgrow.summary(fxgrow.plan(found, 1.5), teacher=found)


@pytest.mark.parametrize("room", [60, 80, 100, 140])
def test_a_row_takes_a_line_of_the_terminal(room: int) -> None:
    for found in (long_names(), fxgrow.summary(teacher(), IMAGES)):
        lines = found.to_text(room).splitlines()
        body = lines[1 : len(found.rows) + 4]
        assert max(map(len, body)) <= room
        assert len({line.split()[0] for line in body[2:]}) == len(found.rows) + 1, "names are told apart"
        assert "parameters" in body[0]


def test_what_fits_is_not_shortened() -> None:
    found = fxgrow.summary(teacher(), IMAGES)
    assert "…" not in found.to_text(200)
    assert "it is an output of the model" in found.to_text(200)
    assert "why it stays" in found.to_text(110)


def test_rich_prints_a_row_a_line() -> None:
    console = pytest.importorskip("rich.console")
    found = long_names()
    for width in (80, 120):
        with console.Console(width=width, file=io.StringIO()) as out:
            out.print(found)
            assert len(out.file.getvalue().rstrip().splitlines()) <= len(found.rows) + 8


def test_only_what_changes_is_listed_and_totals_stay() -> None:
    model = teacher()
    found = fxgrow.widths(model, IMAGES)
    plan = fxgrow.plan(found, {"block.0": 2.0})
    every, changed = (fxgrow.summary(plan, teacher=found, changed_only=only) for only in (False, True))
    assert (changed.parameters, changed.flops) == (every.parameters, every.flops)
    assert 0 < len(changed.rows) < len(every.rows)
    for row in every.rows:
        differs = any(pair[0] != pair[1] for pair in (row.width, row.parameters, row.flops))
        assert differs == (row in changed.rows)
    assert not fxgrow.summary(model, IMAGES, changed_only=True).rows


def test_layers_deeper_than_a_depth_are_added_up() -> None:
    model = teacher()
    every, outer = fxgrow.summary(model, IMAGES), fxgrow.summary(model, IMAGES, depth=1)
    assert [row.layer for row in outer.rows] == ["", "stem", "norm", "block", "a", "b", "head"]
    inside = [row for row in every.rows if row.layer.startswith("block.")]
    block = by_layer(outer)["block"]
    assert block.kind == "2 layers"
    assert block.parameters == (sum(row.parameters[0] or 0 for row in inside),) * 2
    assert block.flops == (sum(row.flops[0] or 0 for row in inside),) * 2
    for depth in (0, -1, 1.5, "a", True):
        with pytest.raises(fxgrow.GrowError, match="depth"):
            fxgrow.summary(model, IMAGES, depth=depth)  # type: ignore[arg-type]


def test_markdown_and_csv_hold_every_row() -> None:
    found = long_names()
    lines = found.to_markdown().splitlines()
    assert len(lines) == len(found.rows) + 3
    assert {line.count(" | ") for line in lines} == {6}
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["layer"] for row in read] == [row.layer for row in found.rows]
    assert [int(row["parameters after"]) for row in read] == [row.parameters[1] for row in found.rows]
    assert [row["width before"] for row in read] == [str(row.width[0]) for row in found.rows]


# -- plans as text ----------------------------------------------------------------------------------------


def test_a_plan_of_many_nodes_prints_in_a_page_with_the_rest_counted() -> None:
    model = nn.Sequential(*[part for _ in range(400) for part in (nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU())])
    plan = fxgrow.plan(fxgrow.widths(model, torch.randn(2, 8)), 2.0)
    lines = str(plan).splitlines()
    assert len(lines) < 60
    shown = sum(line.split()[0].isdigit() and "x " in line for line in lines if line.strip())
    rest = next(int(line.split()[2].replace(",", "")) for line in lines if line.startswith("... and"))
    assert shown + rest == len(plan.grown_widths)
    assert "\n" not in repr(plan)
    assert len(repr(plan)) < 200


def test_a_small_plan_prints_whole_and_counts_are_worded() -> None:
    plan = fxgrow.plan(fxgrow.widths(teacher(), IMAGES), {"block.0": 2.0})
    assert "..." not in str(plan)
    assert str(plan).splitlines()[0].startswith("Plan for Net: 1 width grows, ")
    assert repr(plan) == f"<{'; '.join(str(plan).splitlines()[:2])}>"
    chain = plan.then(fxgrow.plan_of(fxgrow.grow(fxgrow.apply(plan, teacher()), {"block.0": 1.5}, IMAGES)).steps[-1])
    assert repr(chain) == f"{repr(plan)[:-1]}; then 1 more plan>"


def test_clones_count_alike_in_plan_and_summary() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(torch.relu(self.a(x)))

    found = fxgrow.widths(nn.Sequential(nn.Linear(4, 8), Block(), nn.Linear(8, 2)), torch.randn(1, 4))
    plan = fxgrow.plan(found, [{"1.a": 2.0}, Deepen("1", blocks=2)])
    for text in (
        str(plan).splitlines()[0],
        fxgrow.summary(plan, teacher=found).title,
        fxgrow.draw((found, plan)).title,
    ):
        assert "2 other changes" in text


def test_wide_characters_are_aligned() -> None:
    lines = table(("name", "n"), [("层一", "1"), ("e\u0301t", "22"), ("plain", "333")]).splitlines()
    ends = [columns(line) for line in lines]
    assert len(set(ends)) == 1
    assert columns("层一") == 4
    assert columns("e\u0301t") == 2
    assert columns(cut("层" * 9, 6)) <= 6
    assert columns(shortened("层" * 20, 9)) <= 9


def test_files_are_named_as_imports_name_them() -> None:
    assert in_package(torch.nn.modules.linear.__file__) == "torch/nn/modules/linear.py"
    assert in_package("/elsewhere/of/a/stranger/net.py") == "net.py"


def test_no_note_names_a_folder_of_the_machine() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            if x.device.type == "meta":
                x = x * 2
            return self.b(x)

    found = fxgrow.widths(Sized(), torch.randn(3, 4))
    plan = fxgrow.plan(found, 2.0)
    for text in (str(plan), str(fxgrow.summary(plan, teacher=found)), *found.traced.notes):
        assert str(Path(__file__).parent) not in text

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no such thing")

    with pytest.raises(fxgrow.GrowError) as caught:
        fxgrow.widths(Broken(), torch.randn(3, 4))
    assert str(Path(__file__).parent) not in str(caught.value)
    assert "test_summary.py:" in str(caught.value)
