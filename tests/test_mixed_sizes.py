"""Which calls could mix a size of the inputs with a width: all but views that keep samples apart."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import fx

from fxgrow.infer.mixing import may_follow_sizes, takes_computed_numbers
from fxgrow.layouts.layout import of
from fxgrow.layouts.unify import Unifier
from fxgrow.ops import Value

Spelled = Callable[[fx.Proxy, fx.Proxy], fx.Proxy]
APART: dict[str, Spelled] = {
    "size(0)": lambda x, other: x.view(x.size(0), 6, -1),
    "shape[0]": lambda x, other: x.reshape(x.shape[0], -1),
    "size()[0]": lambda x, other: x.view(x.size()[0], 12),
    "one sequence": lambda x, other: x.view((x.shape[0], 6, 2)),
    "the batch of what was made of the same samples": lambda x, other: x.view(other.size(0), -1),
}
MIXED: dict[str, Spelled] = {
    "another dimension's size": lambda x, other: x.view(x.size(1), -1),
    "another dimension of the shape": lambda x, other: x.view(x.shape[1], -1),
    "the shape of the rest": lambda x, other: x.view(x.shape[1:][0], -1),
    "an open size in front": lambda x, other: x.view(-1, 12),
    "an open size in between": lambda x, other: x.view(x.size(0), -1, 2),
    "a number": lambda x, other: x.view(4, -1),
    "one size": lambda x, other: x.view(x.size(0)),
    "a computed size behind": lambda x, other: x.view(x.size(0), x.size(1)),
    "a computed size in front": lambda x, other: x.view(x.size(0) * 2, -1),
}


def _spelled(function: Spelled) -> tuple[fx.Node, dict[tuple[Any, str], Value], Unifier]:
    """A call on x (4, 12), what is known of x and of another tensor of the same samples, and the unifier."""
    graph = fx.Graph()
    x, other = (fx.Proxy(graph.placeholder(name)) for name in ("x", "other"))
    unifier = Unifier()
    batch, width = unifier.fresh("input x[0]", 4, of_input=("x", 0)), unifier.fresh("a", 12)
    nodes: dict[tuple[Any, str], Value] = {
        ("eval", "x"): Value((of(batch), of(width))), ("eval", "other"): Value((of(batch), of(width))),
    }  # fmt: skip
    return function(x, other).node, nodes, unifier


@pytest.mark.parametrize("name", APART)
def test_a_view_that_keeps_samples_apart_follows_no_size(name: str) -> None:
    node, nodes, unifier = _spelled(APART[name])
    assert not may_follow_sizes(node, "eval", nodes, unifier)


@pytest.mark.parametrize("name", MIXED)
def test_any_other_view_may_follow_a_size(name: str) -> None:
    node, nodes, unifier = _spelled(MIXED[name])
    assert may_follow_sizes(node, "eval", nodes, unifier)


def test_a_view_of_other_samples_may_follow_a_size() -> None:
    node, nodes, unifier = _spelled(APART["the batch of what was made of the same samples"])
    nodes["eval", "other"] = Value((of(unifier.fresh("input y[0]", 4, of_input=("y", 0))),))
    assert may_follow_sizes(node, "eval", nodes, unifier)


def test_a_view_by_a_width_in_front_may_follow_a_size() -> None:
    node, nodes, unifier = _spelled(APART["size(0)"])
    nodes["eval", "x"] = Value((of(unifier.fresh("b", 4)), of(unifier.fresh("c", 12))))
    assert may_follow_sizes(node, "eval", nodes, unifier)


@pytest.mark.parametrize("unknown", ["x", "other"])
def test_a_view_of_a_tensor_that_is_not_known_may_follow_a_size(unknown: str) -> None:
    node, nodes, unifier = _spelled(APART["the batch of what was made of the same samples"])
    del nodes["eval", unknown]
    assert may_follow_sizes(node, "eval", nodes, unifier)


def test_products_of_sizes_are_no_computed_numbers_and_quotients_are() -> None:
    product, nodes, _ = _spelled(lambda x, other: x.view(x.size(0) * x.shape[1], -1))
    quotient, also, _ = _spelled(lambda x, other: x.view(x.size(0), 1 + x.shape[1] // 9, -1))
    assert not takes_computed_numbers(product, "eval", nodes)
    assert takes_computed_numbers(quotient, "eval", also)
