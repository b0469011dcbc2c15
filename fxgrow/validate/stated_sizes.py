"""Sizes that a model's code states and that its forward does not read: configs, and attributes of the user's modules.

Nothing in a run tells what such a number is the size of. So it follows where that can be told:

- A config that the class is made from (transformers: `type(model)(config)`) is right if the class makes the student's
  shapes from it. Values are tried until it does.
- Elsewhere a number with a name of a size follows if all dimensions of that size, in the module and below
  it, grow alike.

What may be meant and cannot be told is named in the plan's notes.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..capture.ladder import trace_model
from ..capture.traced import Traced
from ..errors import FxgrowError
from ..infer.width_graph import WidthGraph
from ..layouts.layout import atoms
from ..model.copies import DEVICE, clone_shared, named_tensors, shapes_of
from ..model.held import place_of
from ..model.layer_kinds import is_layer_class
from ..model.tree import module_at
from ..model.walk import named_modules
from ..plans.entries import StatedSize
from ..plans.growth_plan import Plan

SIZE = re.compile(
    r"(.*_)?(sizes?|dims?|channels?|features|widths?|planes|heads|hidden|units|embed|inner|d_model|d_kv|d_ff|n_embd)"
    r"(_.*)?|n_(state|mels|inner)|[dn]_\w+"
)
HEADS = re.compile(r"(.*_)?(n_)?heads?")
CONFIG = "config"
MOST_TRIED = 64  # configs that a class is asked to make a model from
SHOWN = 8  # names in the note

COUNT = re.compile(
    r"(.*_)?(layers?|blocks?|depths?|vocab|position|positions|types?|labels?|classes|buckets|token_id)(_.*)?"
)

Shapes = Mapping[str, tuple[int, ...]]
Ratios = Sequence[tuple[int, int]]  # (old, new) of grown widths


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that is stated somewhere, and what it may become.

    Attributes:
        module: The first module that holds it.
        name: The attribute, or the way there.
        old: The number.
        new: The sizes that dimensions of this size have in the student: its own, if some stay.
    """

    module: str
    name: str
    old: int
    new: tuple[int, ...]

    def is_root(self, name: str) -> bool:
        """Whether it stands in the config of the model itself, under a name."""
        return not self.module and self.name == f"{CONFIG}.{name}"

    def became(self, size: int) -> StatedSize:
        return StatedSize(self.module, self.name, self.old, size)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}".lstrip(".") + f" ({self.old})"


def stated_sizes(
    widths: WidthGraph, plan: Plan, student: Callable[[], nn.Module]
) -> tuple[tuple[StatedSize, ...], tuple[str, ...]]:
    """The sizes that follow a plan, and those that may be meant and stay.

    Args:
        widths: Of the teacher, on meta.
        plan: That passed the check; its student is a module of the teacher's class.
        student: Makes the student of the plan, on meta; it is needed where the class makes models from a config.
    """
    teacher = module_at(widths.traced.root, "")
    sizes = _Sizes(teacher, plan)
    known = {(resize.module, resize.name) for resize in plan.resizes}
    numbers = [number for number in _numbers(teacher, sizes) if (number.module, number.name) not in known]
    of_config = [number for number in numbers if number.name.split(".")[0] == CONFIG]
    ratios = sorted({(width.old, width.new) for width in plan.grown_widths})
    from_config = _is_made_from_config(teacher)
    proved = _proved(teacher, student(), of_config, ratios, widths.traced) if from_config else None
    stated, stale = list(proved or ()), []
    for number in numbers if proved is None else [n for n in numbers if n not in of_config]:
        if not _is_size(number.name):
            continue
        if len(number.new) == 1:
            stated.append(number.became(number.new[0]))
        else:
            stale.append(str(number))
    if from_config and proved is None:
        stale += _heads(teacher, {number.name for number in numbers})
    return tuple(stated), tuple(stale)


