"""What peers.py does with one model: each peer grows (or prunes) it, the result is compared and timed.

Errors are those of measure.py: float64, randomised statistics and affine weights, dropout off, eval and train mode.
Times are of float32 models of the same builder; the peers take turns. Nothing here trusts a peer's own checks.
"""

import copy
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import fxgrow
from benchmarks import gromo_models
from benchmarks.measure import GROWABLE, MODES, TOLERANCE, Teacher, Timeout, describe, prepared, time_limit
from benchmarks.net2net_pairs import NotAPairError, widen_all
from benchmarks.zoos import Entry
from tests.check import NoRandomness, relative_error, tensors

FACTOR = 1.5
PRUNED = 1 / 3
Inputs = tuple[Tensor, ...]


class NoEntryError(Exception):
    """The peer has no way to take this model."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A package, or a way to use it.

    Args:
        title: for tables.
        package: what has to be installed.
        given: makes, of the entry's name, the model and its inputs, what is handed over; not timed.
        grow: gives the result, which may be what it was given.
        analyse: the part of it that only finds out which widths there are.
        prunes: it makes widths smaller: no error can be measured.
    """

    title: str
    package: str
    given: Callable[[str, nn.Module, Inputs], nn.Module]
    grow: Callable[[nn.Module, Inputs], nn.Module]
    analyse: Callable[[nn.Module, Inputs], Any] | None = None
    prunes: bool = False


def _copy(name: str, model: nn.Module, inputs: Inputs) -> nn.Module:
    return copy.deepcopy(model)


def _rebuilt(name: str, model: nn.Module, inputs: Inputs) -> nn.Module:
    if name not in gromo_models.REBUILT:
        raise NoEntryError("none of its containers has these layers")
    return gromo_models.rebuilt(name, model)


def _to_prune(name: str, model: nn.Module, inputs: Inputs) -> nn.Module:
    """A copy that knows which layers are as wide as the outputs, which must keep their shapes."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        wide = {t.shape[1] for t in tensors(model(*inputs))}
    layers = [m for m in copied.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    copied.heads_to_keep = [m for m in layers if m.weight.shape[0] in wide]  # a list: no submodules of its own
    return copied


def prune(model: nn.Module, inputs: Inputs) -> nn.Module:
    """All widths by a third, by Torch-Pruning's pruner, without settings that only one model needs."""
    import torch_pruning

    heads = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    importance = torch_pruning.importance.MagnitudeImportance(p=1)
    options = {"pruning_ratio": PRUNED, "ignored_layers": model.heads_to_keep, "num_heads": heads}
    torch_pruning.pruner.BasePruner(model, inputs, importance=importance, **options).step()
    return model


def dependencies(model: nn.Module, inputs: Inputs) -> Any:
    """Torch-Pruning's analysis."""
    import torch_pruning

    return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs)


PEERS = {
    "fxgrow": Peer(
        "fxgrow",
        "fxgrow",
        lambda name, model, inputs: model,
        lambda model, inputs: fxgrow.grow(model, FACTOR, inputs),
        lambda model, inputs: fxgrow.widths(fxgrow.trace(model, inputs)),
    ),
    "torch_pruning": Peer("Torch-Pruning", "torch_pruning", _to_prune, prune, dependencies, prunes=True),
    "gromo": Peer(
        "gromo, rebuilt by hand",
        "gromo",
        _rebuilt,
        lambda model, inputs: gromo_models.grow(model, gromo_models.WAYS[gromo_models.EXACT], inputs),
    ),
    "pairs": Peer(
        "Net2Net by pairs, no noise", "torch", _copy, lambda model, inputs: widen_all(model, FACTOR, noise=0)
    ),
    "noisy pairs": Peer(
        "Net2Net by pairs, 5 % noise", "torch", _copy, lambda model, inputs: widen_all(model, FACTOR, noise=5e-2)
    ),
}


@dataclass(slots=True)
class Outcome:
    """What one peer did with one model."""

    model: str
    peer: str
    status: str = ""  # "exact", "differs", "pruned", or why not: "refused", "crash", "timeout", "no entry"
    reason: str = ""
    error_eval: float | None = None
    error_train: float | None = None
    weights: int = 0
    weights_changed: int = 0  # convolution and linear weights whose shape changed
    parameters: int = 0
    parameters_after: int = 0
    untouched: bool | None = None  # what was handed over is bit for bit what it was
    optimizer: float | None = None  # share of the result's parameters that an optimizer made before still holds
    moved: float | None = None  # share of parameters with a gradient in two steps, divided by the teacher's
    times: list[float] = field(default_factory=list)
    analysis: list[float] = field(default_factory=list)

    @property
    def handled(self) -> bool:
        """Whether there is a result that runs and is right as far as it can be compared."""
        return self.status in ("exact", "pruned")

    @property
    def error(self) -> float:
        """The larger error."""
        return max((e for e in (self.error_eval, self.error_train) if e is not None), default=math.nan)

    def ratio(self, other: "Outcome", what: str = "times") -> float | None:
        """The median of the times as a multiple of another's."""
        mine, others = getattr(self, what), getattr(other, what)
        return statistics.median(mine) / statistics.median(others) if mine and others else None


