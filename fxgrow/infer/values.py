"""What is known of the tensors of one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ..base.structures import mapped
from ..layouts.layout import fixed
from ..ops import Value
from ..ops.functions import is_mean
from ..recording.constants import is_infinite, is_uniform
from ..recording.operators import kind_of, tensors_in
from ..recording.tape import Tape
from .findings import CARRY, Findings, KeyedValue
from .rule_env import Arguments, elastic


class KnownValues:
    """The layouts of the tensors of one run, by what numbers them on its tape."""

    def __init__(self, findings: Findings, infinite: frozenset[str] = frozenset()) -> None:
        self.unifier = findings.unifier
        self._findings = findings
        self._values: dict[int | str, Value] = {name: Value(layouts) for name, layouts in findings.inputs.items()}
        for name, layouts in findings.tensors.items():
            dims = tuple((d,) for d in range(len(layouts)))
            self._values[name] = Value(layouts, name, dims, infinite=name in infinite)
        self._constants: dict[int, Value] = {}  # those with one value, which the tape holds

    def of(self, tape: Tape, tensor: Tensor) -> Value:
        """What is known of a tensor that is used. A constant has fixed sizes, unless all its entries are equal."""
        return self._keyed(tape, tensor)[1]

    def _keyed(self, tape: Tape, tensor: Tensor, call: tuple[Any, tuple[Any, ...]] | None = None) -> KeyedValue:
        real = tape.constant(tensor)
        if real is not None:
            return None, self.constant(real)
        key = tape.value_of(tensor)
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = Value(tuple(fixed(n) for n in tensor.shape))
        if (value.nonnegative or value.away or value.length or value.zeros) and tape.is_overwritten(tensor):
            origin, dims = ("", ()) if value.zeros else (value.origin, value.dims)
            value = replace(value, origin=origin, dims=dims, away=False, zeros=False, nonnegative=False, length=None)
        if value.source and tape.is_overwritten(tensor):
            value = self._overwritten_rows(value)
        for layout in value.invalid:
            self.unifier.pin(layout, f"positions of channels are used in {self.unifier.site}")
        if value.sums and not (call is not None and is_mean(call[0], value, call[1])):
            for layout in value.sums:
                reason = f"sum: its result over channels depends on their number (in {self.unifier.site})"
                self.unifier.pin(layout, reason)
            value = replace(value, sums=())
        return key, value

    def _overwritten_rows(self, value: Value) -> Value:
        """What is known of a tensor of a parameter's entries, whose memory something else was written into."""
        if value.rows is None:
            return replace(value, scaled=True)
        for dim, layout in enumerate(self._findings.tensors[value.rows.origin]):
            self._findings.roles.setdefault((value.rows.origin, dim), set()).add(CARRY)
            if dim in value.rows.over:
                self.unifier.pin(layout, f"it is written into after {value.rows.origin} was standardised")
        return replace(value, rows=None, dims=())

    def constant(self, real: Tensor) -> Value:
        """What is known of a constant."""
        value = self._constants.get(id(real))
        if value is None and is_uniform(real):
            layouts = tuple(elastic(self.unifier, n) for n in real.shape)
            value = self._constants[id(real)] = Value(layouts, constant=True, infinite=is_infinite(real))
        if value is None:
            return Value(tuple(fixed(n) for n in real.shape), constant=True, infinite=is_infinite(real))
        return value

    def is_known_constant(self, real: Tensor | None) -> bool:
        """Whether a constant has one value, and has been seen."""
        return id(real) in self._constants

    def set_constant(self, real: Tensor, value: Value) -> None:
        """What was made from constants."""
        self._constants[id(real)] = Value(value.layouts, constant=True, infinite=is_infinite(real))

    def set(self, results: Iterable[tuple[int | str, Value]]) -> None:
        """What a call gave."""
        self._values.update(results)

    def arguments(self, tape: Tape, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The arguments of a call as rules take them."""
        keys: list[int | str | None] = []
        plain, given = kind_of(op).plain, partial(self._given, tape, (op, args), keys)
        tensors = [a for place, a in enumerate(args) if place not in plain]
        return Arguments(
            [a if place in plain else given(a) for place, a in enumerate(args)],
            {name: a if name in plain else given(a) for name, a in kwargs.items()},
            tuple(keys),
            tuple([a.stride() for a in tensors if isinstance(a, Tensor)]),
            tuple([t.dtype for a in tensors for t in tensors_in(a)]),
        )

    def _given(self, tape: Tape, call: tuple[Any, tuple[Any, ...]], keys: list[int | str | None], argument: Any) -> Any:
        """What a rule is given for an argument; the keys of the tensors in it are added."""
        if isinstance(argument, Tensor):
            key, value = self._keyed(tape, argument, call)
            keys.append(key)
            return value
        several = isinstance(argument, (list, tuple)) and any(isinstance(a, Tensor) for a in argument)
        return [self._given(tape, call, keys, a) for a in argument] if several else argument

    def if_known(self, tape: Tape, argument: Any) -> Value | None:
        """What is known of an argument, if it is a tensor of this run that depends on inputs or parameters."""
        return self._values.get(tape.known(argument) or 0) if isinstance(argument, Tensor) else None

    def of_structure(self, tape: Tape, structure: Any) -> Any:
        """The same structure with what is known in place of its tensors, and None in place of all else."""

        def known(leaf: Any) -> Value | None:
            real = tape.constant(leaf) if isinstance(leaf, Tensor) else None
            return self.if_known(tape, leaf) if real is None else self._constants.get(id(real))

        return known(structure) if isinstance(structure, Tensor) else mapped(known, structure)
