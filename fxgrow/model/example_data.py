"""Example inputs as plain data: of a tensor the shape and the dtype, and the structure around it.

A plan holds them, so that it can be applied without inputs.
"""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Union

import torch
from torch import Tensor

from ..base.wording import a_type, dtype_name
from .example_inputs import ModelInputs

FLOAT = "float"  # the dtype of the model, whichever that is
MOST_ENTRIES = 1 << 48  # of an example tensor, which is on the meta device
MOST_OF_ONE = 1 << 26  # along one of its dimensions: code that counts them makes real numbers
MOST_DIMS = 64  # of one tensor, as in torch
Scalar = bool | int | float | str | None
Structure = Union[Scalar, "TensorData", "NumberData", "ListData", "TupleData", "DictData"]


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor.

    Attributes:
        shape: Its shape.
        dtype: The name of its dtype; "float" for every real floating one.
    """

    TYPE: ClassVar[str] = "tensor"

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class NumberData:
    """A number that JSON has no literal for: "inf", "-inf" or "nan"."""

    TYPE: ClassVar[str] = "number"

    value: str


@dataclass(frozen=True, slots=True)
class ListData:
    """A list."""

    TYPE: ClassVar[str] = "list"

    entries: tuple[Structure, ...]


@dataclass(frozen=True, slots=True)
class TupleData:
    """A tuple."""

    TYPE: ClassVar[str] = "tuple"

    entries: tuple[Structure, ...]


@dataclass(frozen=True, slots=True)
class DictData:
    """A dictionary, as pairs of key and value."""

    TYPE: ClassVar[str] = "dict"

    entries: tuple[tuple[Scalar, Structure], ...]


@dataclass(frozen=True, slots=True)
class CallData:
    """The arguments of one call of the model."""

    args: tuple[Structure, ...]
    kwargs: dict[str, Structure]


def call_to_data(inputs: ModelInputs) -> CallData | None:
    """Example inputs as data; None where they hold something else than tensors and plain values."""
    try:
        return CallData(tuple(map(_data, inputs.args)), {key: _data(value) for key, value in inputs.kwargs.items()})
    except TypeError:
        return None


def call_from_data(data: CallData, dtype: torch.dtype) -> ModelInputs:
    """What `call_to_data` made, with tensors on the meta device.

    Args:
        data: Valid by `why_invalid`.
        dtype: Of floating tensors.
    """
    args = tuple(_value(entry, dtype) for entry in data.args)
    return ModelInputs(args, {key: _value(entry, dtype) for key, entry in data.kwargs.items()})


def why_invalid(data: Structure | CallData) -> str:
    """What no example inputs can be: shapes and dtypes that torch does not have, as a reason; "" where all is well."""
    if isinstance(data, CallData):
        if not all(name.isidentifier() and not keyword.iskeyword(name) for name in data.kwargs):
            return "a keyword is no identifier"
        return next(filter(None, map(why_invalid, (*data.args, *data.kwargs.values()))), "")
    if isinstance(data, TensorData):
        bounded = len(data.shape) <= MOST_DIMS and all(0 <= n <= MOST_OF_ONE for n in data.shape)
        if not bounded or math.prod(data.shape) > MOST_ENTRIES:
            return f"no tensor has the shape {list(data.shape)}"
        known = data.dtype == FLOAT or isinstance(getattr(torch, data.dtype, None), torch.dtype)
        return "" if known else f"there is no dtype {data.dtype!r}"
    if isinstance(data, NumberData):
        return "" if data.value in ("inf", "-inf", "nan") else f"{data.value!r} is no number"
    if isinstance(data, ListData | TupleData):
        return next(filter(None, map(why_invalid, data.entries)), "")
    if isinstance(data, DictData):
        return next(filter(None, (why_invalid(value) for _, value in data.entries)), "")
    return ""


def _data(value: Any) -> Structure:
    if isinstance(value, Tensor):
        kind = FLOAT if value.is_floating_point() else dtype_name(value.dtype)
        return TensorData(tuple(value.shape), kind)
    if isinstance(value, float) and not math.isfinite(value):
        return NumberData(str(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) is list:
        return ListData(tuple(map(_data, value)))
    if type(value) is tuple:  # a named tuple is more
        return TupleData(tuple(map(_data, value)))
    if type(value) is dict and all(key is None or isinstance(key, bool | int | float | str) for key in value):
        return DictData(tuple([(key, _data(entry)) for key, entry in value.items()]))
    raise TypeError(f"{a_type(value)} cannot be written down")


def _value(data: Structure, dtype: torch.dtype) -> Any:
    if isinstance(data, TensorData):
        kind = dtype if data.dtype == FLOAT else getattr(torch, data.dtype)
        return torch.empty(data.shape, dtype=kind, device="meta")
    if isinstance(data, NumberData):
        return float(data.value)
    if isinstance(data, ListData):
        return [_value(entry, dtype) for entry in data.entries]
    if isinstance(data, TupleData):
        return tuple([_value(entry, dtype) for entry in data.entries])
    if isinstance(data, DictData):
        return {key: _value(entry, dtype) for key, entry in data.entries}
    return data
