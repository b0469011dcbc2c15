"""Proxies that know what they stand for, so that Python can ask: how long, how wide, which branch.

Each node of a graph under construction holds the value that the example inputs give it there: a tensor on
the meta device, a shape, a number. Arithmetic on shapes stays symbolic (`h // 2` is a node); only where Python
needs a plain answer (`if`, `range`, `math`, unpacking) the value answers, and a guard is put into the graph that
refuses inputs which would have answered otherwise.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.proxy import Attribute

from ..base.structures import leaf_tensors, mapped
from ..base.torch_private import pytree
from ..base.wording import a_type, with_article
from ..errors import GrowError, TraceError
from ..model.call_args import is_same_data
from ..model.example_inputs import brief
from ..model.provenance import PACKAGES
from ..model.recorded import recorded
from ..recording.answers import PLACES, told, type_name
from .messages import is_message
from .origins import VALUE, depends_on_numbers, guards, is_counted, is_symbolic

# What does not depend on sizes: answered at once, without a node or a guard.
_ANSWERED = frozenset((
    "ndim", "is_cuda", "is_cpu", "is_meta", "is_mps", "is_xpu", "is_quantized", "is_sparse", "is_mkldnn", "is_nested",
    "layout", "names", "dim", "ndimension", "is_complex", "get_device",
))  # fmt: skip
_OF_THE_RUN = (
    "is_inference",
    "is_leaf",
    "requires_grad",
    "grad_fn",
    "grad",
    "is_contiguous",
    "register_hook",
    "retain_grad",
)
_MAPPING_METHODS: dict[str, Callable[..., Any]] = {  # a proxy per entry, under its real key
    "keys": lambda proxy: list(proxy),
    "values": lambda proxy: [proxy[key] for key in proxy],
    "items": lambda proxy: [(key, proxy[key]) for key in proxy],
    "get": lambda proxy, key, default=None: proxy[key] if key in proxy else default,  # noqa: SIM401 - this is `get`
}
_RANK = ("ndim", "dim", "ndimension")

ARGUMENTS = "arguments"  # as the place of a guard: that of their values, by name
FORMS = "forms of arguments: "  # before the names of arguments, as the place of a guard on what `form` says of each


@recorded
def guard(value: Any, expected: Any, place: str) -> None:
    """In a traced graph: stop where the inputs would have taken another path through the model's code.

    Args:
        value: What these inputs give.
        expected: What the example inputs gave.
        place: Where the model's code asked.

    Raises:
        GrowError: They differ.
    """
    if value is expected or _is_same(value, expected, place):
        return
    raise GrowError(
        "these inputs would take another path through the model's code than the example inputs that it was grown "
        f"with ({_difference(value, expected, place)}); grow it with such inputs as the example"
    )


def _is_same(value: Any, expected: Any, place: str) -> bool:
    """Whether inputs give what the example gave; a compiler cannot compare what sizes that vary answer (SymBool)."""
    if place == ARGUMENTS:
        return is_same_data(value, expected)
    if isinstance(expected, bool) and isinstance(value, (bool, torch.SymBool)):
        return expected if value else not expected
    return bool(value == expected)


def _difference(value: Any, expected: Any, place: str) -> str:
    """What is other than in the example, in words: of arguments those that differ, by their names."""
    shown: Callable[[Any], str] = brief
    if place.startswith(FORMS) and type(value) is type(expected) is list:
        names = place.removeprefix(FORMS).split(", ")
        pairs = {n: (was, now) for n, was, now in zip(names, expected, value, strict=False) if was != now}
        shown = _of_form
    elif place == ARGUMENTS and type(value) is type(expected) is dict:
        pairs = {n: (was, value.get(n)) for n, was in expected.items() if not is_same_data(value.get(n), was)}
    else:
        return f"{brief(value)} instead of {brief(expected)}, {place}"
    return ", ".join([f"{name} was {shown(was)} and is {shown(now)}" for name, (was, now) in pairs.items()])


def _of_form(form: Any) -> str:
    """What `form` says of an argument."""
    if isinstance(form, int):
        return f"a tensor of {form} dimension{'s' * (form != 1)}"
    if isinstance(form, str):
        return "None" if form == type(None).__name__ else with_article(form)
    return brief(form)


fx.node.has_side_effect(guard)


@recorded
def count(sequence: Sequence[Any]) -> int:
    """In a traced graph: how many entries there are."""
    return len(sequence)


@recorded
def holds(mapping: Mapping[str, Any], key: str) -> bool:
    """In a traced graph: whether there is such an entry."""
    return key in mapping


@recorded
def keys_of(mapping: Mapping[str, Any]) -> list[str]:
    """In a traced graph: the names of all entries, in order."""
    return list(mapping)


@recorded
def form(structure: Any) -> Any:
    """In a traced graph: how many dimensions each tensor of an argument has, and where there is none."""
    return mapped(lambda leaf: leaf.ndim if isinstance(leaf, Tensor) else type(leaf).__name__, structure)


@recorded
def truth(value: Any) -> bool:
    """In a traced graph: whether a number is other than 0."""
    return bool(value)


@recorded
def whole(value: Any) -> int:
    """In a traced graph: a number without its fraction."""
    return int(value)


@recorded
def or_default(value: Any, default: Any) -> Any:
    """In a traced graph: an argument, or the default that no code can state where it is left out."""
    return default if value is None else value


ASKED = (guard, count, holds, keys_of, form, or_default)  # what graphs call that is neither torch's nor the user's
CONVERTED: Mapping[Any, Callable[[Any], Any]] = {bool: truth, int: whole}  # less is asked than the number itself


class MetaProxy(fx.Proxy):
    """A proxy with a value.

    Its class stays its own: C++ asks an object for its `__class__`, and would take a proxy's memory for a tensor's.
    What Python asks by `isinstance`, the tracer answers with the value's class.
    """

    has_value = True  # unlike the proxies of other tracers

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta[VALUE]
        if not hasattr(value, name):
            raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")
        if isinstance(value, Tensor) and name in _OF_THE_RUN:
            raise TraceError(f"the code asks for {name}, which may have another value in another run")
        if isinstance(value, Tensor) and name in _ANSWERED:
            self.tracer.form_matters |= name in _RANK  # type: ignore[attr-defined]
            return told(value, name) if name in PLACES else getattr(value, name)
        if isinstance(value, Tensor) and name == "type":
            return functools.partial(_type_of, self)
        if isinstance(value, Mapping) and name in _MAPPING_METHODS:
            return functools.partial(_MAPPING_METHODS[name], self)
        attribute = getattr(type(value), name, None)
        if callable(attribute) and not isinstance(attribute, type):
            return Attribute(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise TraceError(f"the code sets .{name} of a value")
        object.__setattr__(self, name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not isinstance(self.node.meta[VALUE], Tensor):
            raise TraceError("the code makes a deep copy of a value that is no tensor")
        return self.detach().clone()

    def __hash__(self) -> int:
        value = self.node.meta[VALUE]
        if isinstance(value, torch.Size | tuple):
            return hash(tuple(self))
        return object.__hash__(self) if isinstance(value, Tensor | list | Mapping) else self.answer(hash)

    def __bool__(self) -> bool:
        return bool(self.answer(bool))

    def __int__(self) -> int:
        self._asked("int", sys._getframe(1))
        return int(self.answer(int))

    def __index__(self) -> int:
        """The number; torch's parser asks for it before it hands the proxy on (see `probes`)."""
        value = operator.index(self._number())
        tracer: Any = self.tracer
        tracer.probes.asked(self.node, value, sys._getframe(1))
        return value

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A node for a function of torch; the numbers among its arguments stay symbolic."""
        given = (args or (), kwargs or {})
        proxies = [leaf for leaf in pytree.tree_leaves(given) if type(leaf) is MetaProxy]
        tracer: Any = proxies[0].tracer
        tracer.probes.called([proxy.node for proxy in proxies], sys._getframe(1))
        return super().__torch_function__(orig_method, types, *given)

    def __float__(self) -> float:
        self._asked("float", sys._getframe(1))
        return float(self.answer(float))

    def __len__(self) -> int:
        return len(self._sized())

    def __contains__(self, item: Any) -> bool:
        value = self._sized()
        if isinstance(value, Mapping):
            return bool(self.tracer.create_proxy("call_function", holds, (self, item), {}).answer(bool))
        return any(bool(entry == item) for entry in self)

    def __getitem__(self, key: Any) -> Any:
        entry: Any = self.tracer.create_proxy("call_function", operator.getitem, (self, key), {})
        return entry.answer(lambda none: none) if entry.node.meta[VALUE] is None else entry

    def __iter__(self) -> Iterator[Any]:
        value = self._sized()
        if isinstance(value, Mapping):
            keys: Any = self.tracer.create_proxy("call_function", keys_of, (self,), {})
            keys.answer(list)
            return iter(list(value))
        return iter([self[i] for i in range(len(value))])

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def _sized(self) -> Any:
        """The value, for questions about its length, which a graph cannot take back."""
        value = self.node.meta[VALUE]
        if isinstance(value, Tensor):
            length: Any = self.tracer.create_proxy("call_function", getattr, (self, "shape"), {})[0]  # type: ignore[index]
            length.answer(int)
        elif not isinstance(value, torch.Size | tuple | list | Mapping):
            raise TraceError(f"{a_type(value)} is iterated over")
        elif isinstance(value, torch.Size):
            self.tracer.form_matters = True  # type: ignore[attr-defined]
        elif is_counted(self.node) and not isinstance(value, Mapping):
            self.tracer.create_proxy("call_function", count, (self,), {}).answer(int)
        return value

    # -- numbers ---------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __ceil__(self) -> Any:
        return self.tracer.create_proxy("call_function", math.ceil, (self,), {})

    def __floor__(self) -> Any:
        return self.tracer.create_proxy("call_function", math.floor, (self,), {})

    def __trunc__(self) -> Any:
        return self.tracer.create_proxy("call_function", math.trunc, (self,), {})

    def __round__(self, digits: int | None = None) -> Any:
        return self.tracer.create_proxy("call_function", round, (self,) if digits is None else (self, digits), {})

    def __mul__(self, other: Any) -> Any:
        return self._product(other, (self, other))

    def __rmul__(self, other: Any) -> Any:
        return self._product(other, (other, self))

    def _product(self, other: Any, factors: tuple[Any, Any]) -> Any:
        """A product; of a list of numbers, as `[1] * n`, a plain one, whose length may be a number of dimensions."""
        if isinstance(other, list | tuple) and all(isinstance(entry, int | float) for entry in other):
            return other * int(self.answer(int))
        return self.tracer.create_proxy("call_function", operator.mul, factors, {})

    def __divmod__(self, other: Any) -> Any:
        return (self // other, self % other)

    def __format__(self, spec: str) -> str:
        shown = is_message(sys._getframe(1), self.tracer.catching.root)  # type: ignore[attr-defined]
        return self._text(lambda value: format(value, spec), formatted=True, shown=shown)

    def __repr__(self) -> str:
        return self._text(repr) if self._is_theirs() else super().__repr__()

    def __str__(self) -> str:
        return self._text(str) if self._is_theirs() else super().__str__()

    def _is_theirs(self) -> bool:
        tracer: Any = self.tracer
        theirs = tracer.texts.showing or not sys._getframe(2).f_code.co_filename.startswith(PACKAGES)
        return theirs and VALUE in self.node.meta

    def _text(self, convert: Callable[[Any], str], *, formatted: bool = False, shown: bool = False) -> str:
        if leaf_tensors(value := self.node.meta[VALUE]):
            raise TraceError("the code asks for the text of a tensor, which is its numbers")
        text = convert(value)
        self.tracer.texts.told(self, text, value, formatted=formatted, shown=shown)  # type: ignore[attr-defined]
        return text

    def answer(self, convert: Callable[[Any], Any]) -> Any:
        """The plain value, with a guard beside it.

        Raises:
            TraceError: It depends on the numbers in a tensor.
        """
        value = self._number()
        tracer: Any = self.tracer
        answer = convert(value)
        asked = CONVERTED.get(convert) if type(answer) is not type(value) and guards(self.node) else None
        if asked is None:
            tracer.answered(self.node, value)
        else:
            tracer.answered(tracer.create_proxy("call_function", asked, (self,), {}).node, answer)
        return answer

    def _asked(self, name: str, frame: FrameType) -> None:
        if guards(self.node):
            self.tracer.conversions.asked(name, frame)  # type: ignore[attr-defined]

    def _number(self) -> Any:
        """The plain value, where it does not depend on numbers in a tensor that are not told."""
        value, told = self.node.meta[VALUE], self.tracer.tells_numbers  # type: ignore[attr-defined]
        if isinstance(value, Tensor) and not told:
            raise TraceError("the code reads the values in a tensor")
        if not told and depends_on_numbers(self.node):
            raise TraceError("the code asks for a number that was taken out of a tensor")
        return value.detach() if isinstance(value, Tensor) else value


def _type_of(proxy: MetaProxy, *args: Any, **kwargs: Any) -> Any:
    """`Tensor.type`: the name of its type, which a cast would change, or a cast."""
    if args or kwargs:
        return proxy.tracer.create_proxy("call_method", "type", (proxy, *args), kwargs)
    bool(proxy.dtype == proxy.node.meta[VALUE].dtype)
    return type_name(proxy.node.meta[VALUE])


def guard_form(graph: fx.Graph) -> None:
    """Refuse inputs with other numbers of dimensions, and None where a tensor was given."""
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    inputs = [n for n in placeholders if is_symbolic(n.meta[VALUE])]
    place = FORMS + ", ".join(str(n.target).lstrip("*") for n in inputs)
    with graph.inserting_after(placeholders[-1]):
        asked = graph.call_function(form, (inputs,))
    asked.meta[VALUE] = form([n.meta[VALUE] for n in inputs])
    with graph.inserting_after(asked):
        graph.call_function(guard, (asked, asked.meta[VALUE], place)).meta[VALUE] = None
