"""Another way to apply autograd Functions for a time, also by methods that were bound before (`over = Over.apply`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .replacing import Target
from .torch_private import FunctionBase, FunctionInC

Apply = Callable[..., Any]
_OWN = torch.autograd.Function.__dict__["apply"]
_IN_C = FunctionInC.__dict__["apply"]


def functions_applied(by: Callable[[type, Apply, tuple[Any, ...], dict[str, Any]], Any]) -> list[Target]:
    """What applies all Functions otherwise while it is in place.

    `Function.apply` is replaced, and what it calls: a bound method holds the first, and not the second.

    Args:
        by: Given the class, what applies it as torch does, and the arguments.
    """

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        return by(cls, _OWN.__get__(None, cls), args, kwargs)

    def apply_bound(cls: type, *args: Any, **kwargs: Any) -> Any:
        return by(cls, _IN_C.__get__(None, cls), args, kwargs)

    return [(torch.autograd.Function, "apply", classmethod(apply)), (FunctionBase, "apply", classmethod(apply_bound))]
