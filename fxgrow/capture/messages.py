"""Texts in the user's source that only an error would show: `torch._assert(ok, f"expected 3 channels, got {x.shape}")`.

torch makes such a text before it knows whether it is needed, unlike Python's own `assert`. It decides nothing.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import torch

from ..model.provenance import PACKAGES
from .source_files import parsed, source_of

Place = tuple[int, int]  # line, column
Message = tuple[Place, Place, tuple[str, ...]]  # where a text begins and ends; the function that it is given to

_ASSERT = vars(torch)["_assert"]
# What the parts of a text may be; a call or an assignment among them could keep it.
_PLAIN = (
    ast.JoinedStr, ast.FormattedValue, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple,
    ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context,
)  # fmt: skip


def is_message(frame: FrameType | None, until: CodeType | None) -> bool:
    """Whether what a frame formats just now is a part of the message of `torch._assert`, and nothing else.

    Args:
        frame: That of the user's code. Without source or positions in it (`exec`, Python 3.10) the answer is no; also
            where code that is running names the error, and so may read the message.
        until: The code that called the model.
    """
    if frame is None:
        return False
    at = _place(frame.f_code, frame.f_lasti)
    given = [path for first, last, path in _messages(source_of(frame.f_code)) if at and first <= at < last]
    return any(_resolved(frame, path) is _ASSERT for path in given) and not any(map(_may_catch, _callers(frame, until)))


def _place(code: CodeType, instruction: int) -> Place | None:
    """Where the source of an instruction begins."""
    if not hasattr(code, "co_positions"):
        return None
    line, _, column, _ = next(itertools.islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    return None if line is None or column is None else (line, column)


def _callers(frame: FrameType | None, until: CodeType | None) -> Iterator[CodeType]:
    """The model's code from a frame outwards."""
    while frame is not None and frame.f_code is not until:
        if not frame.f_code.co_filename.startswith(PACKAGES):
            yield frame.f_code
        frame = frame.f_back


def _may_catch(code: CodeType) -> bool:
    return "AssertionError" in source_of(code)


@functools.lru_cache(maxsize=64)
def _messages(source: str) -> tuple[Message, ...]:
    """The texts in a source file that are arguments of a function called `_assert`, whose result nothing takes."""
    tree = parsed(source) if "_assert" in source else None
    if tree is None:
        return ()
    calls = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    found = [(call, path) for call in calls if (path := _path(call.func)) and path[-1] == "_assert"]
    texts = [(text, path) for call, path in found for text in (*call.args, *[named.value for named in call.keywords])]
    return tuple(
        ((text.lineno, text.col_offset), (text.end_lineno or 0, text.end_col_offset or 0), path)
        for text, path in texts
        if isinstance(text, ast.JoinedStr) and all(isinstance(part, _PLAIN) for part in ast.walk(text))
    )


def _path(function: ast.expr) -> tuple[str, ...]:
    """The names in `torch._assert`; none for what is more than names."""
    if isinstance(function, ast.Attribute):
        before = _path(function.value)
        return (*before, function.attr) if before else ()
    return (function.id,) if isinstance(function, ast.Name) else ()


def _resolved(frame: FrameType, path: tuple[str, ...]) -> Any:
    """What names mean in the module of a frame; None where the first is one of the function's own."""
    first, *rest = path
    code = frame.f_code
    if first in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
        return None
    value = frame.f_globals.get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value
