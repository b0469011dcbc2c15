"""Rules for modules of torch.nn that are called: sizes that no operator's rule sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ..layouts.unify import Kind
from ..model.layer_kinds import ADAPTIVE_SOFTMAX, ATTENTION_SIZES, ATTENTIONS
from ..recording.tape import Tape
from .attributes import Attribute, of_module
from .values import KnownValues


def entered(tape: Tape, module: nn.Module, values: KnownValues) -> Iterator[Attribute]:
    """What is stated by a module that is called.

    The heads of an attention are rows of its weights, of which there may be any number; their size is a literal. The
    clusters of an adaptive softmax all take the same channels, though only those run that the example's targets are in.
    """
    if isinstance(module, ADAPTIVE_SOFTMAX):
        channels = values.of(tape, module.head.weight).layouts[1]
        for cluster in module.tail:
            first: Any = cluster[0]  # type: ignore[index]
            values.unifier.unify(channels, values.of(tape, first.weight).layouts[1])
    if not isinstance(module, ATTENTIONS):
        return
    sizes: list[int] = [module.num_heads, module.head_dim]
    kinds: list[Kind] = ["count" if module.num_heads > 1 else "single", "fixed"]
    if module.in_proj_weight is not None:
        sizes, kinds = [3, *sizes], ["fixed", *kinds]
    rows = module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
    parts = values.unifier.split_into(values.of(tape, rows).layouts[0], sizes, kinds)
    yield Attribute(tape.module, "num_heads", (parts[-2],))


def left(tape: Tape, module: nn.Module, args: tuple[Any, ...], result: Any, values: KnownValues) -> Iterator[Attribute]:
    """What is stated by a module that returns: sizes of what went in and of what comes out."""
    if isinstance(module, ATTENTIONS):
        for name, given in zip(ATTENTION_SIZES, args, strict=False):
            read = values.if_known(tape, given)
            if read is not None:
                yield Attribute(tape.module, name, read.layouts[-1:])
    first = args[0] if args else None
    if isinstance(first, PackedSequence):  # of a recurrent layer: what each step holds, and the states
        first, result = first.data, (result[0].data, *result[1:])
    value = values.if_known(tape, first)
    if value is not None:
        yield from of_module(tape.module, module, value, values.of_structure(tape, result))
