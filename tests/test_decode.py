"""Plain data against annotations: what fits, and what is said of what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from fxgrow.base.decode import DecodeError, Leniency, decode, encode, parse_json


@dataclass(frozen=True)
class Leaf:
    TYPE: ClassVar[str] = "leaf"

    size: int
    rate: float = 0.5


@dataclass(frozen=True)
class Tree:
    TYPE: ClassVar[str] = "tree"

    name: str
    parts: tuple[Leaf | Tree, ...] = ()
    kind: Literal["a", "b", ""] = ""
    pair: tuple[int, str] = (0, "")
    extra: Mapping[str, bool] | None = None
    anything: Any = None


TREE = Tree("t", (Leaf(3), Tree("u", kind="b")), "a", (1, "x"), {"y": True}, [1, None])


def test_encode_and_decode_are_inverse() -> None:
    assert encode(TREE)["parts"][0] == {"type": "leaf", "size": 3, "rate": 0.5}
    assert decode(Tree, encode(TREE)) == TREE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": 1}, "name: expected a text, found 1"),
        ({"name": "\ud800"}, "name: expected a text"),
        ({"parts": {}}, "parts: expected a list, found {}"),
        ({"parts": [{"type": "leaf", "size": "x", "rate": 1}]}, "parts[0].size: expected an int, found 'x'"),
        ({"parts": [{"type": "leaf", "size": True, "rate": 1}]}, "parts[0].size: expected an int, found True"),
        ({"parts": [{"type": "leaf", "size": 1, "rate": float("inf")}]}, "parts[0].rate: expected a number"),
        ({"parts": [{"type": "leaf", "size": 1}]}, "parts[0].rate: missing"),
        ({"parts": [{"type": "leaf", "size": 1, "rate": 1, "z": 0}]}, "parts[0]: unknown field 'z'"),
        ({"parts": [{"type": "bush"}]}, "parts[0].type: expected one of leaf, tree, found 'bush'"),
        ({"parts": [3]}, "parts[0]: expected an object, found 3"),
        ({"kind": "c"}, "kind: expected 'a' or 'b' or '', found 'c'"),
        ({"pair": [1]}, "pair: expected 2 entries, found 1"),
        ({"pair": [1, 2]}, "pair[1]: expected a text, found 2"),
        ({"extra": {"y": 1}}, "extra['y']: expected true or false, found 1"),
        ({"extra": []}, "extra: expected an object or null, found []"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_told_with_its_path(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode(Tree, {**encode(TREE), **change})
    assert str(error.value).startswith(told)


def test_fields_may_be_missing_or_unknown_where_that_is_allowed() -> None:
    assert decode(Leaf, {"type": "leaf", "size": 1}, leniency=Leniency(defaults=True)) == Leaf(1)
    given = {"type": "leaf", "size": 1, "rate": 2.0, "new": 0}
    assert decode(Leaf, given, leniency=Leniency(extra=True)) == Leaf(1, 2.0)
    with pytest.raises(DecodeError, match="size: missing"):
        decode(Leaf, {"type": "leaf"}, leniency=Leniency(defaults=True))


@pytest.mark.parametrize(
    "text", ["", "[", "nan", "NaN", "[Infinity]", "[" * 200 + "]" * 200, "[" * 10**6, '{"a":' * 300, "9" * 5000]
)
def test_text_that_is_no_json_within_bounds_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_json(text)


def test_a_name_that_is_there_twice_is_refused() -> None:
    """Python's own reader takes the last of its values, without a word."""
    with pytest.raises(DecodeError, match=r"^'0' is there twice$"):
        parse_json('[{"a": 1, "0": 1.5, "b": 2, "0": 2.0}]')
