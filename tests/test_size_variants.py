"""The sizes on which inference tries a model: which ones, and that each differs from that of the example."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fxgrow.infer.size_variants import Variant, all_at_once, batches, others, ranks


def _shapes(variants: Iterable[Variant]) -> list[tuple[int, ...]]:
    return [tuple(variant.arguments["x"].shape) for variant in variants]


def _first(alternatives: Iterable[tuple[Variant, ...]]) -> list[Variant]:
    return [variants[0] for variants in alternatives]


def _meta(*shape: int) -> dict[str, Tensor]:
    return {"x": torch.empty(shape, device="meta")}


def test_all_sizes_change_at_once_to_larger_ones_and_to_much_larger_ones_on_meta() -> None:
    assert _shapes(_first(all_at_once(_meta(4, 12), (), ()))) == [(9, 36), (5, 14), (37, 48)]


def test_where_a_run_costs_something_later_sizes_are_twice_and_half_and_larger_ones_stand_in() -> None:
    halved, larger = next(all_at_once({"x": torch.zeros(2, 3, 8, 12)}, (), [("input 0", 1)]))
    assert _shapes([halved, larger]) == [(3, 3, 16, 6), (5, 3, 24, 24)]
    assert _shapes(_first(all_at_once({"x": torch.zeros(4, 12)}, (), ()))) == [(5, 24), (5, 14)]


def test_both_sides_of_an_image_change_to_different_sizes() -> None:
    assert _shapes(_first(all_at_once(_meta(2, 3, 8, 8), (), ()))) == [(5, 9, 16, 24), (3, 5, 11, 12), (19, 12, 72, 32)]


def test_a_batch_of_one_changes_and_other_dimensions_of_size_1_do_not() -> None:
    for (variant,) in all_at_once(_meta(1, 1, 7), (), ()):
        batch, one, tokens = variant.arguments["x"].shape
        assert batch > 1
        assert one == 1
        assert tokens > 7
        assert {dim for _, dim in variant.changed} == {0, 2}


def test_no_batch_is_a_size_of_the_model() -> None:
    avoided = {9, 5, 37, 10}
    for (variant,) in all_at_once(_meta(4, 12), avoided, ()):
        assert variant.arguments["x"].shape[0] not in avoided


def test_later_dimensions_are_multiples_of_the_example_even_where_the_model_has_that_size() -> None:
    assert _shapes(next(all_at_once(_meta(4, 12), {36}, ()))) == [(9, 36)]


def test_a_stated_dimension_stays() -> None:
    for (variant,) in all_at_once(_meta(4, 12), (), [("input 0", 1)]):
        assert variant.arguments["x"].shape[1] == 12
        assert variant.changed == {("input 0", 0)}


def test_batches_that_are_no_multiple_and_no_size_of_the_model_come_first() -> None:
    sizes = [shape[0] for shape in _shapes(batches(_meta(4, 12), {5, 6}))]
    assert sizes == [7, 36, 16, 10, 8, 12]
    assert [shape[0] for shape in _shapes(batches({"x": torch.zeros(4, 12)}, {5, 6}))] == [7, 10, 8, 12]


def test_the_entries_of_a_larger_batch_are_those_of_the_example_again() -> None:
    x = torch.arange(8.0).view(4, 2)
    larger = next(batches({"x": x}, ())).arguments["x"]
    assert torch.equal(larger, torch.cat([x, x])[: len(larger)])


def test_dimensions_of_one_size_change_together_to_sizes_that_are_free() -> None:
    together = [v for v in others(_meta(2, 6, 6), {7, 9}) if v.kind == "size 6"]
    assert _shapes(together) == [(2, 8, 8), (2, 10, 10)]
    assert all(variant.changed == {("input 0", 1), ("input 0", 2)} for variant in together)


def test_dimensions_of_one_size_stay_where_the_model_has_every_size_up_to_nearly_twice_theirs() -> None:
    kinds = {variant.kind for variant in others(_meta(2, 6, 6), set(range(7, 18)))}
    assert kinds == {"dimension 1", "dimension 2"}


def test_each_later_dimension_changes_alone() -> None:
    alone = [v for v in others(_meta(2, 6, 5), {7}) if v.kind == "dimension 1"]
    assert [shape[1] for shape in _shapes(alone)] == [8, 54, 24, 9, 12, 18, 7, 5]
    assert all(variant.changed == {("input 0", 1)} for variant in alone)


def test_every_dimension_that_any_of_several_inputs_has_changes_alone() -> None:
    arguments = {"mask": torch.empty(2, device="meta"), "x": torch.empty(2, 6, 5, device="meta")}
    kinds = {variant.kind: variant.changed for variant in others(arguments, ())}
    assert kinds["dimension 1"] == {("input 1", 1)}
    assert kinds["dimension 2"] == {("input 1", 2)}


def test_a_dimension_less_and_one_more_in_front_or_behind_the_first() -> None:
    assert _shapes(ranks(_meta(4, 12))) == [(12,), (1, 4, 12), (4, 5, 12)]
