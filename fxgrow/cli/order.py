"""Words of the command line that stand in another order than they are read in."""

from __future__ import annotations

import argparse
from pathlib import Path

from .usage import UsageError

KINDS = {"model": "a model", "plan": "a plan", "teacher": "a checkpoint", "student": "a checkpoint"}


def check_order(command: str, args: argparse.Namespace, *names: str) -> None:
    """Refuse words of which another order would fit, and give the command in that order.

    Args:
        command: The name of the command.
        args: The arguments.
        names: Those that are read by their place, in order.

    Raises:
        UsageError: The words are models, plans and checkpoints, but not at their places; or the teacher, which is read,
            does not exist, and the student, which is written, does.
    """
    words = [getattr(args, name) for name in names]
    found, expected = [_kind(word) for word in words], [KINDS[name] for name in names]
    if found != expected and sorted(found) == sorted(expected):
        left = list(zip(found, words, strict=True))
        ordered = []
        for kind in expected:
            pair = next(pair for pair in left if pair[0] == kind)
            left.remove(pair)
            ordered.append(pair[1])
        raise UsageError(
            f"{' '.join(name.upper() for name in names)} is the order of the words: "
            f"fxgrow {command} {' '.join(ordered)}"
        )
    if "student" in names and not Path(args.teacher).exists() and Path(args.student).exists():
        raise UsageError(
            f"there is no file {args.teacher}, and there is {args.student}: TEACHER, which is read, comes before "
            "STUDENT, which is written"
        )


def _kind(word: str) -> str:
    """What a word names, by its form."""
    if word.endswith(".json") and not word.endswith(".index.json"):
        return KINDS["plan"]
    return KINDS["model"] if ":" in word and not Path(word).exists() else KINDS["teacher"]
