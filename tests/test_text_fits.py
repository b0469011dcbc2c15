"""What is printed fits 80 columns, or so many as are asked for, and loses no name and no reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.fitted import fitted_text, page, paragraph, wrapped
from fxgrow.base.tables import COLUMNS, columns


class Deep(nn.Module):
    """Long names, a width that must stay for a long reason, and one that grows."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8))
        self.the_first_part_of_a_long_name = nn.ModuleDict({"and_a_second_part_of_it": nn.ModuleDict({"more": inner})})
        self.a, self.b, self.層 = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        x = self.層(self.a(x))
        x = x + self.the_first_part_of_a_long_name["and_a_second_part_of_it"]["more"](x)
        return self.b(torch.linalg.matrix_exp(x[:, :, None] * x[:, None, :]).sum(2) + x)


def _printed() -> dict[str, Callable[[], str]]:
    model, x = Deep(), torch.randn(3, 4)
    widths = fxgrow.widths(model, x)
    plan = fxgrow.plan(widths, {"*more.0": 2.0})
    student = fxgrow.apply(plan, model, x)
    return {
        "widths": lambda: str(widths),
        "why": lambda: widths.why("a"),
        "why two": lambda: widths.why("a", "層"),
        "plan": lambda: str(plan),
        "all": lambda: str(fxgrow.plan(widths, 2.0)),
        "cost": lambda: str(plan.cost()),
        "summary": lambda: str(fxgrow.summary(model, x)),
        "summary of a plan": lambda: str(fxgrow.summary(plan, teacher=widths)),
        "report": lambda: str(fxgrow.verify(model, student, x)),
    }


@pytest.mark.parametrize("what", list(_printed()))
def test_what_is_printed_fits_a_terminal(what: str) -> None:
    text = _printed()[what]()
    assert max(map(columns, text.splitlines())) <= COLUMNS
    assert text


def test_a_plan_and_widths_fit_the_columns_that_are_asked_for() -> None:
    widths = fxgrow.widths(Deep(), torch.randn(3, 4))
    for found in (widths, fxgrow.plan(widths, 2.0)):
        for room in (60, 80, 132):
            lines = found.to_text(room).splitlines()
            assert max(map(columns, lines)) <= room
        assert max(map(columns, found.to_text(400).splitlines())) > COLUMNS


def test_a_reason_is_wrapped_and_not_cut() -> None:
    plan = fxgrow.plan(fxgrow.widths(Deep(), torch.randn(3, 4)), 2.0)
    reason = next(entry.reason for entry in plan.skipped if "matrix_exp" in entry.reason)
    column = "".join(line[line.index("  ") :] if "  " in line else "" for line in str(plan).splitlines())
    assert "".join(reason.split())[:120] in "".join(column.split())


def test_words_are_kept_and_long_ones_shortened_in_their_middle() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    for room in range(8, 50):
        lines = wrapped(text, room)
        assert max(map(columns, lines)) <= room
        assert " ".join(line.strip() for line in lines) == text
    (line,) = wrapped("a_name_that_is_much_longer_than_what_there_is_room_for", 20, indent="")
    assert columns(line) <= 20
    assert line.startswith("a_name")
    assert line.endswith("room_for")
    assert paragraph("層" * 60, 40).count("\n") <= 1
    assert max(map(columns, paragraph("層 " * 60, 40).splitlines())) <= 40


def test_columns_of_a_table_give_way_from_the_widest_on() -> None:
    rows = [("a", "3", "x " * 80), ("a.rather.long.name.of.a.layer.in.a.model", "4,000", "y")]
    lines = fitted_text((("layer", "n", "why"), rows), 60).splitlines()
    assert max(map(columns, lines)) <= 60
    assert sum(line.count("x") for line in lines) == 80
    assert any(line.startswith("a.r") and line.rstrip().endswith("y") for line in lines)
    assert lines[2].index("3") == lines[-1].index("4,000") + 4  # numbers stay right


def test_a_page_counts_what_it_leaves_out() -> None:
    rows = [(f"row {i}", "word " * 40) for i in range(50)]
    text = page("title", [(("a", "b"), rows)], [f"note {i}" for i in range(40)], 58)
    assert len(text.splitlines()) < 60
    shown = sum(line.startswith("row ") for line in text.splitlines())
    assert f"... and {50 - shown} more\n" in text
    notes = text.count("note: ")
    assert f"... and {40 - notes} more notes" in text
    assert shown
    assert notes