def _heads(teacher: nn.Module, known: Container[str]) -> list[str]:
    """The numbers of heads in a config that no tensor has as a size: another number may make the same shapes."""
    numbers = _in_config(vars(vars(teacher)[CONFIG]))
    named = [(f"{CONFIG}.{name}", value) for name, value in numbers if HEADS.fullmatch(name.rpartition(".")[2])]
    return [f"{name} ({value})" for name, value in named if name not in known]


def _is_size(name: str) -> bool:
    """Whether a name is one of a size, and not of a number of layers, words or positions."""
    steps = [step for step in name.split(".") if not step.isdecimal()]
    return bool(SIZE.fullmatch(steps[-1])) and not COUNT.fullmatch(steps[-1])


class _Sizes:
    """What becomes of the sizes of a model's tensors, and of the widths in them."""

    def __init__(self, teacher: nn.Module, plan: Plan) -> None:
        self._changes: list[tuple[str, int, int]] = []  # (tensor, size before, size after)
        planned = {tensor.name: tensor for tensor in plan.tensors}
        for name, tensor in named_tensors(teacher).items():
            if name not in planned:
                self._changes += [(name, size, size) for size in tensor.shape]
                continue
            for layout in planned[name].layouts:
                self._changes.append((name, plan.old_size(layout), plan.new_size(layout)))
                groups = [plan.width(str(atom)) for atom in atoms(layout)]
                self._changes += [(name, width.old, width.new) for width in groups if width.new > width.old]

    def of(self, size: int, paths: Sequence[str]) -> tuple[int, ...]:
        """What a size becomes in the tensors of some modules; () where none grows."""
        new = {
            after
            for name, before, after in self._changes
            if before == size and any(not path or name.startswith(f"{path}.") for path in paths)
        }
        return tuple(sorted(new)) if new - {size} else ()


def _numbers(teacher: nn.Module, sizes: _Sizes) -> Iterator[_Number]:
    """The numbers in modules of the user's own and in their configs that some grown width has as its size."""
    configs: dict[int, tuple[str, Any, list[str]]] = {}
    for path, module in named_modules(teacher):
        config = vars(module).get(CONFIG)
        if hasattr(config, "__dict__") and not isinstance(config, type):
            configs.setdefault(id(config), (path, config, []))[2].append(path)
        if not is_layer_class(type(module)):
            for name, value in vars(module).items():
                if type(value) is int and value > 0 and (new := sizes.of(value, [path])):
                    yield _Number(path, name, value, new)
    for path, config, paths in configs.values():
        for name, value in _in_config(vars(config)):
            if new := sizes.of(value, paths):
                yield _Number(path, f"{CONFIG}.{name}", value, new)


def _in_config(table: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, int]]:
    """The numbers in a config, in its lists and in configs inside it, with the ways there."""
    for name, value in table.items():
        if name.startswith("_"):
            continue
        if type(value) is int and value > 0:
            yield name, value
        elif isinstance(value, list):
            yield from ((f"{name}.{i}", entry) for i, entry in enumerate(value) if type(entry) is int and entry > 0)
        elif depth and not isinstance(value, type | nn.Module) and not callable(value) and hasattr(value, "__dict__"):
            yield from ((f"{name}.{inner}", entry) for inner, entry in _in_config(vars(value), depth - 1))


# -- a class that makes models from its config ---------------------------------------------------------


def _is_made_from_config(model: nn.Module) -> bool:
    config = vars(model).get(CONFIG)
    kind = getattr(type(model), "config_class", None)
    return config is not None and isinstance(kind, type) and isinstance(config, kind)


