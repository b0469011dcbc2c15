"""What a file is by how it begins, for messages: a file of one kind is often given where another is meant."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

PLAN, CHECKPOINT = "a plan", "a checkpoint"
BEGINNING = 4096  # bytes that are looked at
FIELDS = ("format", "groups", "tensors", "edits", "resizes")  # of every plan


def is_plan_text(text: str) -> bool:
    """Whether JSON text looks like a plan, which states these fields."""
    return text.lstrip().startswith("{") and all(f'"{name}"' in text for name in FIELDS)


def other_kind(path: str | PathLike[str], wanted: str) -> str:
    """What to say of a file that is of another kind than is wanted; empty where that is not known.

    Args:
        path: The file.
        wanted: `PLAN` or `CHECKPOINT`.
    """
    found = _kind(Path(path))
    return f": it is {found}, where {wanted} is expected" if found and found != wanted else ""


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            begins = file.read(BEGINNING)
    except OSError:
        return ""
    zipped, pickled, safetensors = begins[:4] == b"PK\x03\x04", begins[:1] == b"\x80", begins[8:9] == b"{"
    if zipped or pickled or (safetensors and b"\0" in begins[:8]):
        return CHECKPOINT
    try:
        text = path.read_text(encoding="utf-8") if begins.lstrip()[:1] == b"{" else ""
    except (OSError, UnicodeDecodeError):
        return ""
    return PLAN if is_plan_text(text) else ""
