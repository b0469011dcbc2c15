"""A run as a program: its ATen calls with their arguments and results, and the calls of some modules in it.

Code that no graph shows is analysed and tried by its calls: they can be followed backwards, and run again on other
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..base.structures import leaf_tensors
from ..base.torch_private import no_dispatch_modes
from ..model.copies import named_tensors
from ..model.supported import HARMLESS
from ..model.walk import submodule
from .call import Call, Key
from .operators import tensors_in
from .run import TapedRun
from .tape import Tape


class Step(NamedTuple):
    """One ATen call with the tensors of the run.

    Attributes:
        op: The overload.
        args: Its arguments.
        kwargs: Its arguments by name.
        outs: Its results; one that is written in place is among the arguments, too.
        made: The values of its results that are tensors.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outs: tuple[Any, ...]
    made: tuple[Key, ...]

    def reads(self) -> Iterator[Tensor]:
        """The tensors among the arguments, in order."""
        for argument in (*self.args, *self.kwargs.values()):
            yield from tensors_in(argument)


class Passed(NamedTuple):
    """A tensor that a module is given or gives back, and its value at that moment."""

    tensor: Tensor
    value: Key


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a module.

    Attributes:
        path: The module.
        call: Its arguments, by position and by name.
        given: The tensors among its arguments, in order.
        result: The tensors in its result, in order.
        first: The number of its first ATen call.
        end: The number after its last one.
    """

    path: str
    call: tuple[tuple[Any, ...], Mapping[str, Any]]
    given: tuple[Passed, ...]
    result: tuple[Passed, ...]
    first: int
    end: int


class ProgramTape(Tape):
    """A tape that keeps the arguments and results of each call."""

    def __init__(self, names: Mapping[str, Tensor], attributes: Iterable[Tensor] = (), *, real: bool = False) -> None:
        super().__init__(names, attributes, real=real)
        self.names: dict[int, str] = {id(tensor): name for name, tensor in names.items()}
        self.steps: list[Step] = []

    def reading(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, kwargs

    def observe(self, op: Any, read: Any, outs: tuple[Any, ...]) -> None:
        args, kwargs = read
        made = tuple([self.value_of(out) for out in outs if isinstance(out, Tensor)])
        self.steps.append(Step(op, tuple(args), kwargs, outs, made))

    def passed(self, structure: Any) -> tuple[Passed, ...]:
        """The tensors in a structure, as those of the run, with their values now."""
        with no_dispatch_modes():  # reading a constant is no call of the run
            ours = [self._to_meta(tensor) for tensor in leaf_tensors(structure)]
            return tuple([Passed(tensor, self.content(tensor)) for tensor in ours])


@dataclass(frozen=True, slots=True)
class Program:
    """What one run did.

    Attributes:
        tape: The tape of it.
        visits: The calls of the modules that were watched, in the order in which they ended.
        result: What it returned.
        values: By the id of each tensor in that, its value.
        written: The parameters and buffers that hold another value than before, and which.
    """

    tape: ProgramTape
    visits: tuple[Visit, ...]
    result: Any
    values: Mapping[int, Key]
    written: tuple[tuple[str, Key], ...]

    @property
    def steps(self) -> list[Step]:
        """Its ATen calls."""
        return self.tape.steps

    @property
    def calls(self) -> list[Call]:
        """The same as they are compared."""
        return self.tape.calls

    def visits_of(self, path: str) -> list[Visit]:
        """The calls of a module."""
        return [visit for visit in self.visits if visit.path == path]


def program_of(
    run: TapedRun[ProgramTape],
    perform: Callable[[TapedRun[ProgramTape]], Any],
    paths: Iterable[str],
    *,
    inside: bool = False,
) -> Program:
    """Record a run.

    Args:
        run: The run, on a tree of our own.
        perform: Makes it.
        paths: The modules whose calls are watched.
        inside: Whether a call is given what its `forward` gets, after the module's own hooks have changed that.
    """
    visits: list[Visit] = []
    found = named_tensors(run.root)
    with _watching(run.root, run.tape, paths, visits, inside=inside):
        result = perform(run)
    left = [*found.items(), *((n, t) for n, t in named_tensors(run.root).items() if t is not found.get(n))]
    written = tuple([(name, value) for name, tensor in left if (value := run.tape.content(tensor)) != name])
    values = {id(tensor): run.tape.content(tensor) for tensor in leaf_tensors(result)}
    return Program(run.tape, tuple(visits), result, values, written)


@contextmanager
def _watching(
    root: nn.Module, tape: ProgramTape, paths: Iterable[str], visits: list[Visit], *, inside: bool
) -> Iterator[None]:
    """A context in which each call of a module is added to the visits."""
    entered: dict[str, list[tuple[Any, tuple[Passed, ...], int]]] = {}

    def enter(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        entered.setdefault(path, []).append(((args, dict(kwargs)), tape.passed((args, kwargs)), len(tape.steps)))

    def leave(path: str, module: nn.Module, args: Any, result: Any) -> None:
        call, given, first = entered[path].pop()
        visits.append(Visit(path, call, given, tape.passed(result), first, len(tape.steps)))

    handles: list[Any] = []
    for path in paths:
        module = submodule(root, path)
        before, after = partial(enter, path), partial(leave, path)
        for hook in (before, after):
            vars(hook)[HARMLESS] = True
        handles.append(module.register_forward_pre_hook(before, prepend=not inside, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
