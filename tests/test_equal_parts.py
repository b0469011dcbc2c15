"""Widths that come out equal where code cuts a dimension into equal parts."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.infer.groups import Group
from fxgrow.layouts.layout import Equality
from fxgrow.solver.equal_parts import GroupGain, solve_equal_parts
from fxgrow.solver.mean_channels import MeanChannels
from fxgrow.solver.plan_widths import _equal_parts, _notes
from fxgrow.solver.targets import Targets, _gains, _with_equal_parts
from fxgrow.spec.parse import Widen
from tests.check import assert_exact, grown, randomise
from tests.nets.registry import IMAGE
from tests.nets.splits import shuffle_chain
from tests.thinned import pairs

SIZES = {"a": 7, "b": 6, "c": 14, "d": 1}


def _solved(*pairs: tuple[object, object], wanted: Mapping[str, int], given: str = "") -> dict[str, int]:
    groups = {name: Group(name, size) for name, size in SIZES.items()}
    equalities = [Equality(left, right, "a test") for left, right in pairs]  # type: ignore[arg-type]
    return solve_equal_parts(equalities, groups, [GroupGain({name: 1}, n, name in given) for name, n in wanted.items()])


def test_parts_beside_fixed_ones_gain_the_same() -> None:
    # 8*a + 2 = 8*b + 10, and 4*(a + b) + 4 = 4*c
    halves = ((("a", 8), (2,)), (("b", 8), (10,)))
    wholes = ((("a", 4), ("b", 4), (4,)), (("c", 4),))
    new = _solved(halves, wholes, wanted={"a": 4, "b": 3, "c": 7})
    assert new == {"a": 11, "b": 10, "c": 22}


def test_what_is_given_stays_as_it_is() -> None:
    assert _solved(((("c",),), ((2, "a"),)), wanted={"a": 2, "c": 8}, given="c") == {"a": 11, "c": 22}
    assert _solved(((("c",),), ((2, "a"),)), wanted={"a": 2, "c": 7}, given="c") == {}, "7 is no multiple of 2"


def test_beside_a_part_that_stays_nothing_grows() -> None:
    assert _solved(((("a",),), (("b",), (1,))), wanted={"a": 3}) == {"a": 7}


def test_widths_that_gain_together_are_solved_for_together() -> None:
    groups = {name: Group(name, size) for name, size in SIZES.items()}
    one, two = Equality((("a",),), (("b",), (1,)), ""), Equality((("c",),), ((14, "d"),), "")
    gains = [GroupGain({"a": 7, "c": 14}, 1), GroupGain({"b": 1}, 6), GroupGain({"d": 1}, 2)]
    assert solve_equal_parts([one, two], groups, gains) == {"a": 14, "c": 28, "b": 13, "d": 2}


def test_a_component_without_a_solution_is_left_out() -> None:
    new = _solved(((("a",),), (("b",), (1,))), ((("c",),), (("d", 14),)), wanted={"a": 3, "c": 5, "d": 1}, given="ac")
    assert new == {}


def test_parts_of_a_whole_that_stays_do_not_grow() -> None:
    assert _solved(((("a",), ("b",)), ((13,),)), wanted={"a": 3, "b": 3}) == {"a": 7, "b": 6}


def test_gains_are_whole_numbers_even_where_coefficients_are_no_multiples() -> None:
    # 7*b = 3*c: b gains 3 where it is to gain 2, as 7*2/3 is no number
    assert _solved((((7, "b"),), ((3, "c"),)), wanted={"b": 2, "c": 5}) == {"b": 9, "c": 21}


def test_what_is_in_no_equation_is_left_to_others() -> None:
    assert _solved(((("a",),), (("b",), (1,))), wanted={"a": 3, "b": 3, "d": 1}) == {"a": 10, "b": 9}


def test_a_component_is_solved_behind_one_that_has_no_solution() -> None:
    unsolvable, solvable = ((("a",),), (("b",), (1,))), ((("c",),), (("d", 14),))
    assert _solved(unsolvable, solvable, wanted={"a": 3, "c": 14, "d": 1}, given="a") == {"c": 28, "d": 2}


def test_a_width_under_a_layer_norm_gains_whole_multiples_unless_its_channels_carry_means() -> None:
    found = fxgrow.widths(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(2, 6))
    found = replace(found, equal=(Equality((("0",),), ((8,),), "a test"),))
    targets = Targets({"0": 24}, {"0": Widen("*", 3.0)})
    assert _gains(found, targets, set()) == [GroupGain({"0": 8}, 2)]
    means = replace(targets, mean_channels={"0": MeanChannels({}, ())})
    assert _gains(found, means, set()) == [GroupGain({"0": 1}, 16)]


def test_a_plan_notes_how_many_channels_carry_means_where_some_do() -> None:
    found = fxgrow.widths(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)), torch.randn(2, 6))
    targets = Targets(mean_channels={"0": MeanChannels({}, ())})

    def noted(width: int) -> list[str]:
        return [note for note in _notes(found, {"0": width}, targets, (), alone=True) if "carry the mean" in note]

    assert noted(16) == []
    (note,) = noted(18)
    assert note.startswith("0: 2 of 18 channels carry the mean of the 8")


def test_a_width_that_stays_beside_equal_parts_says_what_it_grows_with() -> None:
    found = fxgrow.widths(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)))
    both = frozenset(["0", "2"])
    groups = {
        name: replace(one, uniform=("a test ties them",), ratio=both) if name in both else one
        for name, one in found.groups_by_name.items()
    }
    found = replace(found, groups_by_name=groups, equal=(Equality((("2",),), ((4,),), "equal parts"),))
    request = Widen("*", 2.0)
    targets = _with_equal_parts(found, Targets({"0": 16, "2": 8}, {"0": request, "2": request}), set(), "auto")
    assert targets.new == {"0": 8, "2": 4}
    assert targets.skipped == {
        "0": "a test ties them; it grows by one factor with 2: equal parts, and other parts of it must stay",
        "2": "equal parts, and other parts of it must stay",
    }


@pytest.mark.parametrize(
    ("sizes", "equal"),
    [((4, 4, 4), True), ((4, 4, 3), True), ((4, 3, 4), False), ((3, 4), False), ((4, 4, 0), False), ((4, 1, 1), False)],
)
def test_which_sizes_a_split_by_one_number_gives(sizes: tuple[int, ...], equal: bool) -> None:
    assert _equal_parts(sizes) is equal
    assert equal == ([len(part) for part in torch.zeros(sum(sizes)).chunk(len(sizes))] == list(sizes))


@pytest.mark.parametrize(("half", "factor"), pairs([8, 12, 14], [1.5, 2.0, 3.0]))
def test_shuffled_halves_grow_in_the_users_own_class(half: int, factor: float) -> None:
    """An odd half of a half is cut through an interleaved pair, which stays; both sides of it gain the same."""
    teacher = randomise(shuffle_chain(half, units=3).double())
    x = torch.randn(IMAGE, dtype=torch.float64)
    student = fxgrow.grow(teacher, factor, x, output="module")
    assert_exact(teacher, student, x, 1e-10)
    assert grown(teacher, student) >= {name for name, p in teacher.named_parameters() if p.ndim > 1}
    assert student[0].out_channels >= factor * 2 * half - 4


class Stage(nn.Module):
    """A chain over thirds, then tokens: where the thirds are not alike, whole multiples give others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        third = -(-width // 3)
        self.a, self.b = nn.Conv2d(third, third, 1), nn.Conv2d(third, third, 1)
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, 10), nn.Linear(10, width)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = x.chunk(3, dim=1)
        first = self.a(first)
        y = torch.cat([first, self.b(first + second), third], 1)
        n, c, h, w = y.shape
        y = self.outer(torch.tanh(self.inner(self.norm(y.flatten(2).transpose(1, 2)))))
        return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)


class Stages(nn.Module):
    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip((3, *widths), widths, strict=False))
        self.stages = nn.ModuleList(Stage(width) for width in widths)
        self.head = nn.Conv2d(widths[-1], 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
        return self.head(x)


def test_a_stage_of_uneven_parts_stays_and_others_grow() -> None:
    teacher = randomise(Stages(7, 9, 12).double())
    x = torch.randn(IMAGE, dtype=torch.float64)
    student = fxgrow.grow(teacher, 2.0, x, output="module")
    assert_exact(teacher, student, x, 1e-10)
    assert [down.out_channels for down in student.downs] == [7, 18, 24]
    assert student.stages[0].inner.out_features == 20
