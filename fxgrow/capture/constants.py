"""Operators on plain tensors that are given sizes or indices of a traced model, which C++ would ask for plain numbers.

`table[:length]` of a tensor that is no buffer would be cut at the example's length, or keep a graph to it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from ..base.replacing import Target

_FUNCTIONS = ("chunk", "narrow", "select", "tensor_split", "topk", "tril", "triu")
_METHODS = ("chunk", "narrow", "select", "split", "tensor_split", "topk", "tril", "triu", "unflatten", "unfold")


def of_constants() -> list[Target]:
    """What becomes a node where a plain tensor meets proxies."""
    getitem = _recorded(Tensor.__getitem__, "call_function", operator.getitem)
    functions = {name: getattr(torch, name) for name in _FUNCTIONS}
    return [
        (Tensor, "__getitem__", getitem),
        *((torch, name, _recorded(function, "call_function", function)) for name, function in functions.items()),
        *((Tensor, name, _recorded(getattr(Tensor, name), "call_method", name)) for name in _METHODS),
    ]


def _recorded(function: Callable[..., Any], kind: str, target: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        proxy = next(_proxies((args, tuple(kwargs.values()))), None)
        if proxy is None or isinstance(args[0] if args else kwargs.get("input"), fx.Proxy):
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy(kind, target, args, kwargs)

    return call


def _proxies(value: Any) -> Iterator[fx.Proxy]:
    if isinstance(value, fx.Proxy):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _proxies(entry)
    elif isinstance(value, slice):
        yield from _proxies((value.start, value.stop, value.step))
