"""Texts that a model's code makes of sizes and dtypes while it is traced.

`str(x.shape)` decides something (it is a key, it is searched), so it is guarded, as the number itself would be, unless
it is printed or logged. What is formatted is a message most of the time (`torch._assert(ok, f"{x.shape}")`), which
must not bind a graph to the example's sizes. It is guarded where it is part of the result.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ..base.structures import children_of
from ..errors import TraceError
from .origins import depends_on_numbers
from .proxy import MetaProxy


class Texts:
    """The texts that one trace was told, each with the proxy that it was made of."""

    def __init__(self) -> None:
        self._told: list[tuple[MetaProxy, str, Any]] = []
        self.showing = False

    def shown(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that prints or logs, with which texts decide nothing."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before, self.showing = self.showing, True
            try:
                return function(*args, **kwargs)
            finally:
                self.showing = before

        return call

    def told(self, proxy: MetaProxy, text: str, value: Any, *, formatted: bool, shown: bool) -> None:
        """Guard a text, or keep it in case that it is returned.

        Args:
            proxy: What it was made of.
            text: The text.
            value: What the proxy stands for.
            formatted: Whether it was made by a format.
            shown: Whether only an error would show it.
        """
        shown = shown or self.showing
        if formatted or shown:
            self._told.append((proxy, text, value))
            proxy.tracer.may_freeze |= not shown  # type: ignore[attr-defined]
        elif not depends_on_numbers(proxy.node):
            _guard(proxy, value)
        else:
            raise TraceError("the code asks for the text of a number that was taken out of a tensor")

    def guard_returned(self, result: Any) -> None:
        """Guard what the texts of a result were made of.

        Raises:
            TraceError: One was made of a number that was taken out of a tensor.
        """
        returned = list(_texts(result))
        for proxy, text, value in self._told:
            if proxy.node._erased or not any(text in other for other in returned):
                continue
            if depends_on_numbers(proxy.node):
                raise TraceError("forward returns the text of a number that was taken out of a tensor")
            _guard(proxy, value)


def _guard(proxy: MetaProxy, value: Any) -> None:
    if isinstance(value, tuple | list):
        for entry, held in zip(proxy, value, strict=True):
            if type(entry) is MetaProxy:
                _guard(entry, held)
    elif isinstance(value, torch.dtype):
        bool(operator.eq(proxy, value))
    else:
        proxy.answer(lambda plain: plain)


def _texts(result: Any) -> Iterator[str]:
    pending, seen = [result], set()
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif id(value) not in seen and type(value) is not MetaProxy:
            seen.add(id(value))
            pending += value if isinstance(value, Mapping) else ()
            pending += [child for _, child in children_of(value)]
