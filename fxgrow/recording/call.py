"""What a tape records: one ATen call, and what it reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from .meta_cache import Given

Shape = tuple[int, ...]


Constants = tuple[tuple[int | str, Any], ...]
Key = int | str | tuple[int | str, int]  # a value's number or name; with a version once an alias overwrote it

WITHOUT_GRADIENTS = ("gradients", False)  # among the constants of a call that the user's code makes under `no_grad`


class Call(NamedTuple):
    """One ATen call.

    Attributes:
        op: The overload.
        inputs: The values that go in, by number or name.
        constants: The other arguments, by position or name.
        shapes: Of the results.
        digest: Of the first result.
        site: Where it stands in the user's code.
        module: The path of the innermost module at work.
    """

    op: Any
    inputs: tuple[Key, ...]
    constants: Constants
    shapes: tuple[Shape, ...]
    digest: int
    site: str = ""
    module: str = ""


class Reading(NamedTuple):
    """What a call reads."""

    inputs: tuple[Key, ...]
    constants: Constants
    text: str  # the constants as text
    digests: list[int]  # of the inputs
    given: list[Given]  # the tensors, as `on_meta` takes them
