"""A checkpoint to a checkpoint, by one plan: every tensor is made by blocks, in its place in the file."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..base.progress import step
from ..errors import GrowError
from ..plans.growth_plan import Plan
from ..rewrite.block import Block
from ..rewrite.fill import PART, Filling, copies
from .new_tensors import NewTensors
from .outline import Filled, Grown, Info, Made, inside, pairs

Call = Callable[[], None]

KEPT = 31 << 20  # bytes of the block that is freed first; the intermediate results of a block are smaller
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

    def write(self, name: str, start: int, data: Tensor) -> None:
        """Write entries of a tensor, row by row, from its entry `start` on."""

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are written where it is; slower than `write`."""

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
    keep_freed_memory()
    total = sum(source.infos[one.how.source].bytes for one in made.values() if isinstance(one.how, Grown))

    def forget() -> None:
        source.forget()
        target.forget()

    with torch.no_grad(), step("writing", total):
        _run(_blocks(plan, made, source, target), threads, forget)


def keep_freed_memory() -> None:
    """Let the allocator keep what blocks free, rather than give it back and get it again page by page, zeroed.

    glibc maps blocks above a threshold one by one, and raises it to the size of the largest one that was freed, of at
    most 32 MiB. It keeps twice as much at the end of its heap. Source: mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
    """
    torch.empty(KEPT, dtype=torch.uint8)


def check_pairs(plan: Plan, source: Source) -> None:
    """Whether tensors that are tied in the model are equal in the file.

    Raises:
        GrowError: Two are not.
    """
    for one, other in pairs(plan, source.infos):
        for (_, a), (_, b) in zip(_parts(source.tensor(one)), _parts(source.tensor(other)), strict=True):
            if not torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
                raise GrowError(f"{one!r} and {other!r} are one tensor in {plan.model}, and differ in the checkpoint")
            source.forget()


def _parts(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """A tensor in parts of a million entries, each with the number of its first one."""
    for number, part in enumerate(tensor.reshape(-1).split(PART)):
        yield number * PART, part


def _blocks(plan: Plan, made: Mapping[str, Made], source: Source, target: Target) -> Iterator[tuple[int, Call]]:
    """What makes the tensors, block by block, and how many bytes of files each touches."""
    filling, planned = Filling(plan), {one.name: one for one in plan.tensors}
    new = NewTensors(plan.seed)
    for name, one in made.items():
        if not one.info.numel or one.how == Filled(0):  # a file begins with zeros
            continue
        if isinstance(one.how, Filled):
            calls: Iterator[Call] = iter([partial(_set, target.tensor(name), one.how.value)])
        elif isinstance(one.how, Grown):
            old, known = source.tensor(one.how.source), planned.get(one.how.planned)
            if known is None and not one.around:
                calls = (partial(target.write, name, start, part) for start, part in _parts(old))
            else:
                blocks = copies(old) if known is None else filling.blocks(known, old)
                calls = (partial(_fill, target, name, one, block) for block in blocks)
        else:
            row = torch.Size(one.info.shape[1:]).numel()
            calls = (partial(target.write, name, first * row, rows) for first, rows in new.blocks(one))
        touched = 2 * min(one.info.numel, PART) * one.info.dtype.itemsize
        for call in calls:
            yield touched, call


def _fill(target: Target, name: str, one: Made, block: Block) -> None:
    """Make a block apart, in memory that stays in the processor's cache, and write it; or where it lies in the file."""
    if block.along or one.around:
        block.fill(block.of(inside(target.tensor(name), one.around)))
        return
    shape = torch.Size([block.stop - block.start, *one.info.shape[1:]])
    made = _scratch(shape, one.info.dtype)
    block.fill(made)
    target.write(name, block.start * shape[1:].numel(), made)


_SCRATCH = threading.local()


def _scratch(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Memory for a block, the same for all blocks of a thread."""
    number = shape.numel() * dtype.itemsize
    held: Tensor | None = getattr(_SCRATCH, "held", None)
    if held is None or held.numel() < number:
        held = _SCRATCH.held = torch.empty(number, dtype=torch.uint8)
    return held[:number].view(dtype).view(shape)


def _set(tensor: Tensor, value: float) -> None:
    tensor.fill_(value)


def _run(blocks: Iterator[tuple[int, Call]], threads: int, forget: Callable[[], None]) -> None:
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
