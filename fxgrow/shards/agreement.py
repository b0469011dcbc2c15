"""Whether all processes can go on: what ends a growth on one of them ends it on all, with that reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from ..errors import GrowError, in_words
from ..plans.growth_plan import Plan

T = TypeVar("T")


def groups_of(mesh: Any) -> list[Any]:
    """The groups of processes along each dimension of a mesh; all of it hears what goes through one after the other."""
    return [mesh.get_group(dim) for dim in range(mesh.ndim)]


def agreed(groups: Sequence[Any], make: Callable[[], T], digest: Callable[[T], str] = lambda made: "") -> T:
    """What this process makes, if all make theirs, and the same.

    Args:
        groups: Of processes.
        make: Makes it; what it raises is told to all.
        digest: What has to be alike.

    Raises:
        GrowError: It failed here or on another process, or the processes have made different things.
    """
    made: T | None = None
    failed: Exception | None = None
    try:
        made = make()
    except Exception as error:  # noqa: BLE001 - the others wait for this process, whatever it raises
        failed = error
    mine = (dist.get_rank(), f"{in_words(failed)}" if failed else "", "" if failed else digest(made))  # type: ignore[arg-type]
    said = _gathered(groups, {mine})
    if failed is not None:
        raise failed
    wrong = sorted((rank, why) for rank, why, _ in said if why)
    if wrong:
        raise GrowError(f"process {wrong[0][0]} cannot grow the model: {wrong[0][1]}")
    if len({what for _, _, what in said}) > 1:
        other = next(rank for rank, _, what in sorted(said) if what != mine[2])
        raise GrowError(
            f"processes {mine[0]} and {other} have different plans; give all the same model, specification and seed"
        )
    assert made is not None
    return made


def digest_of(plan: Plan) -> str:
    """What tells plans apart."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()


def _gathered(groups: Sequence[Any], said: set[tuple[int, str, str]]) -> set[tuple[int, str, str]]:
    for group in groups:
        heard: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(heard, said, group=group)
        said = set().union(*heard)
    return said
