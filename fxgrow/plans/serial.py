"""The format of a plan file: a header with its version around the fields of `Plan`.

A minor version adds fields that have defaults. A file of a newer minor version is read without the fields that are not
known here, one of an older with the defaults of those that it lacks. A major version changes what is there: files of an
older one go through `UPGRADES`, files of a newer one are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..base.decode import DecodeError, Leniency, parse_json

FORMAT = "fxgrow.plan"
MAJOR, MINOR = 1, 8
OLD = "fxgrow"  # the key of the version before there was a header

Data = dict[str, Any]
Upgrade = Callable[[Data], Data]
UPGRADES: dict[int, Upgrade] = {}  # major version: makes of its data that of the next one


def write(data: Data, indent: int | None) -> str:
    """The fields of a plan as text, with the header."""
    header = {"format": FORMAT, "version": f"{MAJOR}.{MINOR}", "made_with": data["made_with"]}
    return json.dumps({**header, **data}, indent=indent, allow_nan=False)


def read(text: str) -> tuple[Data, Leniency]:
    """The fields of a plan from text, and what their decoder may overlook.

    Raises:
        DecodeError: It is no plan, or one of a version that cannot be read.
    """
    data = parse_json(text)
    if not isinstance(data, dict) or (data.get("format") != FORMAT and OLD not in data):
        raise DecodeError("it is other JSON than `Plan.to_json` and `fxgrow plan -o` write")
    if data.get("format") != FORMAT:
        raise DecodeError(f"it has the format from before version 1.0, which is read no more; {AGAIN}")
    major, minor = version_of(data.get("version"))
    fields = {key: value for key, value in data.items() if key not in ("format", "version")}
    if major == MAJOR:
        return fields, Leniency(defaults=minor != MINOR, extra=minor > MINOR)
    for older in range(major, MAJOR):
        if older not in UPGRADES:
            raise DecodeError(f"it has version {major}.{minor} of the format, which is read no more; {AGAIN}")
        fields = UPGRADES[older](fields)
    if major > MAJOR:
        raise DecodeError(
            f"it has version {major}.{minor} of the format, and this fxgrow reads versions up to {MAJOR}; "
            "update fxgrow, or plan again with this one"
        )
    return fields, Leniency(defaults=True)


AGAIN = "plan again (`fxgrow.plan`, or `fxgrow plan -o`)"


def version_of(stated: Any) -> tuple[int, int]:
    """The major and the minor version of a format, from what a file states.

    Raises:
        DecodeError: It is no version.
    """
    numbers = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", stated) if isinstance(stated, str) else None
    if numbers is None:
        raise DecodeError(f"version: expected two numbers such as '{MAJOR}.{MINOR}', found {stated!r:.60}")
    return int(numbers[1]), int(numbers[2])
