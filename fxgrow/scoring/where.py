"""The public function: one pass over the batches, and a number for each width."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from ..api import reasons
from ..api import widths as widths_of
from ..base.generators import same_randomness
from ..base.wording import a_type
from ..errors import GrowError, PlanError
from ..infer.width_graph import WidthGraph
from ..layouts.layout import measure
from ..model.call_args import taken
from ..model.copies import clone_owned, named_tensors
from ..model.example_inputs import ExampleInputs
from ..model.sharded import is_sharded
from ..model.supported import check_supported
from ..spec.requests import Deepen
from .gathered import Pair, Sums
from .layers import Layer, layers_of, scored, why_none
from .measures import KINDS, OF_FITS
from .places import Deeper, requests_of
from .recorded import check_layers, run
from .result import Score, Scores

Batch = TypeVar("Batch")
Kind = Literal["gradmax", "tiny", "firefly"]
_APART = "it is not clear which positions of one layer are which of the next"
_UNMET = "no call of a layer that reads it was seen to meet a call of one that makes it"


# Over 60 lines by the documentation of its arguments, which is public: its code has fewer than 30.
def scores(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    example_inputs: ExampleInputs | None = None,
    *,
    kind: Kind = "gradmax",
    widths: WidthGraph | None = None,
    deeper: Deepen | Sequence[Deepen] | None = None,
    progress: bool | None = None,
) -> Scores:
    """What each width is worth to grow, and each place for a new layer, measured in one pass over some batches.

    Args:
        model: The trained model, with values; it is not touched. Its modes count: in eval mode norms take their running
            statistics and nothing is dropped.
        batches: Batches as `loss` takes them: a DataLoader, or a list. A few hundred samples tell; "tiny" needs more
            samples, times positions, than a layer has inputs, since fewer are fitted by anything.
        loss: A function of the model and a batch that gives one number, such as
            `lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])`. It is called with a copy of the model.
        example_inputs: As for `trace`; None: what `forward` takes of the first batch.
        kind: "gradmax": the largest gradient that new rows can have; "tiny": what of the gradient the layers that read
            the width cannot follow and new channels can; "firefly": the gradient of new columns for random rows.
        widths: What `widths` found for the model; None: it is called.
        deeper: New layers or blocks, as `grow` takes them, of which each place is scored: by the length of the gradient
            of a new layer's parameters, in a student that has them all.
        progress: As for `trace`.

    Returns:
        A mapping from the names of widths to numbers, the largest first, as `Budget(scores=...)` takes it, with the
        details of each (`rows`) and the reasons where there is none (`left_out`); and the `places`. They depend on the
        scale of the loss: only those of one call compare, widths with widths and places with places.

    Raises:
        GrowError: The loss is not one finite number, there are no batches, or the model is sharded or has no values.
        PlanError: An argument is something else, or no new layer fits where `deeper` asks for one.

    Example:
        >>> import torch, fxgrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> batches = [(torch.randn(16, 4), torch.randn(16, 2)) for _ in range(4)]
        >>> mse = torch.nn.functional.mse_loss
        >>> found = fxgrow.scores(model, batches, lambda model, batch: mse(model(batch[0]), batch[1]))
        >>> list(found)
        ['0']
        >>> student = fxgrow.grow(model, fxgrow.Budget(parameters=121, scores=found))

    Source: GradMax (Evci et al., arXiv 2201.05125), TINY (Verbockhaven et al., arXiv 2405.19816) and Firefly (Wu et
        al., arXiv 2102.08574), with all layers that make or read a width taken together, and what lies between two of
        them taken for the identity.
    """
    if kind not in KINDS:
        raise PlanError(f"kind is one of {', '.join(map(repr, KINDS))}, not {kind!r:.80}")
    if not callable(loss):
        raise PlanError(f"loss is a function of the model and a batch, not {a_type(loss)}")
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise PlanError(f"batches is a DataLoader or a list of batches, not {a_type(batches)}")
    if widths is not None and not isinstance(widths, WidthGraph):
        raise PlanError(f"widths is what fxgrow.widths found, not {a_type(widths)}")
    with reasons("scores", progress), same_randomness():
        asked = requests_of(deeper)
        _check_values(model)
        every = _batches(batches)
        first = next(every)
        if widths is None:
            widths = widths_of(model, _inputs(model, first) if example_inputs is None else example_inputs)
        copied = _copy(model, widths)
        layers = layers_of(copied, widths)
        check_layers(layers, model)
        sums = Sums(scored(widths), kind in OF_FITS)
        with_all = Deeper(_copy(model, widths), widths, asked) if asked else None
        for number, batch in enumerate(itertools.chain([first], every)):
            sums.add(run(copied, layers, batch, loss, number))
            if with_all is not None:
                with_all.add(batch, loss)
        found = _result(kind, widths, layers, sums)
        return found if with_all is None else replace(found, places=with_all.places())


def _check_values(model: nn.Module) -> None:
    if is_sharded(model):
        raise GrowError("the model is sharded; score a whole copy of it, and grow the sharded one by what that gives")
    check_supported(model)
    for name, tensor in named_tensors(model).items():
        if tensor.device.type == "meta":
            raise GrowError(f"{name!r} is on the meta device; scores needs a model with values")


def _batches(batches: Iterable[Any]) -> Iterator[Any]:
    every = iter(batches)
    try:
        first = next(every)
    except StopIteration:
        raise GrowError("there are no batches; give at least one") from None
    return itertools.chain([first], every)


def _inputs(model: nn.Module, batch: Any) -> ExampleInputs:
    """What `forward` takes of a batch."""
    args, kwargs = taken(model, batch)
    return args or kwargs


def _copy(model: nn.Module, widths: WidthGraph) -> nn.Module:
    """A copy that the loss may run, with gradients for all of its parameters.

    Raises:
        GrowError: The widths are of another model.
    """
    copied = clone_owned(model)
    tensors = named_tensors(copied)
    for name, known in widths.tensors.items():
        shape = tuple([measure(layout, widths.width) for layout in known.layouts])
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise GrowError(f"widths are of another model: there {name!r} has the shape {list(shape)}")
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    return copied


def _result(kind: Kind, widths: WidthGraph, layers: list[Layer], sums: Sums) -> Scores:
    rows: list[Score] = []
    left_out = {group.name: widths.state(group.name) for group in widths.groups if group.name not in sums.names}
    for name in sums.names:
        if pairs := sums.of(name):
            rows.append(_row(kind, widths.width(name), pairs, sums))
        else:
            met = any(pair[0] == name for pair in sums.met)
            left_out[name] = why_none(widths, layers, name) or (_APART if met else _UNMET)
    return Scores(kind, tuple(sorted(rows, key=lambda row: -row.value)), left_out)


def _row(kind: Kind, size: int, pairs: list[Pair], sums: Sums) -> Score:
    value, parts = KINDS[kind](sums, pairs, size)
    makers, readers = (tuple(dict.fromkeys(pair[side].path for pair in pairs)) for side in (1, 2))  # type: ignore[union-attr]
    apart = tuple((maker.path, reader.path) for name, maker, reader in sums.apart if name == pairs[0][0])
    return Score(pairs[0][0], size, value, makers, readers, parts, apart)
