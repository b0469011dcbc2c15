"""Plain data to frozen dataclasses and back, driven by the annotations of their fields.

`decode` checks each value against its annotation: int (never bool), float, str, bool, None, `tuple[T, ...]`,
`Literal`, `X | Y`, `Mapping[str, T]`, dataclasses and `Any`. A dataclass that stands in a union has a class attribute
`TYPE`, which its data states under "type". A field whose annotation says too little has a function of its own in its
metadata, under `DECODER`. Data may come from a stranger: whatever does not fit raises `DecodeError`, with the path.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import reprlib
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from .wording import a_type

T = TypeVar("T")

MOST_CHARACTERS = 1 << 28  # of a JSON text: 256 MiB
MOST_NESTED = 128  # lists and objects inside one another
TYPE_KEY = "type"  # in data: which dataclass of a union it is
DECODER = "decoder"  # in a field's metadata: a function of (data, path)


class DecodeError(ValueError):
    """Data does not have the declared type; the message begins with the path to it."""


@dataclass(frozen=True, slots=True)
class Leniency:
    """What data of another version may do.

    Attributes:
        defaults: A field that has a default may be missing.
        extra: Unknown fields are ignored.
    """

    defaults: bool = False
    extra: bool = False


STRICT = Leniency()


def decode(kind: type[T], data: Any, path: str = "", leniency: Leniency = STRICT) -> T:
    """A value of an annotated type from plain data.

    Args:
        kind: A dataclass or any other annotation that the module's docstring lists.
        data: What JSON can hold; sequences may be lists or tuples.
        path: Where the data stands in a larger whole, for messages.
        leniency: Whether fields may be missing or unknown.

    Raises:
        DecodeError: The data does not fit. The message names the path, what was expected and what was found.

    Example:
        >>> decode(tuple[int, ...], [1, 2])
        (1, 2)
    """
    made: T = _decode(kind, data, path, leniency)
    return made


def encode(value: Any) -> Any:
    """The inverse of `decode`: dataclasses and tuples as the dictionaries and lists that JSON can hold.

    Raises:
        TypeError: The value holds something else.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tag = {TYPE_KEY: value.TYPE} if hasattr(value, "TYPE") else {}
        return {**tag, **{f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}}
    if isinstance(value, tuple | list):
        return list(value) if _all_ints(value) else [encode(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): encode(entry) for key, entry in value.items()}
    raise TypeError(f"{a_type(value)} cannot be written as plain data")


def parse_json(text: str) -> Any:
    """JSON text to plain data, within bounds.

    Raises:
        DecodeError: It is no JSON, has a name twice, or is longer than `MOST_CHARACTERS` or deeper than `MOST_NESTED`.
    """
    if not isinstance(text, str):
        raise DecodeError(f"expected a text, found {a_type(text)}")
    if len(text) > MOST_CHARACTERS:
        raise DecodeError(f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    try:
        data = json.loads(text, parse_constant=_no_number, object_pairs_hook=_each_once)
    except RecursionError:
        raise DecodeError(f"it is nested deeper than {MOST_NESTED} levels") from None
    except ValueError as error:  # also an integer of more digits than Python converts
        raise DecodeError(str(error)) from None
    _check_nesting(data)
    return data


def _each_once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        ((twice, _),) = Counter(name for name, _ in entries).most_common(1)
        raise DecodeError(f"{twice!r:.60} is there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise DecodeError(f"{name} is no number of JSON")


def _check_nesting(data: Any) -> None:
    level = [data]
    for _ in range(MOST_NESTED + 1):
        inside = [entry.values() if isinstance(entry, dict) else entry for entry in level if _holds_more(entry)]
        level = [entry for entries in inside for entry in entries if _holds_more(entry)]
        if not level:
            return
    raise DecodeError(f"it is nested deeper than {MOST_NESTED} levels")


def _holds_more(data: Any) -> bool:
    return isinstance(data, dict | list)


# -- by kinds of annotations ---------------------------------------------------------------------------


def _decode(kind: Any, data: Any, path: str, leniency: Leniency) -> Any:
    if kind is Any:
        return data
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        return _decode(_member(kind, data, path), data, path, leniency)
    if not _fits(kind, data):
        raise DecodeError(_message(path, _word(kind), data))
    if origin is tuple:
        return _tuple(kind, data, path, leniency)
    if _is_mapping(origin):
        value_kind = get_args(kind)[1]
        return {key: _decode(value_kind, entry, f"{path}[{key!r}]", leniency) for key, entry in data.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, data, path, leniency)
    return _SCALARS[kind].convert(data) if kind in _SCALARS else data


def _tuple(kind: Any, data: Sequence[Any], path: str, leniency: Leniency) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if kinds[-1] is not Ellipsis:
        if len(data) != len(kinds):
            raise DecodeError(f"{path or 'it'}: expected {len(kinds)} entries, found {len(data)}")
        pairs = enumerate(zip(kinds, data, strict=True))
        return tuple([_decode(own, entry, f"{path}[{i}]", leniency) for i, (own, entry) in pairs])
    if kinds[0] is int and _all_ints(data):
        return tuple(data)
    return tuple([_decode(kinds[0], entry, f"{path}[{i}]", leniency) for i, entry in enumerate(data)])


def _dataclass(kind: Any, data: Mapping[str, Any], path: str, leniency: Leniency) -> Any:
    fields = _fields_of(kind)
    known = {name for name, *_ in fields} | ({TYPE_KEY} if hasattr(kind, "TYPE") else set())
    if not leniency.extra and (unknown := sorted(set(map(str, data)) - known)):
        raise DecodeError(f"{path or kind.__name__}: unknown field {unknown[0]!r}")
    given: dict[str, Any] = {}
    for name, annotation, optional, decoder in fields:
        here = f"{path}.{name}" if path else name
        if name not in data:
            if not (optional and leniency.defaults):
                raise DecodeError(f"{here}: missing")
            continue
        given[name] = decoder(data[name], here) if decoder else _decode(annotation, data[name], here, leniency)
    return kind(**given)


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, Any, bool, Callable[[Any, str], Any] | None], ...]:
    """Of each field of a dataclass the name, the annotation, whether it has a default, and its own decoder."""
    hints = get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        (f.name, hints[f.name], not (f.default is missing is f.default_factory), f.metadata.get(DECODER))
        for f in dataclasses.fields(kind)
    )


