"""A checkpoint file to a checkpoint file, by a chain of plans."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..base.progress import step
from ..errors import GrowError, PlanError, in_words
from ..plans.growth_plan import Plan
from ..state.files import KEY, temporary
from .files import (
    INDEX,
    MAP,
    SAFETENSORS,
    File,
    ShardedSource,
    Unwrapped,
    Written,
    opened,
    prefix_of,
    shards_of,
)  # fmt: skip
from .fill_file import Source, check_pairs, fill
from .kept import KeptBeside, KeptSource, with_what_is_beside
from .outline import Info, Made, check_given, infos_of_teacher, outline, tied
from .safetensors_file import SafetensorsSource, SafetensorsTarget
from .torch_file import TorchSource, TorchTarget
from .torch_optimizers import Names, TorchBeside


def convert(chain: Plan, source: Path, target: Path, threads: int, groups: Names | None = None) -> None:
    """Write the student's checkpoint.

    Args:
        chain: A plan, with those that follow it.
        source: The teacher's checkpoint.
        target: The student's.
        threads: How many work beside each other.
        groups: The names of the parameters in each group of the optimizer, where the checkpoint does not say.

    Raises:
        GrowError: One of the files is not as it should be, or cannot be written; the target is then as before.
        PlanError: The source is no checkpoint of the plan's teacher.
    """
    check_names(source, target)
    first = given = with_what_is_beside(opened(source, partial(_fits, chain)))
    if isinstance(first, TorchSource):
        first.check_places()
    if prefix := prefix_of(given.infos, [one.name for one in chain.stored]):
        given = Unwrapped(given, prefix)
    alone = isinstance(first, TorchSource) and not first.infos  # an optimizer without its model
    outlines = _outlines(chain, infos_of_teacher(chain) if alone else given.infos)  # before anything is written
    beside = _beside(first, chain, outlines[-1], groups, prefix)
    _check_kind(beside, source, target)
    if alone:
        outlines = [{}]
    else:
        check_pairs(chain, given)
    writer = _Writer(target, first, prefix, outlines, beside)
    between: list[Path] = []
    try:
        for number, (plan, made) in enumerate(zip(chain.steps[-len(outlines) :], outlines, strict=True), 1):
            with step(f"plan {number} of {len(outlines)}" if len(outlines) > 1 else "growing"):
                if number == len(outlines):
                    writer.write(plan, made, given, threads)
                else:
                    between.append(temporary(target.with_name(f"{target.name}.step{number}{SAFETENSORS}")))
                    given = writer.write_between(between[-1], plan, made, given, threads)
    finally:
        for path in between:
            with suppress(OSError):
                path.unlink()


def _fits(chain: Plan, infos: Mapping[str, Info]) -> bool:
    """Whether tensors are those of a plan's teacher, or of the teacher in a wrapper."""
    prefix = prefix_of(infos, [one.name for one in chain.stored])
    try:
        check_given(chain, {name.removeprefix(prefix): info for name, info in infos.items()})
    except PlanError:
        return False
    return True


def check_names(source: Path, target: Path) -> None:
    """Whether a target can be written beside a source.

    Raises:
        GrowError: They are the same, or of formats that do not go together.
    """
    if source.exists() and target.exists() and os.path.samefile(source, target):
        raise GrowError(f"{target} is the teacher's checkpoint, which would be lost: give another name")
    if not target.parent.is_dir():
        raise GrowError(f"there is no folder {target.parent}")
    if target.is_dir():
        raise GrowError(f"{target} is a folder; give the name of a file")
    if target.name.endswith(".json") and not target.name.endswith(INDEX):
        raise GrowError(f"{target} is to end in {INDEX}, {SAFETENSORS}, or as files of torch.save do")
    if target.name.endswith(INDEX):
        if not source.name.endswith(INDEX):
            raise GrowError(f"{target} is an index of several files, and {source} is one file")
        if source.parent.resolve() == target.parent.resolve():
            raise GrowError(f"the files of {target} would replace those of {source}: give another folder")


def _beside(
    first: Source, chain: Plan, made: Mapping[str, Made], groups: Names | None, prefix: str
) -> KeptBeside | TorchBeside | None:
    """What the student's file holds beside the weights."""
    if isinstance(first, KeptSource):
        return first.grown(chain, made)
    if isinstance(first, TorchSource) and first.optimizers is not None:
        return first.optimizers.grown(chain, made, groups, prefix)
    return None


def _check_kind(beside: KeptBeside | TorchBeside | None, source: Path, target: Path) -> None:
    """Whether the target's format holds what is beside the weights.

    Raises:
        GrowError: It does not.
    """
    if isinstance(beside, KeptBeside) and not target.name.endswith(SAFETENSORS):
        raise GrowError(f"{source} is a file of fxgrow.save, and so is what grows of it: {target} ends otherwise")
    if isinstance(beside, TorchBeside) and target.name.endswith((SAFETENSORS, INDEX)):
        raise GrowError(f"{source} holds an optimizer, which only files of torch.save do, and {target} is none")