def _proved(
    teacher: nn.Module, student: nn.Module, numbers: Sequence[_Number], ratios: Ratios, traced: Traced
) -> list[StatedSize] | None:
    """The numbers of a config from which the class makes the student; None where none does.

    Other configs of the teacher that say the same (those of an encoder and a decoder) follow that of the root.
    """
    old = dict(_in_config(vars(vars(teacher)[CONFIG])))
    direct = {
        name: [new for n in numbers if n.is_root(name) for new in n.new if new != size] for name, size in old.items()
    }
    scaled = {
        name: [size * new // before for before, new in ratios if size * new % before == 0] if _is_size(name) else []
        for name, size in old.items()
    }
    choices = {name: tuple(dict.fromkeys((*direct[name], *scaled[name], size))) for name, size in old.items()}
    choices = {name: values for name, values in choices.items() if len(values) > 1}
    shapes = shapes_of(student)
    right = functools.cache(lambda values: _right(teacher, dict(values), shapes))  # the second climb meets many again
    for found in (direct, {name: direct[name] + scaled[name] for name in old}):
        start = {name: found[name][0] if found[name] and _is_size(name) else old[name] for name in choices}
        chosen = _climbed(start, choices, lambda values: right(tuple(values.items())), len(shapes))
        if chosen is not None and _same(_cast(_made(teacher, chosen), student), student, traced):
            said = {(f"{CONFIG}.{name}", old[name]): size for name, size in chosen.items() if size != old[name]}
            others = [number for number in numbers if number.module and (number.name, number.old) in said]
            roots = [StatedSize("", name, before, size) for (name, before), size in said.items()]
            return roots + [number.became(said[number.name, number.old]) for number in others]
    return None


def _climbed(
    start: Mapping[str, int],
    choices: Mapping[str, Sequence[int]],
    right_of: Callable[[Mapping[str, int]], int],
    whole: int,
) -> dict[str, int] | None:
    """Values that give the student's shapes, found by changing one after another as long as that makes more right."""
    best, right, improved, tried = dict(start), right_of(start), True, 1
    while right < whole and improved:
        improved = False
        for name, size in [(name, size) for name, values in choices.items() for size in values]:
            if size != best[name] and right < whole and tried < MOST_TRIED:
                other, tried = {**best, name: size}, tried + 1
                if (better := right_of(other)) > right:
                    best, right, improved = other, better, True
    return best if right == whole else None


def _same(made: nn.Module | None, student: nn.Module, traced: Traced) -> bool:
    """Whether two models on meta make the same calls: heads times their size can be the same in several ways."""
    if made is None:
        return False
    device = vars(traced.root).get(DEVICE)
    prints = []
    for model in (made, student):
        model = clone_shared(model)
        vars(model)[DEVICE] = device  # what both answer when their code asks
        try:
            prints.append(trace_model(model, traced.inputs, output="module").fingerprint())
        except FxgrowError:
            return False
    return prints[0] == prints[1]


def _right(teacher: nn.Module, values: Mapping[str, int], shapes: Shapes) -> int:
    """How many tensors of the student have their shapes in a model that the class makes from its config, changed."""
    made = _made(teacher, values)
    tensors = {} if made is None else named_tensors(made)
    if tensors.keys() != shapes.keys():
        return -1
    return sum(tuple(tensor.shape) == shapes[name] for name, tensor in tensors.items())


def _made(teacher: nn.Module, values: Mapping[str, int]) -> nn.Module | None:
    """What the teacher's class makes, on meta, from its config with some values changed; None where it refuses."""
    try:
        config: Any = copy.deepcopy(vars(teacher)[CONFIG])
        for name, value in values.items():
            held, key = place_of(vars(config), name)
            held[key] = value
        with torch.device("meta"):
            made: nn.Module = type(teacher)(config)
    except Exception:  # noqa: BLE001 - code of the user's own
        return None
    made.train(teacher.training)
    return made


def _cast(made: nn.Module | None, student: nn.Module) -> nn.Module | None:
    """A model in the dtypes of the student, since a class makes float32 and a teacher may have been cast since."""
    theirs = named_tensors(student)
    for name, tensor in named_tensors(made).items() if made is not None else ():
        if tensor.dtype != theirs[name].dtype:
            tensor.data = tensor.data.to(theirs[name].dtype)
    return made


def with_stated_sizes(plan: Plan, stated: tuple[StatedSize, ...], stale: Sequence[str]) -> Plan:
    """The plan with what follows, and a note of what stays."""
    shown = ", ".join(stale[:SHOWN]) + (", ..." if len(stale) > SHOWN else "")
    note = f"these may state sizes that have grown, and stay as they are (resize= can set them): {shown}"
    return replace(plan, stated=stated, notes=(*plan.notes, *[note] * bool(stale)))
