"""What code does that a graph would not: catch errors of torch and go on, change arguments, return numbers of numpy.

``try: h = h.view(2, -1) except RuntimeError: ...`` takes another path where the sizes do not fit, without a question
that a guard could keep. So a module whose code does that stays a call.
"""

from __future__ import annotations

import ast
import dis
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from types import CodeType, FrameType
from typing import Any

from ..base.scalars import plain
from ..errors import TraceError
from ..model.provenance import PACKAGES, in_package
from .source_files import parsed, source_of

Lines = tuple[tuple[int, int], ...]  # first and last line of each block

# Errors that neither torch nor arithmetic raises because of a size. All others may be meant, and those not known here.
_OTHERS = frozenset((
    "AssertionError", "AttributeError", "FileNotFoundError", "ImportError", "KeyError", "KeyboardInterrupt",
    "ModuleNotFoundError", "NameError", "OSError", "OutOfMemoryError", "StopIteration", "UnicodeError", "Warning",
))  # fmt: skip


_TRIES = (ast.Try, ast.TryStar) if hasattr(ast, "TryStar") else (ast.Try,)
_MATCHES = {"CHECK_EXC_MATCH", "CHECK_EG_MATCH", "JUMP_IF_NOT_EXC_MATCH"}  # in the byte code of a handler
_LEAVING = (ast.Return, ast.Break, ast.Continue)  # in a `finally`, where they drop the error


class Caught:
    """Finds out whether code of the user's is inside of a `try` that may catch an error of torch.

    Args:
        call: The code of the function that calls a module, in which a variable `path` names it.

    Attributes:
        root: The code of the function that calls the root.
    """

    def __init__(self, call: CodeType) -> None:
        self._call = call
        self.root: CodeType | None = None
        self._lines: dict[CodeType, Lines] = {}

    def around(self, frame: FrameType | None) -> tuple[str, str] | None:
        """The module whose code catches what is raised at a frame, and the line; None: none does.

        Args:
            frame: Of the tracer, below all frames of the user's.
        """
        line = ""
        while frame is not None:
            code = frame.f_code
            if code is self.root:
                return ("", line) if line else None
            if code is self._call and line:
                return str(frame.f_locals["path"]), line
            if not line and not code.co_filename.startswith(PACKAGES):
                if code not in self._lines:
                    self._lines[code] = _caught_in(code)
                if any(first <= frame.f_lineno <= last for first, last in self._lines[code]):
                    line = f"{in_package(code.co_filename)}:{frame.f_lineno}"
            frame = frame.f_back
        return None


def check_caught(caught: Mapping[str, str], path: str) -> None:
    """Check that the code of a module, which became a graph, catches no errors of torch.

    Raises:
        TraceError: It does.
    """
    if path in caught:
        raise TraceError(
            f"forward goes on where torch raises an error (at {caught[path]}), where a graph would raise it"
        )


def check_unchanged(arguments: Sequence[tuple[str, Any, Any]]) -> None:
    """Check that a run has left its arguments as they were; of each its name, its value and what that was.

    Raises:
        TraceError: It has not.
    """
    for name, value, before in arguments:
        if value != before:
            raise TraceError(f"forward changes its argument {name!r}, which a graph would not")


def check_result(result: Any) -> Any:
    """The result of a model, if generated code can return it.

    Raises:
        TraceError: It holds a number or text of a class of its own, also as a key.
    """
    pending = [result]
    while pending:
        value = pending.pop()
        kind = type(value)  # and not `isinstance`, to which a proxy pretends to be its value
        if issubclass(kind, dict):
            pending += [*value.keys(), *value.values()]
        elif issubclass(kind, list | tuple):
            pending += value
        elif is_dataclass(kind) and hasattr(value, "__dict__"):
            pending += vars(value).values()
        if plain(value) is not value:
            raise TraceError(f"forward returns a {type(value).__name__}, which a graph would not")
    return result


def _caught_in(code: CodeType) -> Lines:
    """The lines of a function whose errors it may catch; all of them where no source tells which (`exec`).

    A `try` around the definition of a function, as of a class for want of a library, catches nothing in its calls.
    """
    blocks = _blocks(source_of(code))
    if blocks is not None:
        return tuple([(first, last) for start, first, last in blocks if start >= code.co_firstlineno])
    steps = {step.opname for step in dis.get_instructions(code)}
    catches = steps & _MATCHES or ("POP_EXCEPT" in steps and "WITH_EXCEPT_START" not in steps)
    return ((0, sys.maxsize),) if catches else ()


@functools.lru_cache(maxsize=64)
def _blocks(source: str) -> tuple[tuple[int, int, int], ...] | None:
    """Where a source file catches errors: the line of each `try`, and the first and last in it; None: no source."""
    if not source:
        return None
    if not any(word in source for word in ("except", "suppress", "finally")):
        return ()
    tree = parsed(source)
    if tree is None:
        return None
    tries = [(start, body) for node in ast.walk(tree) for start, body in _tries(node)]
    return tuple([(start, body[0].lineno, body[-1].end_lineno or body[-1].lineno) for start, body in tries])


def _tries(node: ast.AST) -> Iterator[tuple[int, Sequence[ast.stmt]]]:
    """The line of a `try`, and the statements in it, where a node is one that may catch an error of torch."""
    if isinstance(node, _TRIES):
        types = [handler.type for handler in node.handlers]
        leaves = any(isinstance(entry, _LEAVING) for last in node.finalbody for entry in ast.walk(last))
        if leaves or any(kind is None or _may_be_of_torch(kind) for kind in types):
            yield node.lineno, node.body
    elif isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        suppressing = [call.args for call in calls if _name(call.func) == "suppress"]
        if any(_may_be_of_torch(kind) for kinds in suppressing for kind in kinds):
            yield node.lineno, node.body


def _may_be_of_torch(kind: ast.expr) -> bool:
    """Whether an expression for a class of errors may mean one that an operator raises because of a size."""
    if isinstance(kind, ast.Tuple):
        return any(map(_may_be_of_torch, kind.elts))
    return _name(kind) not in _OTHERS


def _name(kind: ast.expr) -> str:
    return kind.attr if isinstance(kind, ast.Attribute) else getattr(kind, "id", "")
