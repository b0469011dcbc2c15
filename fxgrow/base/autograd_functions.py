"""Another way to apply autograd Functions for a time, also by methods that were bound before (`over = Over.apply`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch.autograd import Function

from .replacing import Target

Apply = Callable[..., Any]
By = Callable[[type, Apply, tuple[Any, ...], dict[str, Any]], Any]
_APPLY = Function.__dict__["apply"]
_FORWARD_ALONE = Function.setup_context  # of a class whose forward takes the context


def functions_applied(by: By) -> list[Target]:
    """What applies all Functions otherwise while it is in place.

    `Function.apply` is replaced, and `forward` of each class of the user's, which is what a bound method reaches in
    torch's own code.

    Args:
        by: Given the class, what applies it as torch does, and the arguments.
    """
    at_work: list[type] = []

    def handled(cls: type, go_on: Apply, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        at_work.append(cls)
        try:
            return by(cls, go_on, args, kwargs)
        finally:
            at_work.pop()

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        return handled(cls, _APPLY.__get__(None, cls), args, kwargs)

    def reached(cls: Any, forward: Apply) -> Apply:
        takes_context = cls.setup_context is _FORWARD_ALONE

        @functools.wraps(forward)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if cls in at_work or (takes_context and not _begins(cls, args[0])):
                return forward(*args, **kwargs)
            given = args[1:] if takes_context else args
            return handled(cls, lambda *_args, **_kwargs: forward(*args, **kwargs), given, kwargs)

        return wrapped

    targets: list[Target] = [(Function, "apply", classmethod(apply))]
    targets += [(cls, "forward", staticmethod(reached(cls, cls.forward))) for cls in _theirs(Function)]
    return targets


def _begins(cls: type, context: Any) -> bool:
    """Whether torch applies a class with this context, and records no gradients."""
    return getattr(type(context), "_forward_cls", None) is cls and not any(context.needs_input_grad)


def _theirs(base: Any) -> Iterator[Any]:
    """The classes of the user's that derive from one."""
    for cls in base.__subclasses__():
        yield from _theirs(cls)
        if not cls.__module__.startswith("torch."):
            yield cls
