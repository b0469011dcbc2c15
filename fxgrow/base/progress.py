"""What a long call tells of its progress: steps, one inside another, and how much of each is done.

The stages tell it, and know nothing of who shows it (`progress_bar` does). Where nobody listens, a call of `advance`
takes 0.1 microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Step:
    """A part of a call.

    Attributes:
        name: What is done, such as "filling".
        total: The amount of work, in a unit of the step's own, such as bytes or nodes; None: not known.
        outer: The step that it is a part of; None for one of the call itself.
        done: The amount that is done.
    """

    __slots__ = ("done", "name", "outer", "total")

    def __init__(self, name: str, total: float | None, outer: Step | None) -> None:
        self.name, self.total, self.outer = name, total, outer
        self.done: float = 0

    @property
    def path(self) -> str:
        """The name, after those of the steps around it, such as "plan 1 of 2: filling"."""
        return self.name if self.outer is None else f"{self.outer.path}: {self.name}"


class Progress:
    """How far a call is. The thread of the call writes it; another one may read it.

    Attributes:
        step: The innermost step at work; None between steps.
    """

    def __init__(self) -> None:
        self.step: Step | None = None

    def entered(self, step: Step) -> None:
        """Note that a step begins."""
        self.step = step

    def left(self, step: Step) -> None:
        """Note that a step ends, or is given up."""
        self.step = step.outer


_CURRENT: ContextVar[Progress | None] = ContextVar("fxgrow progress", default=None)


def current() -> Progress | None:
    """The progress of the call that runs in this thread, if anyone keeps it."""
    return _CURRENT.get()


@contextmanager
def kept_in(progress: Progress) -> Iterator[None]:
    """A context whose steps are noted in an object."""
    token = _CURRENT.set(progress)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def step(name: str, total: float | None = None) -> Iterator[None]:
    """A context that does a part of a call. The calls of `advance` inside add up to its total, unless it fails.

    Not for use as a decorator, which puts a frame on the stack that is neither the package's nor the user's.

    Args:
        name: What is done.
        total: The amount of work; None: not known.
    """
    progress = _CURRENT.get()
    if progress is None:
        yield
        return
    part = Step(name, total, progress.step)
    progress.entered(part)
    try:
        yield
    finally:
        progress.left(part)


def advance(amount: float = 1) -> None:
    """Note that some of the innermost step is done.

    Args:
        amount: How much, in the unit of the step's total.
    """
    progress = _CURRENT.get()
    if progress is not None and progress.step is not None:
        progress.step.done += amount
