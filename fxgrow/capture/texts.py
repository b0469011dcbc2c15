"""Texts that a model's code makes of sizes and dtypes while it is traced.

Most are messages that nobody reads (`torch._assert(ok, f"{x.shape}")`), which must not bind a graph to the example's
sizes. Those that are part of the result are guarded: a graph returns them as they were for the example inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..base.structures import children_of
from ..errors import TraceError
from .proxy import MetaProxy, depends_on_numbers


class Texts:
    """The texts that one trace was told, each with the proxy that it was made of."""

    def __init__(self) -> None:
        self._told: list[tuple[MetaProxy, str, Any]] = []

    def told(self, proxy: MetaProxy, text: str, value: Any, *, formatted: bool) -> None:
        """Keep a text; `str(x.dtype)` decides something more often than it is shown, and is guarded at once."""
        if isinstance(value, torch.dtype) and not formatted:
            _guard(proxy, value)
        else:
            self._told.append((proxy, text, value))

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
