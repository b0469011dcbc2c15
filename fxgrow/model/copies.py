"""Copies of module trees that share, replace or own their tensors, also on the meta device."""

from __future__ import annotations

import copy
import copyreg
import functools
import operator
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import FunctionType, MethodType, NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..base.wording import dtype_name
from ..errors import TraceError, in_words
from .rebinding import WEAK, rebound, rebound_weakly
from .walk import Paths, marks_of, modules, named_modules
from .wrapped_class import own_attributes, own_class

DEVICE = "_fxgrow_device"  # attribute of a module tree on meta: the device of the model that it stands for


def named_tensors(model: nn.Module, paths: Paths | None = None) -> dict[str, Tensor]:
    """Parameters, then buffers, by name; a tied one under its first name.

    Args:
        model: The model.
        paths: Its modules, where they are known.
    """
    parameters: dict[int, tuple[str, Tensor]] = {}
    buffers: dict[int, tuple[str, Tensor]] = {}
    for path, module in paths or named_modules(model):
        for table, found in ((module._parameters, parameters), (module._buffers, buffers)):
            for key, tensor in table.items() if table else ():
                if tensor is not None and id(tensor) not in found:
                    found[id(tensor)] = (f"{path}.{key}" if path else key, tensor)
    return dict([*parameters.values(), *buffers.values()])


class Inventory(NamedTuple):
    """What a tree consists of at a moment: its modules, and its parameters and buffers by name."""

    paths: Paths
    tensors: dict[str, Tensor]


def inventory(model: nn.Module) -> Inventory:
    """The modules and tensors of a tree as it is now, found in one walk."""
    paths = list(named_modules(model))
    return Inventory(paths, named_tensors(model, paths))


