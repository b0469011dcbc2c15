"""Where two lists of recorded calls differ, in words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .call import Call


def first_difference(ours: Sequence[Call], theirs: Sequence[Call]) -> tuple[str, str]:
    """The first call in which two runs with different results differ, in words, and the path of its module."""
    known, mine = {call.digest for call in theirs}, {call.digest for call in ours}
    strange = next((call for call in ours if call.digest not in known), None)
    missing = next((call for call in theirs if call.digest not in mine), None)
    if strange is not None and missing is not None:
        theirs_is = f"{missing.op} {list(missing.shapes)}"
        text = f"{strange.op} {list(strange.shapes)} at {strange.site} where the model runs {theirs_is}"
        return text, _common(strange.module, missing.module)
    if missing is not None:
        return f"it lacks {missing.op} {list(missing.shapes)}", missing.module
    if strange is not None:
        return f"{strange.op} {list(strange.shapes)} at {strange.site} is not in the model", strange.module
    return "the results are others", ""


def _common(a: str, b: str) -> str:
    """The innermost module that holds both."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return ".".join([x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
