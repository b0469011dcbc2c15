"""State dicts of torch's optimizers in a file of `torch.save`: `{"state": {0: ...}, "param_groups": [...]}`.

They number parameters. Names follow from the groups where the optimizer was made of named parameters (torch 2.6), from
the caller, or from the order of the model's parameters where one group has all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..base.torch_private import pytree
from ..errors import GrowError
from ..plans.growth_plan import Plan
from ..state.contents import OPTIMIZER, SavedOptimizer
from ..state.rules import may_be_a_tag, rule_like
from .optimizers import Beside, GrownOptimizers, Held, check_held
from .outline import Made

Path = tuple[str | int, ...]  # where a state dict is in what the file holds; () for the whole
Names = Sequence[Sequence[str]]  # of the parameters in each group


def is_optimizer(entry: Any) -> bool:
    """Whether something is the `state_dict()` of an optimizer of torch."""
    return isinstance(entry, Mapping) and {"state", "param_groups"} <= entry.keys()


def find(whole: Any) -> dict[Path, Mapping[str, Any]]:
    """The state dicts of optimizers: the whole, or what a key of it holds, one or a list of them."""
    if is_optimizer(whole):
        return {(): whole}
    found: dict[Path, Mapping[str, Any]] = {}
    for key, entry in whole.items() if isinstance(whole, Mapping) else ():
        if is_optimizer(entry):
            found[key,] = entry
        elif isinstance(entry, list) and entry and all(map(is_optimizer, entry)):
            found.update({(key, number): one for number, one in enumerate(entry)})
    return found


class TorchOptimizers:
    """The optimizers in a file, for a plan's teacher."""

    def __init__(self, found: Mapping[Path, Mapping[str, Any]], read: Callable[[Tensor], Tensor]) -> None:
        """Nothing is read yet.

        Args:
            found: The state dicts, with fake tensors.
            read: Gives the data of a fake tensor, where they lie in the file.
        """
        self._found, self._read = found, read

    def grown(self, chain: Plan, made: Mapping[str, Made], names: Names | None, prefix: str) -> TorchBeside:
        """The same for the student.

        Args:
            chain: The plans.
            made: What the student's checkpoint holds.
            names: Those of the parameters in each group, where the file does not say.
            prefix: What a wrapper puts before each name.

        Raises:
            GrowError: They are not the teacher's, or which parameters they train is not known.
        """
        parameters = [one.name for one in chain.stored if not one.buffer and not one.same_as]
        shapes = {one.name: one.shape for one in chain.stored}
        held = []
        for state_dict in self._found.values():
            groups = state_dict["param_groups"]
            named = _names(groups, parameters, names, prefix)
            states = {
                named[number]: {key: self._data(value) for key, value in state.items()}
                for number, state in state_dict["state"].items()
                if number in named
            }
            options = {key for group in groups for key in group} - {"params", "param_names"} - may_be_a_tag(groups)
            saved = SavedOptimizer(
                "optimizer",
                [([named[n] for n in group["params"]], _options(group)) for group in groups],
                states,
                shared={key: value for key, value in state_dict["state"].items() if key not in named},
            )
            held.append(Held(saved, rule_like(options, list(states.values())).for_groups(groups)))
            check_held(held[-1], shapes)
        return TorchBeside(self._found, GrownOptimizers(held, chain, made), self._read, prefix)

    def _data(self, value: Any) -> Any:
        return self._read(value) if isinstance(value, Tensor) else value


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _names(
    groups: Sequence[Mapping[str, Any]], parameters: Sequence[str], given: Names | None, prefix: str
) -> dict[int, str]:
    """The names of the parameters by their numbers."""
    numbers = [list(group["params"]) for group in groups]
    if given is None and all("param_names" in group for group in groups):
        given = [[str(name).removeprefix(prefix) for name in group["param_names"]] for group in groups]
    if given is None and len(groups) == 1 and len(numbers[0]) == len(parameters):
        given = [parameters]
    if given is None:
        raise GrowError(
            f"the optimizer of the checkpoint numbers its parameters ({' and '.join(str(len(n)) for n in numbers)} in "
            f"{len(groups)} group(s)), and the plan's teacher has {len(parameters)}: say which they are by "
            "groups=[[names], ...], or make the optimizer of model.named_parameters(), which keeps the names"
        )
    if [len(names) for names in given] != [len(n) for n in numbers]:
        raise GrowError(
            f"groups= names {[len(names) for names in given]} parameters, and the optimizer of the checkpoint has "
            f"groups of {[len(n) for n in numbers]}"
        )
    return dict(zip([n for group in numbers for n in group], [n for names in given for n in names], strict=True))


class TorchBeside(Beside):
    """The optimizers of a student's file, whose tensors have names of no meaning."""

    def __init__(
        self,
        found: Mapping[Path, Mapping[str, Any]],
        optimizers: GrownOptimizers,
        read: Callable[[Tensor], Tensor],
        prefix: str,
    ) -> None:
        self._dicts = {
            at: {**state_dict, **_numbered(saved, state_dict["param_groups"], prefix)}
            for (at, state_dict), saved in zip(found.items(), optimizers.saved, strict=True)
        }
        leaves = [leaf for leaf in pytree.tree_leaves(self._dicts) if isinstance(leaf, Tensor)]
        once = {id(leaf): leaf for leaf in leaves}  # a rate of two groups may be one tensor
        super().__init__({f"{OPTIMIZER}{n}": leaf for n, leaf in enumerate(once.values())}, optimizers, read)

    def placed(self, whole: Any, tensors: Mapping[str, Tensor]) -> Any:
        """What the file holds, with these optimizers and these tensors in them."""

        def replaced(leaf: Any) -> Any:
            return tensors[self.names[id(leaf)]] if id(leaf) in self.names else leaf

        for at, state_dict in self._dicts.items():
            whole = _put(whole, at, pytree.tree_map(replaced, state_dict))
        return whole


def _numbered(saved: SavedOptimizer, before: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, Any]:
    """A state dict of torch, whose groups have what else they had."""
    numbers: dict[str, int] = {}
    groups = []
    for (names, options), old in zip(saved.groups, before, strict=True):
        for name in names:
            numbers.setdefault(name, len(numbers))
        group = {**options, "params": [numbers[name] for name in names]}
        if "param_names" in old:
            group["param_names"] = [prefix + name for name in names]
        groups.append(group)
    states = {numbers[name]: state for name, state in saved.states.items() if name in numbers}
    return {"state": dict(sorted(states.items())) | saved.shared, "param_groups": groups}


def _put(whole: Any, at: Path, entry: Any) -> Any:
    if not at:
        return entry
    copy: Any = list(whole) if isinstance(whole, list) else dict(whole)
    copy[at[0]] = _put(whole[at[0]], at[1:], entry)
    return copy
