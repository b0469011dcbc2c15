"""Inputs of other sizes than the example: the student computes what the teacher computes, or says why not."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxgrow
from tests.check import Inputs, cast, relative_error, run

Change = Callable[[Tensor], Tensor]


def _longer(x: Tensor, dim: int, by: int) -> Tensor:
    """The same with some of its entries once more, or with some left out where `by` is negative."""
    if x.ndim <= dim or x.shape[dim] + by < 1:
        return x
    if by < 0:
        return x.narrow(dim, 0, x.shape[dim] + by).clone()
    more = [x] * (1 + -(-by // x.shape[dim]))
    return torch.cat(more, dim).narrow(dim, 0, x.shape[dim] + by).clone()


def variants(inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Other sizes of every dimension, other numbers of dimensions, other numbers of inputs."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    changes: list[tuple[str, Change]] = [
        (f"dimension {dim} by {by}", lambda x, dim=dim, by=by: _longer(x, dim, by))
        for dim in range(max(t.ndim for t in tensors))
        for by in (1, 2, -1)
    ]
    if any(t.ndim > 3 for t in tensors):
        changes.append(
            ("both sides twice", lambda x: x if x.ndim < 4 else x.repeat(*[1] * (x.ndim - 2), 2, 2)),
        )
    changes += [
        ("without the first dimension", lambda x: x[0] if x.ndim else x),
        ("with a dimension more", lambda x: x[None]),
    ]
    for name, change in changes:
        yield name, pytree.tree_map_only(Tensor, change, inputs)
    for name, other in _regrouped(inputs):
        if any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(other)):
            yield name, other


def _regrouped(inputs: Any) -> Iterator[tuple[str, Any]]:
    """Every list, tuple and dictionary with an entry less, and every list and tuple with an entry more."""
    if isinstance(inputs, Mapping):
        entries: list[tuple[Any, Any]] = list(inputs.items())
        for i, (key, entry) in enumerate(entries):
            yield f"without {key!r}", dict(entries[:i] + entries[i + 1 :])
            for name, other in _regrouped(entry):
                yield f"{key!r} {name}", {**inputs, key: other}
    elif isinstance(inputs, (list, tuple)):
        kind = type(inputs)
        if inputs:
            yield "the last left out", kind(inputs[:-1])
            yield "the last given twice", kind([*inputs, inputs[-1]])
            yield "None instead of the last", kind([*inputs[:-1], None])
        for i, entry in enumerate(inputs):
            for name, other in _regrouped(entry):
                yield f"{i} {name}", kind([*inputs[:i], other, *inputs[i + 1 :]])


def _plain(model: nn.Module, inputs: Inputs) -> list[Any]:
    """What the model gives out besides tensors, in the mode that it is in."""
    args, kwargs = cast(inputs, torch.float64)
    with torch.no_grad():
        return [leaf for leaf in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(leaf, (int, float, str))]


def assert_same_or_refused(teacher: nn.Module, student: nn.Module, inputs: Inputs, tol: float = 1e-10) -> int:
    """On every variant that the teacher takes.

    Returns:
        How many variants the student computed.
    """
    computed = 0
    for name, variant in variants(inputs):
        for mode in ("eval", "train"):
            try:
                expected = run(teacher, variant, mode)
            except Exception:  # noqa: BLE001 - whatever the teacher raises: it takes no such inputs
                continue
            try:
                found = run(student, variant, mode)
            except fxgrow.GrowError as refusal:
                if "another path" in str(refusal) or "other mode only" in str(refusal):
                    continue
                raise
            error = relative_error(expected, found)
            assert error <= tol, f"{name}, {mode}: relative error {error:.2e} > {tol:.0e}"
            computed += 1
            if mode == "eval" and not teacher.training:
                assert _plain(teacher, variant) == _plain(student, variant), name
    return computed
