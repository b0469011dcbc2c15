"""Wrong usage: an error for invalid arguments and unreadable files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
    """Invalid arguments or unreadable files, found before the model is analysed.

    What the model does not allow is a `GrowError`.
    """


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Turn what the package refuses while it reads an argument into a `UsageError`."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # every FxgrowError is a ValueError
        raise UsageError(f"{what}: {error}") from error


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn whatever code outside the package raises, an exit too, into a `UsageError` of one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        text = str(error).strip().partition("\n")[0]  # torch puts advice and stacks of C++ into further lines
        raise UsageError(f"{what}: {type(error).__name__}{f': {text}' if text else ''}") from error
