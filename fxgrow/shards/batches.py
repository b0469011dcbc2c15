"""Batches for the norms of new layers, which all processes have to be given alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from ..base.content import digest
from ..base.torch_private import pytree
from ..depth.calibrate import as_batches, calibrate, check_batches
from ..model.call_args import PLAIN, taken
from ..model.sharded import reshard
from ..plans.growth_plan import Plan
from ..rewrite.student import calibrated_layers
from .agreement import Peers, agreed

BATCHES = "batches of calibration; give all the same ones, in the same order"


def calibrate_by_parts(student: nn.Module, plan: Plan, batches: Iterable[Any] | None, peers: Peers) -> None:
    """Calibrate the new norms of a sharded student, which runs on each batch on all processes.

    Args:
        student: The student, sharded and filled.
        plan: The plan that made it.
        batches: As for `calibrate`; None for none.
        peers: The processes.

    Raises:
        GrowError: The processes have different batches.
        PlanError: As for `calibrate`.
    """
    layers = calibrated_layers(plan)
    if not layers or not agreed(peers, lambda: batches is not None, str, BATCHES):
        return
    assert batches is not None
    calibrate(student, [plan.numbering(one.path) for one in layers], _alike(student, batches, peers))


def _alike(student: nn.Module, batches: Iterable[Any], peers: Peers) -> Iterator[Any]:
    """Batches, each once all processes are known to have it: one that had fewer would leave the others waiting."""

    def begun() -> Iterator[Any]:
        check_batches(batches)
        return iter(as_batches(batches))

    left = agreed(peers, begun)
    while True:
        reshard(student)  # also behind the last one: what is set then is set in the parts
        batch = agreed(peers, lambda: next(left, None), lambda one: digest_of_batch(student, one), BATCHES)
        if batch is None:
            return
        yield batch


def digest_of_batch(model: nn.Module, batch: Any) -> str:
    """What tells batches apart, by what the model takes of them."""
    told = "" if batch is None else repr([_of(leaf) for leaf in pytree.tree_leaves(taken(model, batch))])
    return hashlib.sha256(told.encode()).hexdigest()


def _of(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return str(leaf.dtype), tuple(leaf.shape), digest(leaf)
    return leaf if isinstance(leaf, PLAIN) else type(leaf).__name__


class Told:
    """Batches that keep a digest of all that was taken of them."""

    def __init__(self, batches: Iterable[Any], model: nn.Module) -> None:
        self._batches, self._model = batches, model
        self._digests: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in as_batches(self._batches):
            self._digests.append(digest_of_batch(self._model, batch))
            yield batch

    @property
    def digest(self) -> str:
        """Of all batches so far, in their order; "" where none was taken."""
        return "" if not self._digests else hashlib.sha256(repr(self._digests).encode()).hexdigest()
