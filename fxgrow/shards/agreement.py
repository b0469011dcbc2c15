"""Whether all processes can go on: what ends a growth on one of them ends it on all, with that reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..errors import GrowError, in_words
from ..model.sharded import is_dtensor
from ..plans.growth_plan import Plan
from ..state.optimizer import Moving

T = TypeVar("T")
PLANS = "plans; give all the same model, specification and seed, and inputs of the same shapes"
OPTIMIZERS = "optimizers; give all the same one, with the same state, and the same reset and warmup"


@dataclass(frozen=True, slots=True)
class Peers:
    """The processes that grow a model together.

    Attributes:
        groups: Groups of them; all hear what goes through one after the other.
        device: Where this process has its part; what is said goes through it where a backend sends from devices alone.
    """

    groups: tuple[Any, ...]
    device: torch.device

    def on_device(self) -> AbstractContextManager[Any]:
        """Inside, the device is the current one of its kind, which torch takes for objects."""
        if self.device.type == "cpu":
            return nullcontext()
        here: AbstractContextManager[Any] = torch.get_device_module(self.device).device(self.device)
        return here


def peers_of(mesh: Any, device: torch.device) -> Peers:
    """The processes of a mesh: a group along each of its dimensions."""
    return Peers(tuple([mesh.get_group(dim) for dim in range(mesh.ndim)]), device)


def agreed(peers: Peers, make: Callable[[], T], digest: Callable[[T], str] = lambda made: "", what: str = PLANS) -> T:
    """What this process makes, if all make theirs, and the same.

    Args:
        peers: The processes.
        make: Makes it; what it raises is told to all.
        digest: What has to be alike.
        what: Its name, and what to do about it.

    Raises:
        GrowError: It failed here or on another process, or the processes have made different things.
    """
    made: T | None = None
    failed: Exception | None = None
    told = ""
    try:
        made = make()
        told = digest(made)
    except Exception as error:  # noqa: BLE001 - the others wait for this process, whatever it raises
        failed = error
    mine = (dist.get_rank(), f"{in_words(failed)}" if failed else "", told)
    said = _gathered(peers, {mine})
    if failed is not None:
        raise failed
    wrong = sorted((rank, why) for rank, why, _ in said if why)
    if wrong:
        raise GrowError(f"process {wrong[0][0]} cannot grow the model: {wrong[0][1]}")
    if len({one for _, _, one in said}) > 1:
        other = next(rank for rank, _, one in sorted(said) if one != mine[2])
        raise GrowError(f"processes {mine[0]} and {other} have different {what}")
    return made  # type: ignore[return-value]


def digest_of(plan: Plan) -> str:
    """What tells plans apart."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()


def digest_of_ways(moved: Sequence[Moving], warmup: int) -> str:
    """What tells apart how optimizers go on: their classes, whether their states are dropped, and the warm-up."""
    return repr([warmup, *((type(one.keeper).__name__, one.rule is None) for one in moved)])


def digest_of_states(moved: Sequence[Moving], warmup: int) -> str:
    """The same, and states that are parts of tensors: all processes send these in the same order."""
    told = [
        (name, [(key, tuple(v.shape), str(v.dtype), v.placements) for key, v in state.items() if is_dtensor(v)])
        for one in moved
        for name, state in one.states.items()
    ]
    return hashlib.sha256(f"{digest_of_ways(moved, warmup)} {told}".encode()).hexdigest()


def _gathered(peers: Peers, said: set[tuple[int, str, str]]) -> set[tuple[int, str, str]]:
    for group in peers.groups:
        heard: list[Any] = [None] * dist.get_world_size(group)
        with peers.on_device():
            dist.all_gather_object(heard, said, group=group)
        said = set().union(*heard)
    return said