def _outlines(chain: Plan, infos: Mapping[str, Info]) -> list[dict[str, Made]]:
    outlines = []
    for plan in chain.steps:
        outlines.append(outline(plan, infos))
        infos = {name: made.info for name, made in outlines[-1].items()}
    return outlines


class _Writer:
    """Writes the checkpoints of a chain of plans, of which the last one is wanted."""

    def __init__(
        self,
        target: Path,
        first: Source,
        prefix: str,
        outlines: Sequence[Mapping[str, Made]],
        beside: KeptBeside | TorchBeside | None = None,
    ) -> None:
        """Nothing is written yet.

        Args:
            target: The file, or the index.
            first: The checkpoint of the first teacher.
            prefix: What stands before each name in it.
            outlines: What the checkpoint after each plan holds.
            beside: What the last of them holds beside the weights.
        """
        self._target, self._first, self._prefix, self._beside = target, first, prefix, beside
        self._shards: dict[str, str] = {}
        if isinstance(first, ShardedSource):
            self._shards = {name.removeprefix(prefix): file for name, file in first.shards.items()}
            for made in outlines:
                self._shards = shards_of(made, self._shards)

    def write(self, plan: Plan, made: Mapping[str, Made], given: Source, threads: int) -> None:
        """Write the target."""
        infos = {name: one.info for name, one in made.items()}
        indexed = self._target.name.endswith(INDEX)
        files: dict[str, dict[str, Info]] = {} if indexed else {self._target.name: infos}
        for name, file in self._shards.items() if indexed else ():
            files.setdefault(file, {})[name] = infos[name]
        with _written(self._target.parent, self._prefix) as written:
            for file, inside in files.items():
                written.add(file, inside, self._format(made))
            fill(plan, made, given, written, threads)
            for name, start, part in () if self._beside is None else self._beside.data():
                written.files[self._target.name].write(name, start, part)
                written.forget()
                given.forget()
        if indexed:
            assert isinstance(self._first, ShardedSource)
            shards = {self._prefix + name: file for name, file in self._shards.items()}
            _write_index(self._target, shards, infos, self._first.metadata)

    def _format(self, made: Mapping[str, Made]) -> Callable[[Path, Mapping[str, Info]], File]:
        """What makes a file of the target's kind."""
        if not self._target.name.endswith((SAFETENSORS, INDEX)):
            whole = self._first if isinstance(self._first, TorchSource) else None
            ties = {self._prefix + name: self._prefix + first for name, first in tied(made)}
            optimizers = self._beside if isinstance(self._beside, TorchBeside) else None
            return lambda path, infos: TorchTarget(path, infos, whole, ties, optimizers)
        first = self._first
        metadata = dict(first.metadata) if isinstance(first, SafetensorsSource | KeptSource) else PYTORCH
        if not isinstance(self._beside, KeptBeside):
            return lambda path, infos: SafetensorsTarget(path, infos, metadata)
        more, metadata = self._beside.infos, {**metadata, KEY: self._beside.text}
        return lambda path, infos: SafetensorsTarget(path, {**infos, **more}, metadata)

    def write_between(
        self, path: Path, plan: Plan, made: Mapping[str, Made], given: Source, threads: int
    ) -> SafetensorsSource:
        """Write a checkpoint that the next plan reads."""
        with _written(path.parent) as written:
            infos = {name: one.info for name, one in made.items()}
            written.add(path.name, infos, lambda place, inside: SafetensorsTarget(place, inside, PYTORCH))
            fill(plan, made, given, written, threads)
        return SafetensorsSource(path)


PYTORCH = {"format": "pt"}  # what libraries look for before they read a file


@contextmanager
def _written(folder: Path, prefix: str = "") -> Iterator[Written]:
    """Files that get their names if all goes well, and are removed if not."""
    written = Written(folder, prefix)
    try:
        yield written
        written.finish()
    except BaseException:
        written.give_up()
        raise


def _write_index(path: Path, files: Mapping[str, str], infos: Mapping[str, Info], metadata: Mapping[str, Any]) -> None:
    """The index, which is written last: without it the files beside it are no checkpoint."""
    total = sum(info.bytes for info in infos.values())
    text = json.dumps({"metadata": {**metadata, "total_size": total}, MAP: dict(sorted(files.items()))}, indent=2)
    try:
        with temporary(path).open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary(path), path)
    except OSError as error:
        raise GrowError(f"cannot write {path}: {in_words(error)}") from error
    finally:
        with suppress(OSError):
            temporary(path).unlink()