def _member(union: Any, data: Any, path: str) -> Any:
    """The member of a union that data is of."""
    members = get_args(union)
    for member in members:
        if _fits(member, data):
            return member
    tags = [member.TYPE for member in members if hasattr(member, "TYPE")]
    if tags and isinstance(data, Mapping):
        raise DecodeError(
            f"{path}.{TYPE_KEY}: expected one of {', '.join(tags)}, found {reprlib.repr(data.get(TYPE_KEY))}"
        )
    raise DecodeError(_message(path, " or ".join(dict.fromkeys(map(_word, members))), data))


def _fits(kind: Any, data: Any) -> bool:
    """Whether data is at first sight what an annotation says."""
    origin = get_origin(kind)
    if kind is Any:
        return True
    if kind in _SCALARS:
        return _SCALARS[kind].fits(data)
    if origin is Literal:
        return any(type(data) is type(choice) and data == choice for choice in get_args(kind))
    if origin is tuple:
        return isinstance(data, list | tuple)
    if dataclasses.is_dataclass(kind):
        return isinstance(data, Mapping) and (not hasattr(kind, "TYPE") or data.get(TYPE_KEY) == kind.TYPE)
    if _is_mapping(origin):
        return isinstance(data, Mapping) and all(isinstance(key, str) for key in data)
    raise TypeError(f"no decoder for {kind!r}")


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


@dataclass(frozen=True, slots=True)
class _Scalar:
    word: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any]


def _is_number(data: Any, kind: type) -> bool:
    return isinstance(data, kind) and not isinstance(data, bool)


def _is_text(data: Any) -> bool:
    return isinstance(data, str) and not any("\ud800" <= c <= "\udfff" for c in data)  # no half of a surrogate pair


_SCALARS: dict[Any, _Scalar] = {
    bool: _Scalar("true or false", lambda data: isinstance(data, bool), bool),
    int: _Scalar("an int", lambda data: _is_number(data, numbers.Integral), int),
    float: _Scalar("a number", lambda data: _is_number(data, numbers.Real) and abs(data) <= sys.float_info.max, float),
    str: _Scalar("a text", _is_text, str),
    type(None): _Scalar("null", lambda data: data is None, lambda data: None),
}


def _word(kind: Any) -> str:
    """An annotation in words."""
    if kind in _SCALARS:
        return _SCALARS[kind].word
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "a list" if get_origin(kind) is tuple else "an object"


def _message(path: str, expected: str, data: Any) -> str:
    return f"{path or 'it'}: expected {expected}, found {reprlib.repr(data)}"


def _all_ints(values: Sequence[Any]) -> bool:
    return all(type(value) is int for value in values)
