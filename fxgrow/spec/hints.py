"""Forms of a specification that are no form of one, and what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..base.wording import a_type
from ..errors import PlanError

LONGEST = 80  # characters of a text that a message repeats
KIND = "widen"  # the kind of request that has no key in JSON


def check_is_mapping_of_widths(spec: Mapping[str, Any]) -> None:
    """Refuse a request for widths that is written as the other requests are: `{"widen": "layer1", "width": 2.0}`.

    Raises:
        PlanError: It says how widths are asked for.
    """
    for key, value in spec.items():
        name = key.lower() if isinstance(key, str) else ""
        if (name == KIND and _is_no_width(value)) or (key == "pattern" and isinstance(value, str)):
            layer = value if isinstance(value, str) else next(iter(value), "layer1")
            raise PlanError(
                f"{dict(spec)!r:.80} is no request; to widen a layer, write {{{str(layer)!r:.80}: 1.5}} (a factor) or "
                f"{{{str(layer)!r:.80}: 64}} (channels), or with options "
                f'{{"pattern": {str(layer)!r:.80}, "width": 1.5, "multiple_of": 8}}'
            )


def _is_no_width(value: object) -> bool:
    """Whether a value is neither a width nor the options of one, so that its key is not the name of a layer."""
    if isinstance(value, Mapping):
        return "width" not in value
    return isinstance(value, str | list | tuple)


def as_number_hint(value: object) -> str:
    """How a tensor, an array or a text is made a number; empty for everything else."""
    if isinstance(value, str):
        return f"; write it without quotes: {value:.40}" if _number(value) is not None else ""
    single = getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None))
    return "; for the number in it, give its item()" if single else ""


def what_to_write(text: str) -> str:
    """What to write for a text such as `conv1`, `conv1=2.0` or `1.5x`."""
    percent = text.strip().endswith("%")
    factor = _number(text.strip().rstrip("xX*×%"))
    if factor is not None:
        return f"for a factor of everything write {factor / 100 if percent else factor}"
    name, sign, width = text.partition("=")
    number = _number(width) if sign else None
    named, wanted = (name, width.strip()) if number is not None else (text, "1.5")
    return f"for one layer write {{{json.dumps(named[:LONGEST])}: {wanted}}}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


ALL = ("widen", "width", "widths", "grow", "factor", "all", "everything", "model", "net", "network", "channels")


def all_hint(pattern: str) -> str:
    """How everything is asked for, where a word for that is no name of a layer; empty for other names."""
    return ". For all widths write the factor alone, such as 1.5" if pattern.lower() in ALL else ""


def no_pattern_hint(pattern: object) -> str:
    """What was given as a pattern, and what to write instead of a module, a class or a number."""
    if isinstance(pattern, nn.Module):
        return f"{a_type(pattern)}; a layer is asked for by its name, as model.named_modules() has it"
    if isinstance(pattern, type):
        name = pattern.__name__
        return (
            f"the class {name}; layers are asked for by their names, here "
            f"[name for name, layer in model.named_modules() if isinstance(layer, {name})]"
        )
    if isinstance(pattern, int):
        return f"{pattern!r}; write the name in quotes: {str(pattern)!r}"
    return f"{pattern!r:.80}"


def regex_hint(pattern: str) -> str:
    """What a pattern is, where one looks like a regular expression; empty elsewhere."""
    looks = pattern.startswith("^") or pattern.endswith("$") or any(sign in pattern for sign in (".+", "\\", "|", "("))
    return ". A pattern is a glob and no regular expression: `layer3.*` means all in layer3" if looks else ""
