"""Functions of this package that graphs call, where another tracer runs a student: they become nodes of its graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import fx


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that graphs call. Given a proxy of another tracer, it puts a call of itself into that graph."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        proxy = foreign_proxy(args)
        return function(*args) if proxy is None else proxy.tracer.create_proxy("call_function", call, args, {})

    return call


def foreign_proxy(value: Any) -> fx.Proxy | None:
    """The first proxy in an argument that is not of this package's tracer, which sees what these functions do."""
    kind = type(value)  # not isinstance, which the tracer answers for its proxies as for their values
    if issubclass(kind, tuple | list):
        return next((found for entry in value if (found := foreign_proxy(entry)) is not None), None)
    if issubclass(kind, dict):
        return foreign_proxy(list(value.values()))
    return value if issubclass(kind, fx.Proxy) and not hasattr(kind, "has_value") else None
