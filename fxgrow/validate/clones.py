"""Compares a student in the user's own class that has clones of blocks with the one that has none, call by call.

It must make the same calls on the same values, with those of the clones in between, and return the same values. What a
clone returns counts as what it is given, once its calls were run on random numbers and left them as they are.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..base.structures import children_of, leaf_tensors
from ..base.wording import a_type
from ..depth.recorded_skip import Carried, carried
from ..depth.replay import check_identity
from ..errors import PlanError, Unfit
from ..infer.width_graph import WidthGraph
from ..model.example_inputs import brief
from ..model.tree import Mode, graph_for
from ..plans.changes import StructuralChange
from ..plans.entries import CloneOutput
from ..plans.growth_plan import Plan
from ..plans.numbering import Numbering
from ..recording.call import Key
from ..recording.model_run import explain
from ..recording.operators import same_operator
from ..recording.program import Program, ProgramTape, Visit, program_of
from ..recording.run import TapedRun
from ..rewrite.student_inputs import padded
from .changes import Student


def check_clones(student: Student, deeper: Student, widths: WidthGraph, plan: Plan) -> tuple[CloneOutput, ...]:
    """Check that a student with clones makes the calls of the one without them, and those of the clones between them.

    Args:
        student: The student without clones.
        deeper: The student with them.
        widths: The teacher's.
        plan: The student's, with its changes.

    Returns:
        The tensors in results that are clones' own, as a cache for each block is.

    Raises:
        PlanError: It does not.
    """
    numbering = Numbering.of(plan.changes)
    clones = {numbering(path): change for change in plan.changes for path in change.new_paths}
    outputs: list[CloneOutput] = []
    for mode in widths.traced.tapes:
        before = _program(student, widths, plan, mode, ())
        blocks = {numbering(path) for change in clones.values() for path in (change.follows, change.behind) if path}
        after = _program(deeper, widths, plan, mode, (*clones, *blocks))
        kept = _Comparison(before, after, clones, numbering, mode).check()
        outputs += [CloneOutput(mode, number) for number, is_kept in enumerate(kept) if not is_kept]
    return tuple(outputs)


def _program(student: Student, widths: WidthGraph, plan: Plan, mode: Mode, paths: Any) -> Program:
    root, graphs = student
    real = widths.traced.inputs.real
    arguments = padded(plan, widths.traced.arguments)
    run = TapedRun(widths.traced.to_run(root), arguments, ProgramTape, mode=mode, real=real)
    try:
        return program_of(run, lambda run: run.graph(graph_for(graphs, mode)), paths)
    except Exception as error:
        raise PlanError(f"with the new blocks the model does not run in {mode} mode: {explain(error)}") from error


@dataclass(slots=True)
class _Comparison:
    """The comparison of two runs.

    Attributes:
        before: Of the student without clones.
        after: Of the student with them.
        clones: The clones by their paths in the student.
        numbering: The names of the student.
        mode: The mode.
    """

    before: Program
    after: Program
    clones: Mapping[str, StructuralChange]
    numbering: Numbering
    mode: Mode
    _same: dict[Key, Key] = field(default_factory=dict)  # values of the student, in terms of those without clones
    _tried: dict[Any, Carried] = field(default_factory=dict)  # clones' calls that were run on random numbers
    _made: set[Key] = field(default_factory=set)  # values that a call of the student makes
    _known: set[Key] = field(default_factory=set)  # values that a call of the run without clones makes, or was met
    _kept: list[bool] = field(default_factory=list)  # for each tensor of the result: not a clone's own
    _new: set[Key] = field(default_factory=set)  # values that clones made, or pass on

    def check(self) -> list[bool]:
        """Compare calls, then results.

        Returns:
            For each tensor in the student's result whether there is one for it in the other.

        Raises:
            PlanError: They differ.
        """
        for name in self.before.tape.names.values():
            self._same[self.numbering(name)] = name
        self._made.update(made for step in self.after.steps for made in step.made)
        self._known.update(made for step in self.before.steps for made in step.made)
        starts = {visit.first: visit for visit in self.after.visits if visit.path in self.clones}
        ours, theirs = 0, 0
        while ours < len(self.after.calls):
            visit = starts.get(ours)
            if visit is not None:
                self._pass(visit)
                ours = visit.end
                continue
            if theirs >= len(self.before.calls):
                self._refuse(f"{self.after.calls[ours].site} is one operation more than without them")
            self._compare(ours, theirs)
            ours, theirs = ours + 1, theirs + 1
        if theirs < len(self.before.calls):
            self._refuse(f"{self.before.calls[theirs].site} does not run")
        ran = {visit.path for visit in self.after.visits}
        for path, change in self.clones.items():
            if path not in ran and self.numbering(change.follows) in ran:
                self._refuse(f"nothing calls {path}")
        self._compare_results()
        return self._kept

    def _refuse(self, what: str) -> None:
        raise PlanError(f"with the new blocks the model computes something else in {self.mode} mode: {what}")

    def _value(self, key: Key) -> Key | None:
        """The same value in the run without clones; None where there is none. Inputs and constants have one name."""
        if isinstance(key, tuple):
            own = self._value(key[0])
            return None if own is None or isinstance(own, tuple) else (own, key[1])
        return self._same.get(key, key if isinstance(key, str) else None)

    def _meet(self, mine: tuple[Key, ...], its: tuple[Key, ...]) -> None:
        """Pair what neither run made, and no name tells of, where it is read first."""
        for ours, theirs in zip(mine, its, strict=False):
            strangers = isinstance(ours, int) and isinstance(theirs, int) and ours not in self._made
            if strangers and ours not in self._same and theirs not in self._known:
                self._same[ours] = theirs
                self._known.add(theirs)

    def _compare(self, ours: int, theirs: int) -> None:
        """Compare one call, and note its results as the same."""
        mine, its = self.after.calls[ours], self.before.calls[theirs]
        if not same_operator(mine.op, its.op) or mine.shapes != its.shapes:
            self._refuse(f"{mine.site} runs {mine.op} {list(mine.shapes)} where {its.op} {list(its.shapes)} ran")
        if mine.constants != its.constants and repr(mine.constants) != repr(its.constants):
            self._refuse(f"{mine.op} at {mine.site} gets {brief(mine.constants)} where it got {brief(its.constants)}")
        self._meet(mine.inputs, its.inputs)
        if tuple(map(self._value, mine.inputs)) != its.inputs:
            self._refuse(f"{mine.op} at {mine.site} reads other values")
        self._same.update(zip(self.after.steps[ours].made, self.before.steps[theirs].made, strict=True))

    # -- clones ----------------------------------------------------------------------------------

    def _pass(self, clone: Visit) -> None:
        """Check that a clone leaves what it is given as it is, and go on behind it."""
        behind = self._is_behind(clone)
        if not self.clones[clone.path].original:  # a new layer: its plan says where it is exact, if it stands there
            if self.clones[clone.path].behind and not behind:
                self._refuse(f"{clone.path} does not stand behind {self.clones[clone.path].behind}")
            self._follow(clone, ((0, 0),))
            return
        signature = (self.clones[clone.path].original, behind, self._signature(clone))
        if signature not in self._tried:
            try:
                self._tried[signature] = self._try(clone, anywhere=not behind)
            except Unfit as reason:
                self._refuse(f"{clone.path}: {reason}")
        self._follow(clone, self._tried[signature].ends)

    def _follow(self, clone: Visit, ends: Iterable[tuple[int, int]]) -> None:
        """Take what a clone or a new layer returns for what it is given."""
        self._new.update(made for at in range(clone.first, clone.end) for made in self.after.steps[at].made)
        results = {clone.result[number].value for _, number in ends}
        later = (key for call in self.after.calls[clone.end :] for key in call.inputs)
        read = any((key[0] if isinstance(key, tuple) else key) in results for key in later)
        if not read and results.isdisjoint(self.after.values.values()):
            self._refuse(f"nothing reads what {clone.path} returns")
        for entry, number in ends:
            given, result = self._value(clone.given[entry].value), clone.result[number].value
            self._new |= {result, clone.given[entry].value}  # lists of all activations hold both
            if given is not None:
                self._same[result] = given

    def _is_behind(self, clone: Visit) -> bool:
        """Whether what a clone is given is what its block returns, or another clone of that; a new entry likewise."""
        block = self.clones[clone.path].behind
        alike = {self.numbering(block), *(path for path, change in self.clones.items() if change.behind == block)}
        results = [p.value for visit in self.after.visits if visit.path in alike for p in visit.result]
        return any(passed.value in results for passed in clone.given)

    def _try(self, clone: Visit, *, anywhere: bool) -> Carried:
        """Run the calls of a clone on random numbers.

        Raises:
            Unfit: It is not the identity.
        """
        tape = self.after.tape
        found = carried(tape, clone)
        fills = {f"{clone.path}.{name}": value for name, value in self.clones[clone.path].fills.items()}
        ends = [(clone.given[entry].tensor, clone.result[number].tensor) for entry, number in found.ends]
        check_identity(tape, self.after.steps[clone.first : clone.end], ends, fills, anywhere=anywhere)
        return found

    def _signature(self, clone: Visit) -> tuple[Any, ...]:
        """The calls of a clone in terms of what it is given and what it made itself."""
        local: dict[Key, int] = {passed.value: -1 - i for i, passed in enumerate(clone.given)}
        calls = []
        for at in range(clone.first, clone.end):
            call = self.after.calls[at]
            inputs = tuple([local.get(key, str(key).removeprefix(clone.path)) for key in call.inputs])
            calls.append((call.op, inputs, repr(call.constants), call.shapes))
            for made in self.after.steps[at].made:
                local[made] = len(local)
        return tuple(calls)

    # -- results ---------------------------------------------------------------------------------

    def _compare_results(self) -> None:
        """Compare what the runs leave behind: results, and what parameters and buffers hold."""
        difference = self._difference(self.after.result, self.before.result, "", set())
        if difference:
            self._refuse(difference)
        kept = {name: value for name, value in self.after.written if not f"{name}.".startswith(self._inside)}
        theirs = {self.numbering(name): value for name, value in self.before.written}
        for name in dict.fromkeys((*kept, *theirs)):
            if name not in kept or self._value(kept[name]) != theirs.get(name):
                self._refuse(f"{name} is left with another value")

    @property
    def _inside(self) -> tuple[str, ...]:
        return tuple(f"{path}." for path in self.clones)

    def _difference(self, mine: Any, its: Any, at: str, seen: set[int]) -> str:
        """Where two results differ, in words; a sequence or mapping may hold more entries, which are of the clones."""
        if isinstance(mine, Tensor) or isinstance(its, Tensor):
            same = isinstance(mine, Tensor) and isinstance(its, Tensor) and self._values(mine) == self._theirs(its)
            self._kept.append(True)
            return "" if same else f"its result{at} is another value"
        if type(mine) is not type(its):
            return f"its result{at} is {a_type(mine)} where it was {a_type(its)}"
        ours, theirs = children_of(mine), children_of(its)
        if not ours and not theirs:
            return (
                "" if mine is its or repr(mine) == repr(its) else f"its result{at} is {brief(mine)}, not {brief(its)}"
            )
        if id(mine) in seen:
            return ""
        seen.add(id(mine))
        in_order = not isinstance(mine, Mapping) and not hasattr(mine, "__dict__")
        for step, entry in ours:
            difference, compared = f"its result{at} has {step}", len(self._kept)
            if theirs and (in_order or theirs[0][0] == step):
                difference = self._difference(entry, theirs[0][1], f"{at}{step}", set(seen))
            if not difference:
                theirs = theirs[1:]
            elif self._is_new(entry):
                self._kept[compared:] = [False] * len(leaf_tensors(entry))
            else:
                return difference
        return f"its result{at} lacks {theirs[0][0]}" if theirs else ""

    def _values(self, tensor: Tensor) -> Key | None:
        return self._value(self.after.values[id(tensor)])

    def _theirs(self, tensor: Tensor) -> Key:
        return self.before.values[id(tensor)]

    def _is_new(self, entry: Any) -> bool:
        """Whether clones made tensors of an entry, or pass them on, and all others are constants."""
        values = [self.after.values.get(id(tensor)) for tensor in leaf_tensors(entry)]
        new = [value in self._new for value in values]
        constants = [isinstance(value, str) and value not in self._same for value in values]
        return any(new) and all(map(operator.or_, new, constants))