def with_gradient(model: nn.Module, inputs: Inputs) -> float:
    """The share of parameters that have a gradient in the first or the second of two steps, in train mode."""
    found: dict[str, Tensor] = {}
    before = [(p, p.detach().clone()) for p in model.parameters()]
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    model.train()
    for _ in range(2):
        generator = torch.Generator().manual_seed(0)
        with NoRandomness():
            outputs = [t for t in tensors(model(*inputs)) if t.requires_grad]
            sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum() for t in outputs).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                found[name] = found.get(name, False) | (p.grad != 0)
                scale = float(p.detach().abs().max()) / (float(p.grad.abs().max()) or 1.0)
                p.data.sub_(p.grad, alpha=1e-3 * scale)
                p.grad = None
    for p, values in before:
        p.data = values
    for name, b in model.named_buffers():
        b.data = buffers[name]
    return sum(int(mask.sum()) for mask in found.values()) / sum(p.numel() for p, _ in before)


def measured(entry: Entry, teacher: Teacher, key: str, peer: Peer, limit: float, base: float | None) -> Outcome:
    """The outcome of one peer, whatever happens, but for times."""
    outcome = Outcome(entry.name, key)
    try:
        with time_limit(limit, processor=True):  # what else the machine does is no peer's fault
            _fill(outcome, teacher, peer, base)
    except Timeout:
        outcome.status, outcome.reason = "timeout", f"more than {limit:g} s"
    except NoEntryError as error:
        outcome.status, outcome.reason = "no entry", str(error)
    except (NotAPairError, fxgrow.GrowError) as error:
        outcome.status, outcome.reason = "refused", str(error)
    except Exception as error:  # noqa: BLE001 (whatever a peer may raise)
        outcome.status, outcome.reason = "crash", describe(error)[:200]
    return outcome


def _fill(outcome: Outcome, teacher: Teacher, peer: Peer, base: float | None) -> None:
    model, inputs = teacher.model.eval(), teacher.inputs("train")
    given = peer.given(teacher.entry.name, model, inputs)
    state = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    shapes = {name: p.shape for name, p in given.named_parameters()}
    held = {id(p) for p in given.parameters()}
    keep = list(given.parameters())  # so that no id is used twice
    outcome.parameters = sum(p.numel() for p in keep)
    result = peer.grow(given, inputs)
    after = given.state_dict()
    outcome.untouched = state.keys() == after.keys() and all(torch.equal(after[name], state[name]) for name in state)
    parameters = list(result.parameters())
    outcome.parameters_after = sum(p.numel() for p in parameters)
    outcome.optimizer = sum(id(p) in held for p in parameters) / len(parameters)
    now = {name: p.shape for name, p in result.named_parameters()}
    names = [f"{name}.weight".lstrip(".") for name, m in given.named_modules() if isinstance(m, GROWABLE)]
    names = [name for name in names if name in shapes]
    outcome.weights, outcome.weights_changed = len(names), sum(now.get(n) != shapes[n] for n in names)
    outputs = {mode: teacher.run(result, mode) for mode in MODES}
    sizes = [[[t.shape for t in ts] for ts in found.values()] for found in (teacher.outputs, outputs)]
    if sizes[0] != sizes[1]:
        raise ValueError("outputs of other shapes")
    if outcome.parameters_after == outcome.parameters:
        raise ValueError("no width changed")
    if base is not None:
        outcome.moved = with_gradient(result, inputs) / base
    if peer.prunes:
        sum(t.sum() for t in tensors(result.train()(*inputs))).backward()
        outcome.status = "pruned"
        return
    outcome.error_eval, outcome.error_train = (relative_error(teacher.outputs[m], outputs[m]) for m in MODES)
    outcome.status = "exact" if outcome.error <= TOLERANCE else "differs"


def timed(entry: Entry, peers: dict[str, Peer], outcomes: Sequence[Outcome], repeats: int, limit: float) -> None:
    """Add the processor times of those that have a result; they take turns."""
    torch.manual_seed(0)
    model, inputs = entry.build(), entry.given("eval")
    for _ in range(repeats):
        for outcome in outcomes:
            if outcome.status not in ("exact", "differs", "pruned"):
                continue
            peer = peers[outcome.peer]
            model.eval()
            for action, times in ((peer.analyse, outcome.analysis), (peer.grow, outcome.times)):
                if action is None:
                    continue
                given = peer.given(entry.name, model, inputs)
                gc.collect()
                try:
                    with time_limit(limit, processor=True):  # what else the machine does is no peer's fault
                        start = time.process_time()
                        action(given, inputs)
                        times.append(time.process_time() - start)
                except Timeout:
                    outcome.reason = f"timed out while it was timed ({limit:g} s)"
                del given


def outcomes_of(
    entry: Entry, peers: dict[str, Peer], repeats: int, limit: float, learning: bool = False
) -> Iterator[list[Outcome]]:
    """What is known so far of one model, after each peer and after the times.

    Args:
        entry: the model.
        peers: by their names.
        repeats: of each measurement of time.
        limit: in seconds, for one peer.
        learning: find out which parameters get a gradient.
    """
    teacher = prepared(entry, math.inf, math.inf, 0)
    base = with_gradient(teacher.model, teacher.inputs("train")) if learning else None
    found: list[Outcome] = []
    for key, peer in peers.items():
        found.append(measured(entry, teacher, key, peer, limit, base))
        gc.collect()
        yield found
    del teacher
    gc.collect()
    timed(entry, peers, found, repeats, limit)
    yield found


def gromo_ways() -> dict[str, Peer]:
    """fxgrow, and the ways in which gromo fills new neurons, on models that are gromo's already."""
    ways = {
        key: Peer(way.title, "gromo", _copy, lambda model, inputs, way=way: gromo_models.grow(model, way, inputs))
        for key, way in gromo_models.WAYS.items()
    }
    return {"fxgrow": PEERS["fxgrow"], **ways}
