"""Which kind each parameter and buffer is (`TensorKind`), from the arguments of the calls that it is passed as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ..base.roles import PASSED_ON, TensorKind
from ..ops import Rule, Value

Key = int | str | None  # what numbers a value on its tape


class TensorKinds:
    """Collects the uses of named tensors, call by call. Names no operator: the rules say what their arguments are."""

    def __init__(self) -> None:
        self._uses: dict[str, set[TensorKind]] = {}
        self._copies: dict[Key, str] = {}  # values that hold a named tensor's entries again
        self._products: set[Key] = set()  # results of calls that sum over a weight

    def start(self) -> None:
        """A run begins: values are numbered anew."""
        self._copies.clear()
        self._products.clear()

    def kind(self, name: str) -> TensorKind:
        """What a tensor is in all its uses, "other" where they differ."""
        uses = self._uses.get(name, set())
        return next(iter(uses)) if len(uses) == 1 else "other"

    def call(
        self,
        op: Any,
        rule: Rule | None,
        ins: Sequence[tuple[str, Key, Value]],
        outs: Sequence[tuple[Key, Value]],
        *,
        contracts: bool,
    ) -> None:
        """One call.

        Args:
            op: The overload.
            rule: Its rule.
            ins: Of each tensor the name of the argument in the operator's schema, its number, and what is known of it.
            outs: Of each result the number, and what is known of it.
            contracts: Whether it sums over a weight.
        """
        written = _written(op)
        seen_again = {value.origin for _, value in outs}
        kinds: Mapping[str, Any] = rule.kinds if rule else {}
        summed = rule is not None and rule.linear == "sum"
        if summed and sum(not value.constant for _, _, value in ins) < 2:  # such as variance + eps
            kinds = {}
        for argument, key, value in ins:
            name = value.origin or self._copies.get(key, "")
            use = kinds.get(argument)
            if not name or (value.origin in seen_again and value.origin):
                continue
            if use == PASSED_ON:
                self._copies.update((out, name) for out, _ in outs)
            elif use is not None:
                added = use == "shift" and _is_vector(value)
                beside = contracts or (summed and any(other in self._products for _, other, _ in ins))
                self._uses.setdefault(name, set()).add("bias" if added and beside else use)
            elif value.origin and argument not in written:
                self._uses.setdefault(name, set()).add("other")
        if contracts or (rule is not None and rule.linear == "each" and ins and ins[0][1] in self._products):
            self._products.update(key for key, _ in outs)


@cache
def _written(op: Any) -> frozenset[str]:
    """The arguments that an operator writes into."""
    return frozenset([a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write])


@cache
def _names(op: Any) -> tuple[str, ...]:
    return tuple([argument.name for argument in op._schema.arguments])


def _is_vector(value: Value) -> bool:
    """Whether it has one dimension, beside dimensions of size 1."""
    return sum(n != 1 for n in value.shape) <= 1


def argument_names(op: Any, given: Sequence[Any], named: Mapping[str, Any]) -> list[str]:
    """Of each tensor of a call the name of the argument that it is, or is in, by the operator's schema."""
    slots = [*zip(_names(op), given, strict=False), *named.items()]
    return [
        name
        for name, argument in slots
        for entry in (argument if isinstance(argument, list) else [argument])
        if isinstance(entry, Value)
    ]
