"""Layouts and their unification: what is found to be one width, and what is pinned."""

import pytest
import torch

from fxgrow.layouts.index_map import index_map
from fxgrow.layouts.layout import Var, concat, fixed, measure, of, prefix, product, show
from fxgrow.layouts.unify import Inexpressible, Unifier, size


def _vars(*sizes: int) -> tuple[Unifier, list[Var]]:
    unifier = Unifier()
    unifier.site = "here"
    return unifier, [unifier.fresh("abcdef"[i], n) for i, n in enumerate(sizes)]


def test_normal_form() -> None:
    a, b = "a", "b"
    assert product([of(a), fixed(7), fixed(7)]) == (("a", 49),)
    assert concat([fixed(3), fixed(5), of(a)]) == ((8,), ("a",))
    assert product([concat([of(a), of(b)]), fixed(4)]) == (("a", 4), ("b", 4))
    assert show(product([fixed(2), concat([of(a), of(b)])])) == "2*(a + b)"


def test_one_width() -> None:
    u, (a, b) = _vars(8, 8)
    u.unify(of(a), of(b))
    assert u.resolve(of(b)) == of(a)


def test_pin_follows_into_what_a_width_becomes() -> None:
    u, (a, b, c) = _vars(8, 3, 5)
    u.pin(of(a), "because")
    u.unify(of(a), concat([of(b), of(c)]))
    assert u.reasons(b) == u.reasons(c) == ("because",)


def test_a_width_beside_a_factor_of_size_1_is_that_width() -> None:
    """As where one class token is flattened together with the batch."""
    u, (token, batch) = _vars(1, 2)
    u.unify(of(batch), product([of(token), of(batch)]))
    assert u.reasons(token) == ("a factor of size 1 in here",)
    assert u.reasons(batch) == ()


def test_meeting_a_fixed_size_pins_and_names_the_place() -> None:
    u, (a,) = _vars(8)
    u.unify(of(a), fixed(8))
    assert u.reasons(a) == ("meets the fixed size 8 in here",)


def test_concatenations_are_cut_at_each_others_seams() -> None:
    u, (a, b, c, d) = _vars(3, 5, 4, 4)
    u.unify(concat([of(a), of(b)]), concat([of(c), of(d)]))
    assert u.resolve(of(c))[0] == (a,)
    assert u.resolve(of(b))[-1] == (d,)
    assert size(u.resolve(of(b))) == 5


def test_products_are_split_into_common_factors() -> None:
    u, (a, b) = _vars(8, 4)
    u.unify(product([fixed(4), of(b)]), product([fixed(2), of(a)]))  # 4*b with b = 4, 2*a with a = 8
    ((rows, inner),) = u.resolve(of(a))
    assert (rows.size, inner) == (2, b)
    assert u.reasons(rows)  # it met the literal 2
    assert not u.reasons(b)


def test_rows_of_a_concatenation_are_made_alike() -> None:
    u, (a, b) = _vars(6, 6)
    rows, row = u.split(concat([of(a), of(b)]), 2, ("fixed", "width"))
    assert rows == fixed(2)
    assert u.resolve(of(b)) == u.resolve(of(a)) == row


def test_a_cut_through_one_copy_pins_that_copy_alone() -> None:
    u, (a,) = _vars(5)
    first, second = u.cut(product([of(a), fixed(2)]), 5)  # 5*2 cut in the middle of the third pair
    assert (size(first), size(second)) == (5, 5)
    pinned = [v.size for v in (*_atoms(first), *_atoms(second)) if u.reasons(v)]
    free = [v.size for v in (*_atoms(first), *_atoms(second)) if not u.reasons(v)]
    assert sum(free) == 4
    assert all(n == 1 for n in pinned)


def _atoms(layout: tuple) -> list[Var]:
    return [f for block in layout for f in block if isinstance(f, Var)]


def test_what_has_no_common_factors_is_refused() -> None:
    u, (a, b, c, d) = _vars(4, 3, 6, 2)
    with pytest.raises(Inexpressible):
        u.unify(product([of(a), of(b)]), product([of(c), of(d)]))


def _with_input(size: int) -> tuple[Unifier, Var]:
    unifier = Unifier()
    unifier.site = "here"
    return unifier, unifier.fresh("input x[1]", size, of_input=("x", 1))


def test_what_meets_an_input_is_pinned_until_a_request_lifts_that() -> None:
    u, x = _with_input(8)
    a, b = u.fresh("a", 8), u.fresh("b", 8)
    u.unify(of(a), of(x))
    u.unify(of(x), of(b))
    assert u.reasons(a) == u.reasons(b) == ("meets the fixed size 8 in here, that of the model's input x",)
    closed, lifted = u.with_inputs(set()), u.with_inputs({("x", 1)})
    assert closed.resolve(of(x)) == fixed(8)
    assert closed.reasons(a) == closed.reasons(b) == ("meets the fixed size 8 in here, that of the model's input x",)
    assert closed.resolve(of(a)) != closed.resolve(of(b))
    assert lifted.resolve(of(a)) == lifted.resolve(of(b)) == lifted.resolve(of(x))
    assert not any(lifted.reasons(var) for var in (a, b, x))


def test_lifting_an_input_leaves_what_was_inferred_as_it_is() -> None:
    u, x = _with_input(8)
    a, rows = u.fresh("a", 8, elastic=True), u.fresh("rows", 2, count=True)
    b = u.fresh("b", 2)
    u.unify(of(a), product([of(b), fixed(4)]))
    u.unify(of(x), product([of(rows), fixed(4)]))
    u.unify(of(rows), of(b))
    lifted = u.with_inputs({("x", 1)})
    assert lifted.resolve(of(x)) == lifted.resolve(product([of(b), fixed(4)]))
    assert u.resolve(of(x)) == of(x)
    assert (
        u.reasons(rows)
        == u.with_inputs(set()).reasons(rows)
        == ("meets the fixed size 8 in here, that of the model's input x",)
    )


def test_an_input_that_meets_a_fixed_size_stays_pinned() -> None:
    u, x = _with_input(8)
    u.unify(of(x), fixed(8))
    assert u.with_inputs({("x", 1)}).reasons(x) == ("meets the fixed size 8 in here",)


def test_an_input_that_is_taken_apart_in_two_ways_has_a_fixed_size() -> None:
    u, x = _with_input(12)
    u.split_into(of(x), [3, 4], ["width", "width"])
    parts = u.expressed(lambda: u.split_into(of(x), [2, 6], ["width", "width"]), of(x))
    assert [size(part) for part in parts] == [2, 6]
    assert u.with_inputs({("x", 1)}).resolve(of(x)) == fixed(12)


def test_index_map_of_product_and_concatenation() -> None:
    mapping = {"a": torch.tensor([0, 1, 0]), "b": torch.tensor([0, 1])}
    layout = concat([product([of("a"), fixed(2)]), of("b")])  # a*2 + b, a: 2 -> 3
    index, original = index_map(layout, lambda _: 2, mapping.__getitem__)
    assert index.tolist() == [0, 1, 2, 3, 0, 1, 4, 5]
    assert original.tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert len(index) == measure(layout, lambda name: len(mapping[name]))


def test_prefix_stops_at_what_can_grow() -> None:
    layout = concat([of("a"), fixed(4), of("b")])
    sizes = {"a": 3, "b": 5}.__getitem__
    assert prefix(layout, 0, sizes) == fixed(0)
    assert prefix(layout, 3, sizes) == of("a")
    assert prefix(layout, 5, sizes) == concat([of("a"), fixed(2)])
    assert prefix(layout, 9, sizes) is None