def stored(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...], str, str, bool]]:
    """What torch puts into a `state_dict`: name, shape, dtype, first name of a tied tensor or "", whether a buffer.

    The dtype is "" for floating point: what is planned does not depend on which.
    """
    first: dict[int, str] = {}
    for path, module in named_modules(model, duplicates=True):
        kept = [
            (key, tensor) for key, tensor in module._buffers.items() if key not in module._non_persistent_buffers_set
        ]
        for table, buffer in ((module._parameters.items(), False), (kept, True)):
            for key, tensor in table:
                if tensor is not None:
                    name = f"{path}.{key}" if path else key
                    original = first.setdefault(id(tensor), name)
                    dtype = "" if tensor.is_floating_point() else dtype_name(tensor.dtype)
                    yield name, tuple(tensor.shape), dtype, "" if original == name else original, buffer


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name; a tied one under its first name."""
    return {name: tensor for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of parameters and buffers, by name."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}


def plain_tensors(paths: Paths) -> Iterator[Tensor]:
    """The tensors that are plain attributes of modules, neither parameters nor buffers."""
    for _, module in paths:
        yield from [v for v in vars(module).values() if type(v) not in COMMON and isinstance(v, Tensor)]


def clone_shared(
    model: nn.Module, replace: Mapping[int, Any] | None = None, known: Inventory | None = None
) -> nn.Module:
    """A deep copy that shares parameters and buffers with the model, or has `replace[id(tensor)]` in place of one.

    What users put on a tensor is copied, too. One whose marks may change, or refer to what is copied, is another object
    in the copy, with the same memory.

    Args:
        model: The model.
        replace: By the `id` of a tensor: what the copy has instead.
        known: What the model consists of, where that is known.

    Raises:
        TraceError: An attribute of the model cannot be copied, or its own code for copying makes another model.
    """
    paths, tensors = known or inventory(model)
    plain = list(plain_tensors(paths))
    marked = [t for t in (*plain, *tensors.values()) if _is_marked(t)]
    memo: dict[int, Any] = {id(t): _cloned(t) for t in plain}
    memo.update({id(t): t for t in tensors.values()})
    memo.update({id(t): _in_place_of(t, t.detach()) for t in marked if id(t) in memo and memo[id(t)] is t})
    memo.update(replace or {})
    try:
        by_torch = _copy_modules([module for _, module in paths], memo)
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise TraceError(f"{type(model).__name__} cannot be copied: {in_words(error)}") from error
    if not by_torch:
        _check_copy(model, copied, memo)
    for tensor in marked:
        made = memo[id(tensor)]
        if made is not tensor and isinstance(made, Tensor):
            vars(made).update({name: _where_possible(value, memo) for name, value in vars(tensor).items()})
    return copied


def _is_marked(tensor: Tensor) -> bool:
    """Whether users put something on a tensor that is not copied by keeping it."""
    return not _are_plain(marks_of(tensor).values())


def _check_copy(model: nn.Module, copied: Any, memo: Mapping[int, Any]) -> None:
    """Whether what the user's code copied has the same modules, none of them the model's, and the tensors meant."""
    theirs = dict(named_modules(model))
    ours = dict(named_modules(copied)) if isinstance(copied, nn.Module) else {}
    alike = list(theirs) == list(ours) and not {id(m) for m in theirs.values()} & {id(m) for m in ours.values()}
    for path in theirs if alike else ():
        for table in ("_parameters", "_buffers"):
            old, new = getattr(theirs[path], table), getattr(ours[path], table)
            alike &= list(old) == list(new) and all(new[n] is (t if t is None else memo[id(t)]) for n, t in old.items())
    if not alike:
        raise TraceError(f"{type(model).__name__} cannot be copied: its own code for deepcopy makes another model")


def _copy_modules(tree: Iterable[nn.Module], memo: dict[int, Any]) -> bool:
    """Copy modules as deepcopy does, but faster: immutable attributes and empty tables are not inspected.

    Returns:
        Whether no module has code of its own for copying.
    """
    fresh = [module for module in tree if id(module) not in memo]
    kinds = {kind: own_class(kind) for kind in {type(module) for module in fresh}}
    plain = {kind: own for kind, own in kinds.items() if _copied_plainly(own)}
    copies = [(module, object.__new__(plain[type(module)])) for module in fresh if type(module) in plain]
    memo.update({id(module): twin for module, twin in copies})
    for module, twin in reversed(copies):  # children first
        state = {}
        attributes = own_attributes(module)
        if attributes is not module.__dict__:
            memo.setdefault(id(memo), []).append(attributes)  # as deepcopy keeps what the memo names by `id`
        for name, value in attributes.items():
            kind = type(value)
            if kind in _IMMUTABLE:
                state[name] = value if kind is not int or value < _LEAST_ID else _number(value, memo)
            elif kind in _TABLES and not value and id(value) not in memo:  # most tables of a module are empty
                state[name] = memo[id(value)] = kind()
            else:
                state[name] = _copied(value, memo)
        if type(twin).__setstate__ is nn.Module.__setstate__ and state.keys() >= _IN_MODULES:
            twin.__dict__ = state
        else:
            twin.__setstate__(state)
    return len(copies) == len(fresh)


def _copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a module's class has no code of its own for copying."""
    if kind in copyreg.dispatch_table or any("__slots__" in vars(base) for base in kind.__mro__):
        return False
    hooks = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__new__")
    return all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in hooks)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind is int:
        return _number(value, memo)
    if kind in _IMMUTABLE or (kind is tuple and not value):
        return value
    twin = memo.get(id(value), memo)
    if twin is not memo:
        return twin
    if kind in _TABLES and len(value) >= _MANY and _are_plain(value) and (kind in _LISTS or _are_plain(value.values())):
        twin = memo[id(value)] = value.copy()
    elif kind is dict or kind is OrderedDict:
        twin = memo[id(value)] = kind()
        if value:
            for key, entry in value.items():
                known = memo.get(id(entry))  # most are parameters, buffers and modules
                twin[_copied(key, memo)] = _copied(entry, memo) if known is None else known
    elif kind is list:
        twin = memo[id(value)] = []
        twin.extend([_copied(v, memo) for v in value])
    elif kind is set or kind is frozenset:
        twin = memo[id(value)] = kind([_copied(v, memo) for v in value])
    elif kind is tuple:
        twin = tuple([_copied(v, memo) for v in value])
        twin = memo[id(value)] = value if all(map(operator.is_, twin, value)) else twin
    elif isinstance(value, Tensor) and not value.is_leaf:  # deepcopy refuses what has a history
        twin = memo[id(value)] = _cloned(value)
    elif kind is FunctionType:
        twin = rebound(value, memo, _where_possible)
    elif kind in WEAK:
        twin = memo[id(value)] = rebound_weakly(value, memo)
    elif kind is functools.partial:
        twin = memo[id(value)] = functools.partial(
            _copied(value.func, memo), *_copied(value.args, memo), **_copied(value.keywords, memo)
        )
    elif _is_plain_object(value):
        twin = memo[id(value)] = object.__new__(kind)
        twin.__dict__.update({key: _copied(entry, memo) for key, entry in vars(value).items()})
    else:
        if isinstance(value, nn.Module):  # one that is held, but not registered
            _copy_modules(modules(value), memo)
        twin = copy.deepcopy(value, memo)
    return twin


def _where_possible(value: Any, memo: dict[int, Any]) -> Any:
    """A copy in which what cannot be copied, such as a lock, is the same object."""
    before = len(memo)
    try:
        return _copied(value, memo)
    except Exception:  # noqa: BLE001 - whatever code of the user's for copying raises
        for key in [*memo][before:]:  # twins that are not complete
            if key != id(memo):
                del memo[key]
    twin: Any
    kind = type(value)
    if kind is dict or kind is OrderedDict:
        twin = memo[id(value)] = kind()
        twin.update([(_where_possible(key, memo), _where_possible(entry, memo)) for key, entry in value.items()])
    elif kind is list:
        twin = memo[id(value)] = []
        twin.extend([_where_possible(entry, memo) for entry in value])
    elif kind in (tuple, set, frozenset):
        twin = memo[id(value)] = kind([_where_possible(entry, memo) for entry in value])
    elif kind is MethodType:
        twin = memo[id(value)] = MethodType(value.__func__, _where_possible(value.__self__, memo))
    elif _is_plain_object(value):
        twin = memo[id(value)] = object.__new__(kind)
        twin.__dict__.update({key: _where_possible(entry, memo) for key, entry in vars(value).items()})
    else:
        twin = memo[id(value)] = value
    return twin


