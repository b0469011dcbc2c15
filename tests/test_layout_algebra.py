"""Facts of layouts and their unification that no test of networks notices, as the check of a student absorbs them."""

from collections.abc import Mapping

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxgrow.layouts.index_map import index_map
from fxgrow.layouts.layout import Layout, Var, atoms, concat, fixed, measure, of, product
from fxgrow.layouts.unify import Inexpressible, Unifier, size


def _vars(*sizes: int) -> tuple[Unifier, list[Var]]:
    unifier = Unifier()
    unifier.site = "here"
    return unifier, [unifier.fresh("abcdef"[i], n) for i, n in enumerate(sizes)]


def test_a_concatenation_that_meets_a_fixed_size_is_pinned_on_either_side() -> None:
    for swapped in (False, True):
        u, (a, b) = _vars(3, 5)
        pair = (concat([of(a), of(b)]), fixed(8))
        u.unify(*(pair[::-1] if swapped else pair))
        assert u.reasons(a), swapped
        assert u.reasons(b), swapped


def test_an_elastic_dimension_that_met_a_width_is_no_longer_elastic() -> None:
    for elastic_first in (True, False):
        u = Unifier()
        first = u.fresh("x", 8, elastic=elastic_first)
        u.unify(of(first), of(u.fresh("y", 8, elastic=not elastic_first)))
        u.unify(of(first), fixed(8))
        (root,) = atoms(u.resolve(of(first)))
        assert u.reasons(root), elastic_first


def test_a_width_that_meets_a_number_of_rows_is_one() -> None:
    u = Unifier()
    width, rows = u.fresh("width", 4), u.fresh("rows", 4, count=True)
    u.unify(of(rows), of(width))
    (root,) = atoms(u.resolve(of(rows)))
    assert u.is_count(root)


def test_widths_that_are_unified_are_no_number_of_rows_and_neither_are_parts_of_one() -> None:
    u, (a, b, c, d) = _vars(4, 4, 1, 3)
    rows = u.fresh("rows", 4, count=True)
    u.unify(of(a), of(b))
    u.unify(of(rows), concat([of(c), of(d)]))
    assert not any(u.is_count(var) for var in (a, b, c, d))


def test_a_factor_of_size_1_that_is_left_over_is_pinned() -> None:
    u, (a, b, one, c, d) = _vars(2, 3, 1, 2, 3)
    u.unify(product([of(a), of(b), of(one)]), product([of(c), of(d)]))
    assert u.reasons(one)
    assert u.resolve(of(c)) == u.resolve(of(a))


def test_a_cut_through_one_copy_pins_the_copy_that_it_falls_into() -> None:
    u, (a,) = _vars(5)
    u.cut(product([of(a), fixed(2)]), 5)  # in the middle of the third pair
    parts = list(atoms(u.resolve(of(a))))
    assert [(v.size, bool(u.reasons(v))) for v in parts] == [(2, False), (1, True), (2, False)]


def test_in_a_split_into_three_only_the_width_is_free() -> None:
    u, (a,) = _vars(24)
    parts = u.split_into(of(a), (2, 3, 4), ("fixed", "width", "fixed"))
    assert [size(p) for p in parts] == [2, 3, 4]
    assert [len(list(atoms(p))) for p in parts] == [0, 1, 0]
    (width,) = atoms(parts[1])
    assert not u.reasons(width)


def test_a_normal_form_has_no_ones_and_no_empty_blocks() -> None:
    assert product([fixed(1), of("a"), fixed(1)]) == of("a")
    assert product([of("a"), ((1,),)]) == of("a")
    assert concat([fixed(0), of("a"), fixed(0)]) == of("a")
    assert concat([fixed(0), fixed(0)]) == fixed(0)
    assert concat([fixed(0), fixed(1)]) == concat([fixed(1), fixed(0)]) == fixed(1)


