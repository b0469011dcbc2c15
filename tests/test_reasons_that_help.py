"""Reasons that a user can act on: what a width is the size of, and what to ask for instead."""

import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from benchmarks.torchvision_shim import import_torchvision

torchvision = import_torchvision()
IMAGES = torch.randn(2, 3, 8, 8)


class _Middle(nn.Module):
    """(N, 3, 8, 8) -> (N, 4), with something between a convolution and the rest."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(64, 4)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        between = self.between
        out: Tensor = self.fc(between(self.conv2(self.conv1(x).relu())).flatten(2).mean(1))
        return out


def _refused(model: nn.Module, spec: object, **options: object) -> str:
    with pytest.raises(fxgrow.PlanError) as error:
        fxgrow.plan(fxgrow.widths(model, IMAGES, **options), spec)  # type: ignore[arg-type]
    return str(error.value)


def test_the_channels_of_an_input_are_called_so_and_the_request_for_them_is_named() -> None:
    model = _Middle(lambda h: h)
    reason = _refused(model, {"input of conv1": 6})
    assert "the model's input x" in reason
    assert "fxgrow.Inputs('x', ...)" in reason
    widths = fxgrow.widths(model, IMAGES)
    assert "which fxgrow.Inputs('x', ...) grows" in " ".join(widths.why("conv1").split())
    fxgrow.plan(widths, fxgrow.Inputs("x", 6))  # what the reason names can be asked for


def test_an_input_among_several_is_named_as_inputs_takes_it() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(5, 8)

        def forward(self, pair: list[Tensor]) -> Tensor:
            out: Tensor = self.a(pair[0]) * self.b(pair[1])
            return out

    widths = fxgrow.widths(Two(), {"pair": [torch.randn(2, 4), torch.randn(2, 5)]})
    assert "fxgrow.Inputs('pair[1]', ...)" in " ".join(widths.why("b").split())
    assert fxgrow.plan(widths, fxgrow.Inputs("pair[1]", 7)).io_dims


def test_a_table_of_positions_is_tied_to_an_input_that_no_request_grows_there() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc = nn.Parameter(torch.randn(5, 8)), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x + self.table)
            return out

    reason = " ".join(fxgrow.widths(Positions(), torch.randn(2, 5, 8)).why("table").split())
    assert "the fixed size 5 in add (add), that of the model's input x" in reason
    assert "Inputs" not in reason.partition("table[1]")[0].partition("fixed size 5")[2]


def test_an_argument_of_forward_that_is_asked_for_by_its_name_leads_to_inputs() -> None:
    assert "fxgrow.Inputs('x', CHANNELS)" in _refused(_Middle(lambda h: h), {"x": 6})
    assert "Inputs" not in _refused(_Middle(lambda h: h), {"y": 6})


MIXES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "view": (lambda h: h.view(2, 8, 64), r"view is given a tensor of the sizes \(2, 16, 8, 8\)"),
    "reshape behind permute": (
        lambda h: h.permute(0, 2, 3, 1).reshape(2, 64, 8).mT.reshape(2, 8, 8, 8),
        "the sizes that meet there do not fit in the student",
    ),
    "product with ones": (
        lambda h: h * torch.ones(1, 8, 1, 1),
        r"mul is given tensors of the sizes \(2, 16, 8, 8\) and \(1, 8, 1, 1\) in the student",
    ),
    "split": (lambda h: torch.cat(h.split([4, 4], 1), 1), r"split_with_sizes is given a tensor of the sizes \(2, 16"),
    "slices": (
        lambda h: torch.cat([h[:, :4], h[:, 4:]], 1),
        r"slice gives \(2, 4, 8, 8\) where the student's widths ask for \(2, 8, 8, 8\)",
    ),
}


@pytest.mark.parametrize("case", MIXES)
def test_a_size_that_code_states_is_told_in_words_of_the_student_with_torchs_own_behind(case: str) -> None:
    between, says = MIXES[case]
    reason = _refused(_Middle(between), {"conv2": 16}, output="module")
    head, _, torchs = reason.partition("(torch: ")
    assert "the model's code states a size" in head
    assert re.search(says, head), reason
    assert "test_reasons_that_help.py:" in reason
    assert "is invalid for input" not in head
    assert torchs or case == "slices"
    assert "output='graph' can change sizes that code states" in reason


def test_code_that_refuses_the_students_sizes_is_quoted_and_is_not_called_torchs() -> None:
    def checked(h: Tensor) -> Tensor:
        if h.shape[1] != 8:
            raise ValueError("eight channels, please")
        return h

    reason = _refused(_Middle(checked), {"conv2": 16}, output="module")
    assert "the code refuses the student's sizes: ValueError: eight channels, please" in reason
    assert "torch:" not in reason


def test_a_dimension_of_one_token_is_no_width_that_anybody_means() -> None:
    vit = torchvision.models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    widths = fxgrow.widths(vit, IMAGES)
    assert [group.name for group in widths.groups if group.size == 1] == []
    with pytest.raises(fxgrow.PlanError, match=r"close: class_token$"):
        fxgrow.plan(widths, {"class_tokn": 2.0})
    assert "class_token[1]" not in str(fxgrow.plan(widths, 2.0))


def test_a_summary_without_room_for_reasons_has_them_below_its_table() -> None:
    model = _Middle(lambda h: h)
    text = fxgrow.summary(model, IMAGES).to_text(60)
    table, _, below = text.partition("\n\n")
    assert "it is an output of the model" not in table
    assert "fc: it is an output of the model" in below
    assert max(map(len, text.splitlines())) <= 60
    wide = fxgrow.summary(model, IMAGES).to_text(200)
    assert wide.count("it is an output of the model") == 1, "and not twice where there is room"


def test_the_request_for_an_input_in_a_nested_argument_can_be_copied() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            out: Tensor = self.b(self.a(batch["image"]).relu())
            return out

    widths = fxgrow.widths(Nested(), {"batch": {"image": torch.randn(2, 4)}})
    with pytest.raises(fxgrow.PlanError) as error:
        fxgrow.plan(widths, {"input of a": 6})
    request = str(error.value).rpartition("ask for fxgrow.")[2]
    assert fxgrow.plan(widths, eval(request, {"Inputs": fxgrow.Inputs})).io_dims, request


def test_where_no_name_is_close_the_layers_are_listed() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)])
    with pytest.raises(fxgrow.PlanError, match=r"parameter; the layers are 0, 1, 2, 3, 4, 5, 6, 7 and 1 more$"):
        fxgrow.grow(model, {"conv1": 8}, torch.randn(2, 4))


def test_an_entry_of_a_sequential_that_is_a_graph_is_refused_with_what_to_write() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    student: Any = fxgrow.grow(model, {"0": 12}, torch.randn(2, 4))
    with pytest.raises(TypeError, match=r"get_submodule\('0'\).*output='module'"):
        student[0]
    assert cast("Any", fxgrow.grow(model, {"0": 12}, torch.randn(2, 4), output="module"))[0].out_features == 12


def test_a_plan_says_that_it_is_the_number_of_dimensions_that_code_asks_for() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1))
    (note,) = fxgrow.trace(model, torch.randn(2, 3, 4, 4)).notes
    assert "as many dimensions as the example's" in note