def _are_plain(values: Collection[Any]) -> bool:
    """Whether a copy of each value is the value itself, so that no vocabulary is copied word by word."""
    kinds = set(map(type, values))
    if not kinds <= _IMMUTABLE:
        return False
    numbers = values if kinds == {int} else [value for value in values if type(value) is int] if int in kinds else ()
    return max(numbers, default=0) < _LEAST_ID  # larger ones may be the `id` of a module


def _is_plain_object(value: Any) -> bool:
    """Whether an object of a class of the user's is copied by copying its attributes."""
    kind = type(value)
    if kind.__module__.partition(".")[0] in ("torch", "builtins") or not hasattr(value, "__dict__"):
        return False
    own = {name for base in kind.__mro__ if base is not object for name in vars(base)}
    return kind.__base__ is object and own.isdisjoint(_COPYING)


_COPYING = (
    "__copy__", "__deepcopy__", "__getattr__", "__getattribute__", "__getnewargs__", "__getnewargs_ex__",
    "__getstate__", "__new__", "__reduce__", "__reduce_ex__", "__setstate__", "__slots__",
)  # fmt: skip
_MANY = 32  # entries of a container from which it is cheaper to look at all types first
_LEAST_ID = 1 << 20  # no object of Python is at a lower address


def _number(value: int, memo: dict[int, Any]) -> int:
    """A number; where it is the `id` of a module or tensor that is copied, the `id` of the copy."""
    twin = memo.get(value) if value >= _LEAST_ID else None
    return id(twin) if isinstance(twin, nn.Module | Tensor) else value


_HOOKS = [name for name in vars(nn.Module()) if re.fullmatch(r"_(forward|backward)(_pre)?_hooks(_\w+)?", name)]
_IN_MODULES = vars(nn.Module()).keys()  # attributes that __setstate__ would add to a state of an older torch
_IMMUTABLE = {NoneType, bool, int, float, complex, str, bytes, torch.dtype, torch.Size, torch.device}
_LISTS = {set, list}
_TABLES = {dict, OrderedDict, *_LISTS}
COMMON = _IMMUTABLE | _TABLES | {tuple}  # the types of most attributes of modules


def on_meta(model: nn.Module, known: Inventory | None = None) -> nn.Module:
    """A deep copy with all parameters and buffers on the meta device, which knows the device of the model."""
    known = known or inventory(model)
    tensors = known.tensors.values()
    copied = clone_shared(model, {id(tensor): _meta_like(tensor) for tensor in tensors}, known)
    copied.__dict__.setdefault(DEVICE, next((tensor.device for tensor in tensors), None))
    return copied


def _meta_like(tensor: Tensor) -> Tensor:
    return _in_place_of(tensor, tensor.detach() if tensor.device.type == "meta" else tensor.detach().to("meta"))


def clone_owned(model: nn.Module, shared: Mapping[int, Any] | None = None, known: Inventory | None = None) -> nn.Module:
    """A deep copy that shares no memory with the model, but what is in `shared` by `id`."""
    known = known or inventory(model)
    return clone_shared(model, {id(t): _copy_of(t) for t in known.tensors.values()} | dict(shared or {}), known)


def without_hooks(module: nn.Module) -> nn.Module:
    """The same module, with the same children and tensors, but no hooks of its own."""
    hooked = {name: type(hooks)() for name in _HOOKS if (hooks := vars(module).get(name))}
    if not hooked:
        return module
    alone = object.__new__(type(module))
    alone.__dict__.update(vars(module) | hooked)
    return alone


def clone_to_run(model: nn.Module, *, real: bool, known: Inventory | None = None) -> nn.Module:
    """A deep copy that a run may write to: with tensors of its own if they are real, as meta tensors hold nothing."""
    return clone_owned(model, known=known) if real else clone_shared(model, known=known)


def _cloned(tensor: Tensor) -> Tensor:
    """A copy with the same strides, which decide in what order torch adds numbers up."""
    data = tensor.detach()
    if data.layout is not torch.strided or data.is_contiguous() or 0 in data.stride() or data.is_conj():
        made = data.clone()
    else:
        made = torch.empty_strided(data.shape, data.stride(), dtype=data.dtype, device=data.device).copy_(data)
    vars(made).update(marks_of(tensor))
    return made


def _copy_of(tensor: Tensor) -> Tensor:
    return _in_place_of(tensor, tensor.detach().clone())


def _in_place_of(tensor: Tensor, data: Tensor) -> Tensor:
    made = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
    made.__dict__.update(tensor.__dict__)  # attributes that users put on it
    return made