def test_the_index_map_of_a_nested_concatenation() -> None:
    mapping = {"a": torch.tensor([0, 1, 0]), "b": torch.tensor([0])}  # a: 2 -> 3, b: 1
    layout = ((2, concat([of("a"), of("b")])),)  # 2*(a + b)
    index, original = index_map(layout, {"a": 2, "b": 1}.__getitem__, mapping.__getitem__)
    assert index.tolist() == [0, 1, 0, 2, 3, 4, 3, 5]
    assert original.tolist() == [True, True, False, True] * 2


def test_blocks_that_share_a_width_are_cut_together() -> None:
    u, (a, b, c) = _vars(4, 2, 6)
    u.unify(concat([of(a), of(a), of(b)]), concat([of(b), of(b), of(c)]))
    left, right = (u.resolve(x) for x in (concat([of(a), of(a), of(b)]), concat([of(b), of(b), of(c)])))
    assert left == right


def test_rows_that_are_split_are_in_terms_of_what_their_factors_became() -> None:
    u, (a,) = _vars(6)
    rows, row = u.split(product([of(a), of(a)]), 2, ("width", "width"))
    assert row == u.resolve(row)
    assert rows == u.resolve(rows)


def test_factors_behind_a_split_one_are_unified_too() -> None:
    u, (x, y, b, c) = _vars(2, 6, 4, 3)
    u.unify(product([of(x), of(y)]), product([of(b), of(c)]))  # b is 2*2, so y is 2*c
    assert u.resolve(product([of(x), of(y)])) == u.resolve(product([of(b), of(c)]))
    assert list(atoms(u.resolve(of(y))))[-1] is c
    assert not u.reasons(c)


def test_a_sum_among_factors_is_read_anew_when_a_factor_before_it_was_bound() -> None:
    u, (x, y, z, p, q) = _vars(2, 2, 3, 2, 3)
    u.unify(product([of(p), concat([of(p), of(q)])]), product([of(x), concat([of(y), of(z)])]))
    assert u.resolve(of(p)) == u.resolve(of(x)) == u.resolve(of(y))
    assert u.resolve(of(q)) == u.resolve(of(z))


def test_an_empty_block_at_the_end_of_a_concatenation_meets_nothing() -> None:
    u, (a, b, empty, c, d) = _vars(3, 5, 0, 4, 4)
    u.unify(concat([of(a), of(b), of(empty)]), concat([of(c), of(d)]))
    assert size(u.resolve(of(c))) == 4
    assert u.resolve(of(c))[0] == (a,)
    assert u.resolve(of(empty)) == of(empty)


def test_a_dimension_of_constants_takes_the_size_of_an_input() -> None:
    u = Unifier()
    constant = u.fresh("constant", 8, elastic=True)
    x = u.fresh("input x[1]", 8, of_input=("x", 1))
    u.unify(of(constant), of(x))
    assert u.resolve(of(constant)) == of(x)
    assert u.resolve(of(x)) == of(x), "while the rules run, nothing is bound to a dimension of an input"


def test_where_parts_of_an_input_have_to_be_fixed_other_inputs_stay() -> None:
    u = Unifier()
    x, y = u.fresh("input x[1]", 12, of_input=("x", 1)), u.fresh("input y[1]", 12, of_input=("y", 1))
    u.split_into(of(x), [3, 4], ["width", "width"])
    u.expressed(lambda: u.split_into(of(x), [2, 6], ["width", "width"]), of(x), of(y))
    assert u.resolve(of(x)) == fixed(12)
    assert u.resolve(of(y)) == of(y)


def test_what_pins_an_input_for_its_own_sake_stays_when_it_is_lifted() -> None:
    u = Unifier()
    x, y = u.fresh("input x[1]", 12, of_input=("x", 1)), u.fresh("input y[1]", 12, of_input=("y", 1))
    for one in (x, y):
        u.pin(of(one), "positions of channels are used")
    lifted = u.with_inputs({("x", 1)})
    assert lifted.reasons(x) == ("positions of channels are used",)
    assert lifted.reasons(y) == (), "it is a fixed size now"


