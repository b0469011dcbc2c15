"""The optimizers of a checkpoint: the groups and states for the student's parameters, by the plans alone.

In: optimizers by the names of the teacher's parameters, with states that lie in a file. Out: the same for the student,
first on meta, which says what its file holds, then with data, one parameter after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..base.progress import advance, step
from ..errors import GrowError
from ..model.strides import laid_as, order_of, strides_in
from ..plans.entries import TensorPlan
from ..plans.growth_plan import Plan
from ..state.contents import SavedOptimizer
from ..state.groups import groups_of_new, put_in_order
from ..state.moments import MomentFilling
from ..state.optimizer import grown_by
from ..state.rules import Rule, check_shared
from .order import parameter_order
from .outline import Info, Made, infos_of_teacher, outline
from .state_dicts import infos_of

PART = 1 << 20  # entries of a state that are made at a time
State = dict[str, Any]
Groups = Sequence[tuple[list[str], dict[str, Any]]]  # the names in each group, and its options


@dataclass(frozen=True, slots=True)
class Held:
    """An optimizer in a file.

    Attributes:
        saved: Its groups, options and states by the names of the teacher's parameters.
        rule: How its states grow.
    """

    saved: SavedOptimizer
    rule: Rule


def check_held(one: Held, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Whether the optimizer is one of the plan's teacher, with states that are known to grow.

    Raises:
        GrowError: It is not.
    """
    for name in [name for names, _ in one.saved.groups for name in names] + [*one.saved.states]:
        if name not in shapes:
            raise GrowError(f"the {one.saved.kind} of the checkpoint trains {name!r}, which the plan's teacher lacks")
    if one.saved.warmup is not None:
        raise GrowError(
            "the optimizer of the checkpoint is in the warm-up of new entries; load it, train until the warm-up is "
            "over, and save it again, or grow it in memory"
        )
    check_shared(one.saved.kind, one.saved.shared)
    for name, state in one.saved.states.items():
        if unknown := one.rule.unknown(state, torch.Size(shapes[name])):
            raise GrowError(
                f"how {unknown!r} in the state that {one.saved.kind} keeps for {name!r} grows is not known, or it has "
                "another shape than the parameter"
            )


class GrownOptimizers:
    """Optimizers for the student of a chain of plans.

    Attributes:
        saved: Them, with states on the meta device.
    """

    def __init__(self, held: Sequence[Held], chain: Plan, made: Mapping[str, Made]) -> None:
        """Nothing is read but shapes.

        Args:
            held: Those of the teacher.
            chain: The plans.
            made: What the student's checkpoint holds.
        """
        self._held, self._chain = held, chain
        order = parameter_order(chain, made)
        self._parameters = {name: torch.empty(made[name].info.shape, device="meta") for name in order}
        self._infos = {name: one.info for name, one in made.items()}
        groups = _groups(held, chain, self._parameters)
        self.saved = [
            replace(one.saved, groups=groups[number], states=self._on_meta(one, groups[number]))
            for number, one in enumerate(held)
        ]

    def _on_meta(self, one: Held, groups: Groups) -> dict[str, State]:
        states: dict[str, State] = {}
        for name, state in one.saved.states.items():
            states.update(self._grown(one, name, {key: _to_meta(value) for key, value in state.items()}))
        infos = _infos_of_states(self._chain, one.saved.states)
        laid = {name: _laid_on_meta(infos.get(name, info), info) for name, info in self._infos.items()}
        for name, state in states.items():
            states[name] = {key: laid_as(v, laid[name]) if isinstance(v, Tensor) else v for key, v in state.items()}
        old = {self._chain.student_name(one.name) for one in self._chain.stored}
        for name in _without_momentum(groups, states):
            if name not in old:  # its data are the zeros that a file begins with
                states.setdefault(name, {})["momentum_buffer"] = laid[name]
        return states

    def _grown(self, one: Held, name: str, state: State) -> dict[str, State]:
        """The states that follow from that of one parameter of the teacher: its own, and those of its clones."""
        states: Mapping[str, State] = {name: state}
        for plan in self._chain.steps:
            states = grown_by(plan, states, one.rule)
        return {name: state for name, state in states.items() if name in self._parameters}

    def data(self) -> Iterator[tuple[Tensor, int, Tensor]]:
        """Each tensor of a state on meta, with its data: from which entry on, and these; one part after another."""
        total = sum(t.nbytes for one in self._held for state in one.saved.states.values() for t in _tensors(state))
        with torch.no_grad(), step("optimizer", total):
            for one, there in zip(self._held, self.saved, strict=True):
                for name, state in one.saved.states.items():
                    large = self._large(one, name, state)
                    if large is not None:
                        yield from self._by_parts(large, one.rule, state, there.states[self._chain.student_name(name)])
                    for new, grown in self._grown(one, name, state).items() if large is None else ():
                        for meta, tensor in zip(_tensors(there.states[new]), _tensors(grown), strict=True):
                            yield meta, 0, tensor
                    advance(sum(t.nbytes for t in _tensors(state)))

    def _large(self, one: Held, name: str, state: State) -> TensorPlan | None:
        """What the plan says of a large parameter, if its state follows from that alone; else None."""
        plan, whole = self._chain, one.rule.factored is None and not any(t.is_complex() for t in _tensors(state))
        planned = next((planned for planned in plan.tensors if planned.name == name), None)
        if plan.next is not None or planned is None or not whole:
            return None
        changed = any(
            name.startswith(f"{change.follows}.") or name in [f"{path}.weight" for path in change.kernels]
            for change in plan.changes
        )
        return planned if not changed and max(t.numel() for t in _tensors(state)) > PART else None

    def _by_parts(
        self, planned: TensorPlan, rule: Rule, state: State, there: State
    ) -> Iterator[tuple[Tensor, int, Tensor]]:
        filling = MomentFilling(self._chain)
        for key, tensor in state.items():
            if isinstance(tensor, Tensor):
                moment, meta = rule.moments.get(key), there[key]
                parts = iter([(0, tensor)]) if moment is None else filling.parts(planned, tensor, moment, PART)
                for first, part in parts:
                    yield meta, first * meta[:1].numel() if meta.ndim else 0, part


