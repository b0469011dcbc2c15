"""Files of `fxgrow.save`: what they hold beside the weights, for the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ..plans.growth_plan import Plan
from ..state.contents import EXTRA, OPTIMIZER, Contents, SavedOptimizer, read, written
from ..state.files import KEY
from ..state.rules import may_be_a_tag, rule_named
from .fill_file import Source
from .optimizers import Beside, GrownOptimizers, Held, check_held
from .outline import Info, Made
from .safetensors_file import SafetensorsSource


class KeptSource:
    """The weights in a file of `fxgrow.save`, and what it holds beside them.

    Attributes:
        infos: The tensors of the model by name.
        metadata: The texts of the file, but for that of fxgrow.
    """

    def __init__(self, source: SafetensorsSource) -> None:
        """Read all but the weights.

        Raises:
            GrowError: It is no such file, or has an optimizer that is not known.
        """
        self._source = source
        beside = [name for name in source.infos if name.startswith((OPTIMIZER, EXTRA))]
        self.infos: Mapping[str, Info] = {name: info for name, info in source.infos.items() if name not in beside}
        self.metadata: Mapping[str, str] = {key: text for key, text in source.metadata.items() if key != KEY}
        self._contents = read({name: source.tensor(name) for name in beside}, source.metadata[KEY])
        self._held = [_held(one) for one in self._contents.optimizers]

    def tensor(self, name: str) -> Tensor:
        """A tensor, whose data are read where it is."""
        return self._source.tensor(name)

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._source.forget()

    def grown(self, chain: Plan, made: Mapping[str, Made]) -> KeptBeside:
        """What the student's file holds beside the weights.

        Raises:
            GrowError: An optimizer is not the teacher's.
        """
        shapes = {one.name: one.shape for one in chain.stored}
        for one in self._held:
            check_held(one, shapes)
        return KeptBeside(self._contents, GrownOptimizers(self._held, chain, made), chain)


def _held(saved: SavedOptimizer) -> Held:
    """An optimizer with its rule.

    Raises:
        GrowError: It is not known.
    """
    groups = [options for _, options in saved.groups]
    options = {key for group in groups for key in group} - may_be_a_tag(groups)
    return Held(saved, rule_named(saved.kind, options, list(saved.states.values())).for_groups(groups))


class KeptBeside(Beside):
    """What a file of `fxgrow.save` holds beside the student's weights.

    Attributes:
        text: What it says of them.
    """

    def __init__(self, contents: Contents, optimizers: GrownOptimizers, chain: Plan) -> None:
        tensors, self.text = written(_contents(contents, optimizers.saved, chain))
        super().__init__(tensors, optimizers, lambda tensor: tensor)


def _contents(contents: Contents, optimizers: Sequence[SavedOptimizer], chain: Plan) -> Contents:
    """What a file says, for the student: parameters, modules and clones by their new names."""
    new = [(path, origin) for path, origin in chain.new_modules.items() if origin]

    def renamed(kept: Mapping[str, object]) -> dict[str, object]:
        names = {chain.student_name(name): value for name, value in kept.items()}
        for path, origin in new:
            inside = {name: v for name, v in kept.items() if name == origin or name.startswith(f"{origin}.")}
            names.update({path + name.removeprefix(origin): value for name, value in inside.items()})
        return names

    training = {path: bool(mode) for path, mode in renamed(contents.training).items()}
    memory = {name: str(how) for name, how in renamed(contents.memory).items()}
    frozen = [chain.student_name(name) for name in contents.frozen]
    plan = chain if contents.plan is None else contents.plan.then(chain)
    return replace(contents, plan=plan, frozen=frozen, training=training, memory=memory, optimizers=list(optimizers))


def with_what_is_beside(source: Source) -> Source:
    """The source; as one of a file of `fxgrow.save`, where it is one."""
    if isinstance(source, SafetensorsSource) and KEY in source.metadata:
        return KeptSource(source)
    return source
