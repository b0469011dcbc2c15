"""The smallest modules of the user's own class whose code a new layer changes, traced alone on what they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from ..capture.ladder import trace_model
from ..capture.traced import Traced
from ..errors import GrowError, Unfit
from ..model.copies import on_meta, without_hooks
from ..model.example_inputs import ModelInputs
from ..model.layer_kinds import CONTAINERS, SEQUENCE, is_layer
from ..model.tree import module_at
from ..model.walk import named_modules, submodule
from ..recording.program import Program, ProgramTape, program_of
from ..recording.run import TapedRun


def calls_entries(module: nn.Module) -> bool:
    """Whether a module does nothing but call its entries, one after the other."""
    return isinstance(module, SEQUENCE) and type(module).forward is SEQUENCE.forward


class Owners:
    """The modules that call the layers of a student.

    Args:
        traced: The teacher as it was traced.
        root: The student without new layers, a tree of our own.
        arguments: The arguments of `forward` that the student takes, by name.
    """

    def __init__(self, traced: Traced, root: nn.Module, arguments: Mapping[str, object]) -> None:
        self._traced = traced
        self._root = on_meta(root)
        self._arguments = arguments
        self._program: Program | None = None
        self._known: dict[str, Traced | Unfit] = {}

    def of_layer(self, path: str) -> str:
        """The path of the innermost module around a layer that is called, and is no list of modules.

        Raises:
            Unfit: It is the model itself.
        """
        owner = path.rpartition(".")[0]
        while owner:
            module = submodule(self._root, owner)
            if (calls_entries(module) or not isinstance(module, CONTAINERS)) and self._run().visits_of(owner):
                return owner
            owner = owner.rpartition(".")[0]
        if calls_entries(module_at(self._root, "")):
            return ""
        raise Unfit(f"the code of {self._traced.class_name} itself would have to call it; use output='graph'")

    def trace(self, owner: str) -> Traced:
        """A module alone, as graphs on the meta device. Modules of the user's in it stay calls.

        Raises:
            Unfit: It cannot be traced.
        """
        if owner not in self._known:
            try:
                self._known[owner] = self._trace(owner)
            except GrowError as why:
                name = owner or self._traced.class_name
                self._known[owner] = Unfit(f"the code of {name} would have to call it, and cannot be traced: {why}")
        known = self._known[owner]
        if isinstance(known, Unfit):
            raise known
        return known

    def _trace(self, owner: str) -> Traced:
        module = without_hooks(module_at(self._root, owner))  # the graph keeps them: they run around it
        args, kwargs = self._run().visits_of(owner)[0].call if owner else ((), self._arguments)
        return trace_model(module, ModelInputs(args, dict(kwargs)), leaf_modules=_own_code(module))

    def _run(self) -> Program:
        if self._traced.inputs.real:
            raise Unfit("its code decides by numbers in tensors, so nothing in it is traced; use output='graph'")
        if self._program is None:
            mode = next(iter(self._traced.tapes))
            run = TapedRun(self._traced.to_run(self._root), self._arguments, ProgramTape, mode=mode)
            paths = [path for path, module in named_modules(self._root) if path and not is_layer(module)]
            self._program = program_of(run, lambda run: run.graph(self._traced.graph(mode)), paths, inside=True)
        return self._program


def _own_code(module: nn.Module) -> Iterable[str]:
    """The outermost modules in one that run code of the user's."""
    found: list[str] = []
    for path, inner in named_modules(module):
        own = path and not is_layer(inner) and not isinstance(inner, CONTAINERS)
        if own and not path.startswith(tuple(f"{outer}." for outer in found)):
            found.append(path)
    return found