class Beside:
    """The tensors that a student's file holds beside its weights.

    Attributes:
        infos: The tensors by their names in the file.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], optimizers: GrownOptimizers, read: Callable[[Tensor], Tensor]
    ) -> None:
        """Nothing is read yet.

        Args:
            tensors: By name: those of the grown states on meta, others as the teacher's file has them.
            optimizers: What makes the states.
            read: Gives the data of one of the others.
        """
        self._tensors, self._optimizers, self._read = tensors, optimizers, read
        self.names = {id(tensor): name for name, tensor in tensors.items()}
        self.infos = infos_of(tensors)

    def data(self) -> Iterator[tuple[str, int, Tensor]]:
        """The tensors by name, part by part: from which entry on, and these."""
        yield from ((name, 0, self._read(tensor)) for name, tensor in self._tensors.items() if not tensor.is_meta)
        yield from ((self.names[id(meta)], start, part) for meta, start, part in self._optimizers.data())


def _infos_of_states(chain: Plan, states: Mapping[str, State]) -> dict[str, Info]:
    """What tensors of the shapes of the student's parameters are in its states, by those of the teacher's."""
    infos = infos_of_teacher(chain)
    alike = {
        name: [t for t in _tensors(state) if t.shape == infos[name].shape]
        for name, state in states.items()
        if name in infos
    }
    dtypes = {t.dtype for tensors in alike.values() for t in tensors if t.is_floating_point()}
    for name, info in infos.items():  # one without a state is as the others
        if len(dtypes) == 1 and info.dtype.is_floating_point:
            infos[name] = replace(info, dtype=next(iter(dtypes)))
    for name, tensors in alike.items():
        order = next(filter(None, map(order_of, tensors)), ())
        infos[name] = replace(infos[name], order=order, dtype=tensors[0].dtype if tensors else infos[name].dtype)
    for plan in chain.steps:
        infos = {name: one.info for name, one in outline(plan, infos).items()}
    return infos


def _laid_on_meta(state: Info, weight: Info) -> Tensor:
    """A tensor of a state, in memory as the states of its teacher say, or else as the weight of the student lies."""
    strides = strides_in(state.order or weight.order, weight.shape)
    return torch.empty_strided(weight.shape, strides, dtype=state.dtype, device="meta")


def _without_momentum(groups: Groups, states: Mapping[str, State]) -> list[str]:
    """The parameters for which torch's fused SGD lacks a momentum: it takes a step with all or with none."""
    return [
        name
        for names, options in groups
        if options.get("fused") and any(states.get(n, {}).get("momentum_buffer") is not None for n in names)
        for name in names
        if "momentum_buffer" not in states.get(name, {})
    ]


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _tensors(state: State) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, Tensor)]


def _groups(
    held: Sequence[Held], chain: Plan, parameters: Mapping[str, Tensor]
) -> list[list[tuple[list[str], dict[str, Any]]]]:
    """The names of the student's parameters in each group of each optimizer, new ones among them, in order."""
    groups = [
        [([chain.student_name(name) for name in names], dict(options)) for names, options in one.saved.groups]
        for one in held
    ]
    trained = {
        name: (number, position)
        for number, one in enumerate(groups)
        for position, (names, _) in enumerate(one)
        for name in names
    }
    order = {name: place for place, name in enumerate(parameters)}
    for name, (number, position) in groups_of_new(
        trained, parameters, chain, lambda number, p: held[number].rule.takes(p)
    ).items():
        put_in_order(groups[number][position][0], name, lambda other: order.get(other, len(order)))
    return groups
