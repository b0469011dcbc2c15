"""Plain data with tensors in it, to JSON and back: what a user keeps beside the weights, and an optimizer's options.

JSON knows no tuples, no keys but text and no infinities, and gives other values back without a word. So what JSON does
not know is written as an object with a tag. What is none of these is refused with its path: nothing is pickled.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor

from ..base.decode import DecodeError
from ..base.scalars import of_numpy
from ..base.wording import a_type
from ..errors import GrowError

PlainData: TypeAlias = (
    bool | int | float | str | Tensor | torch.dtype | torch.device
    | Sequence["PlainData"] | Mapping[str, "PlainData"] | Mapping[int, "PlainData"] | None
)  # fmt: skip
"""What a file can hold beside a model: lists, tuples and dicts of these."""

TAG = "$"
MOST_NESTED = 30  # lists and dicts inside one another; each may make three levels of JSON
_TABLES: dict[str, type[Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_DTYPES = {str(t).removeprefix("torch."): t for t in vars(torch).values() if isinstance(t, torch.dtype)}


class Tensors:
    """The tensors that values hold, each once: one that is in two places is one again when it is read.

    Attributes:
        numbered: Them, by their numbers.
    """

    def __init__(self) -> None:
        self.numbered: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def number(self, tensor: Tensor) -> int:
        """The number of a tensor; the next one for a new one."""
        number = self._numbers.setdefault(id(tensor), len(self.numbered))
        if number == len(self.numbered):
            self.numbered.append(tensor)
        return number


def encode(value: Any, path: str, tensors: Tensors, depth: int = 0) -> Any:
    """A value as JSON.

    Args:
        value: None, numbers, text, lists, tuples, dicts, tensors, dtypes and devices, inside one another. Numbers of
            numpy are written as Python's.
        path: What messages call it.
        tensors: Where its tensors are put; the JSON has their numbers.
        depth: Inside how many lists and dicts it is.

    Raises:
        GrowError: It holds something else.
    """
    value = of_numpy(value)
    kind = type(value)
    if depth > MOST_NESTED:
        raise GrowError(f"{path} is nested more than {MOST_NESTED} times")
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {TAG: "float", "value": str(value)}
    if isinstance(value, Tensor):
        return {TAG: "tensor", "value": tensors.number(value)}
    if kind in (list, tuple, torch.Size):
        entries = [encode(entry, f"{path}[{i}]", tensors, depth + 1) for i, entry in enumerate(value)]
        return entries if kind is list else {TAG: "tuple", "value": entries}
    if kind in _TABLES.values():
        return _encoded_table(value, path, tensors, depth)
    if kind in (torch.dtype, torch.device):
        return {TAG: kind.__name__, "value": str(value).removeprefix("torch.")}
    raise GrowError(
        f"{path} is {a_type(value)}; a file holds numbers, text, lists, tuples, dicts and tensors, so give it as these"
    )


def _encoded_table(table: Any, path: str, tensors: Tensors, depth: int) -> Any:
    if type(table) is dict and all(type(key) is str and key != TAG for key in table):
        return {key: encode(entry, f"{path}[{key!r}]", tensors, depth + 1) for key, entry in table.items()}
    items = [
        [encode(part, f"{path}[{key!r:.40}]", tensors, depth + 1) for part in (key, entry)]
        for key, entry in table.items()
    ]
    return {TAG: type(table).__name__, "value": items}


def decode(data: Any, path: str, tensors: Sequence[Tensor]) -> Any:
    """What `encode` wrote.

    Raises:
        DecodeError: It is something else; the message begins with the path.
    """
    if isinstance(data, list):
        return [decode(entry, f"{path}[{i}]", tensors) for i, entry in enumerate(data)]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {key: decode(entry, f"{path}[{key!r}]", tensors) for key, entry in data.items()}
    tag, value = data[TAG], data.get("value")
    if not isinstance(tag, str) or tag not in _READERS or data.keys() != {TAG, "value"}:
        raise DecodeError(f"{path}: unknown kind of value {tag!r:.60}")
    return _READERS[tag](value, path, tensors)


def _wrong(path: str, tag: str, value: Any) -> NoReturn:
    raise DecodeError(f"{path}: {value!r:.60} is no {tag}")


def _float(value: Any, path: str, tensors: Sequence[Tensor]) -> float:
    return float(value) if value in ("inf", "-inf", "nan") else _wrong(path, "float", value)


def _tensor(value: Any, path: str, tensors: Sequence[Tensor]) -> Tensor:
    known = type(value) is int and 0 <= value < len(tensors)
    return tensors[value] if known else _wrong(path, "tensor of the file", value)


def _tuple(value: Any, path: str, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple(decode(value, path, tensors)) if isinstance(value, list) else _wrong(path, "tuple", value)


def _dtype(value: Any, path: str, tensors: Sequence[Tensor]) -> torch.dtype:
    return _DTYPES[value] if isinstance(value, str) and value in _DTYPES else _wrong(path, "dtype", value)


def _device(value: Any, path: str, tensors: Sequence[Tensor]) -> torch.device:
    try:
        return torch.device(value)
    except (RuntimeError, TypeError):
        _wrong(path, "device", value)


def _table(kind: type[Any]) -> Callable[[Any, str, Sequence[Tensor]], Any]:
    def read(value: Any, path: str, tensors: Sequence[Tensor]) -> Any:
        if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 2 for item in value):
            _wrong(path, "dict", value)
        items = [(decode(key, path, tensors), decode(entry, path, tensors)) for key, entry in value]
        try:
            return kind(dict(items))
        except TypeError:  # a key that is a list
            _wrong(path, "dict", value)

    return read


_READERS: dict[str, Callable[[Any, str, Sequence[Tensor]], Any]] = {
    "float": _float,
    "tensor": _tensor,
    "tuple": _tuple,
    "dtype": _dtype,
    "device": _device,
    **{name: _table(kind) for name, kind in _TABLES.items()},
}
