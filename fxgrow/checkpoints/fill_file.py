"""A checkpoint to a checkpoint, by one plan: every tensor is made by blocks, in its place in the file."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..base.progress import step
from ..base.rng import named_generator
from ..depth.new_layers import build_new_layer
from ..errors import GrowError
from ..plans.growth_plan import Plan
from ..rewrite.fill import PART, Fill, Filling, copies
from .outline import Filled, Grown, Info, Made, pairs

HELD = 64 << 20  # bytes of files that are in memory before it is given back


class Source(Protocol):
    """The teacher's checkpoint."""

    infos: Mapping[str, Info]

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""

    def forget(self) -> None:
        """Give back the memory of what was read."""


class Target(Protocol):
    """The student's checkpoint."""

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are written where it is."""

    def forget(self) -> None:
        """Give back the memory of what was written."""


def fill(plan: Plan, made: Mapping[str, Made], source: Source, target: Target, threads: int) -> None:
    """Make every tensor of a student's checkpoint.

    Args:
        plan: One plan.
        made: What the checkpoint holds (`outline`).
        source: The teacher's checkpoint.
        target: The student's, which has its place on the disk.
        threads: How many make blocks beside each other; the bits are the same for any number.
    """
    total = sum(source.infos[one.how.source].bytes for one in made.values() if isinstance(one.how, Grown))

    def forget() -> None:
        source.forget()
        target.forget()

    with torch.no_grad(), step("writing", total):
        _run(_blocks(plan, made, source, target), threads, forget)


def check_pairs(plan: Plan, source: Source) -> None:
    """Whether tensors that are tied in the model are equal in the file.

    Raises:
        GrowError: Two are not.
    """
    for one, other in pairs(plan, source.infos):
        for a, b in zip(_parts(source.tensor(one)), _parts(source.tensor(other)), strict=True):
            if not torch.equal(a, b):
                raise GrowError(f"{one!r} and {other!r} are one tensor in {plan.model}, and differ in the checkpoint")
            source.forget()


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.reshape(-1).view(torch.uint8)
    return iter(flat.split(HELD))


def _blocks(plan: Plan, made: Mapping[str, Made], source: Source, target: Target) -> Iterator[tuple[int, Fill]]:
    """What makes the tensors, block by block, and how many bytes each touches."""
    filling, planned = Filling(plan), {one.name: one for one in plan.tensors}
    for name, one in made.items():
        if not one.info.numel:
            continue
        there = target.tensor(name)
        if isinstance(one.how, Filled):
            calls: Iterator[Fill] = iter([partial(_set, there, one.how.value)])
        elif isinstance(one.how, Grown):
            old = source.tensor(one.how.source)
            inner = _inside(there, one.around)
            if one.around:
                there.zero_()
            known = planned.get(one.how.planned)
            calls = copies(old, inner) if known is None else filling.blocks(known, old, inner)
        else:
            layer = build_new_layer(one.how.new, named_generator(plan.seed, one.how.new.path), CPU, one.how.dtype)
            calls = copies(layer.state_dict()[one.how.key], there)
        touched = 2 * min(one.info.numel, PART) * one.info.dtype.itemsize
        for call in calls:
            yield touched, call


CPU = torch.device("cpu")


def _set(tensor: Tensor, value: float) -> None:
    tensor.fill_(value)


def _inside(tensor: Tensor, around: tuple[int, ...]) -> Tensor:
    """The part of a tensor inside of the zeros around it."""
    for axis, (before, after) in enumerate(zip(around[::2], around[1::2], strict=True)):
        dim = tensor.ndim - 1 - axis
        tensor = tensor.narrow(dim, before, tensor.shape[dim] - before - after)
    return tensor


def _run(blocks: Iterator[tuple[int, Fill]], threads: int, forget: Callable[[], None]) -> None:
    held = 0
    if threads == 1:
        for bytes_, call in blocks:
            call()
            held += bytes_
            if held >= HELD:
                forget()
                held = 0
        forget()
        return
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[None]] = set()
        try:
            for bytes_, call in blocks:
                running.add(pool.submit(contextvars.copy_context().run, call))
                held += bytes_
                if len(running) >= 2 * threads:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for one in done:
                        one.result()
                if held >= HELD:
                    forget()
                    held = 0
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    forget()
