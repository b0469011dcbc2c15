"""The source files of the user's code, as text and as syntax trees."""

from __future__ import annotations

import ast
import linecache
from types import CodeType


def source_of(code: CodeType) -> str:
    """The text of the file that code is from; empty where there is none (`exec`)."""
    return "".join(linecache.getlines(code.co_filename))


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a file; None where it is no Python, as a cell of a notebook with a command in it."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None