# -- for random layouts ------------------------------------------------------------------------------------

SIZES: Mapping[str, int] = {"a": 2, "b": 3, "c": 4}
MAPPINGS: Mapping[str, Tensor] = {
    "a": torch.tensor([0, 1, 0]), "b": torch.tensor([0, 1, 2, 2, 0]), "c": torch.arange(4),
}  # fmt: skip
LEAVES = st.one_of(st.sampled_from(["a", "b", "c"]).map(of), st.integers(0, 4).map(fixed))
LAYOUTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(concat), st.lists(inner, min_size=1, max_size=2).map(product)
    ),
    max_leaves=5,
)


def _old(layout: Layout) -> int:
    return measure(layout, SIZES.__getitem__)


def _new(layout: Layout) -> int:
    return measure(layout, {name: len(mapping) for name, mapping in MAPPINGS.items()}.__getitem__)


def _map(layout: Layout) -> tuple[Tensor, Tensor]:
    return index_map(layout, SIZES.__getitem__, MAPPINGS.__getitem__)


@given(layout=LAYOUTS)
def test_an_index_map_covers_the_old_entries_once_as_originals_in_order(layout: Layout) -> None:
    index, original = _map(layout)
    assert len(index) == _new(layout)
    assert index[original].tolist() == list(range(_old(layout)))


@given(first=LAYOUTS, second=LAYOUTS)
def test_the_map_of_a_concatenation_is_that_of_its_parts_one_after_the_other(first: Layout, second: Layout) -> None:
    index, _ = _map(concat([first, second]))
    assert index.tolist() == [*_map(first)[0].tolist(), *(_map(second)[0] + _old(first)).tolist()]


@given(outer=LAYOUTS, inner=LAYOUTS)
def test_the_map_of_a_product_is_row_major(outer: Layout, inner: Layout) -> None:
    rows, columns = _map(outer)[0], _map(inner)[0]
    assert _map(product([outer, inner]))[0].tolist() == (rows[:, None] * _old(inner) + columns).flatten().tolist()


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Unifier, Layout, Layout]:
    """Two layouts of one size over fresh variables."""
    u = Unifier()
    u.site = "here"
    parts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    total = sum(parts)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, total - 1)), max_size=3)) - {total})
    others = [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
    left, right = (
        concat([of(u.fresh(f"{name}{i}", n)) for i, n in enumerate(sizes)])
        for name, sizes in (("l", parts), ("r", others))
    )
    return u, left, right


@given(pair=_pairs())
def test_layouts_that_were_unified_are_one_and_keep_their_sizes(pair: tuple[Unifier, Layout, Layout]) -> None:
    u, left, right = pair
    before = size(left)
    u.unify(left, right)
    assert u.resolve(left) == u.resolve(right)
    assert size(u.resolve(left)) == before


@given(layout=LAYOUTS, at=st.integers(0, 40))
def test_the_parts_of_a_cut_have_the_sizes_that_it_says(layout: Layout, at: int) -> None:
    u = Unifier()
    u.site = "here"
    fresh = {name: of(u.fresh(name, n)) for name, n in SIZES.items()}
    whole = _substituted(layout, fresh)
    at = min(at, size(whole))
    try:
        first, second = u.cut(whole, at)
    except Inexpressible:
        return
    assert (size(first), size(second)) == (at, size(whole) - at)


def _substituted(layout: Layout, fresh: Mapping[str, Layout]) -> Layout:
    def factor(one: object) -> Layout:
        if isinstance(one, str):
            return fresh[one]
        if isinstance(one, int):
            return fixed(one)
        return _substituted(one, fresh)  # type: ignore[arg-type]

    return concat([product([factor(one) for one in block]) for block in layout]) if layout else layout
