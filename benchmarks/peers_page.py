"""The page of peers.py: a table of peers, one of models by peers, one of gromo's ways."""

import importlib.metadata
import platform
import re
import statistics
from collections.abc import Iterator, Sequence

import torch

from benchmarks.grow_speed import processor
from benchmarks.peers_measure import PEERS, Outcome, gromo_ways

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/peers.py --json peers.json --markdown docs/peers.md"
PACKAGES = ("torch-pruning", "gromo", "torchvision")
HEAD = (
    "peer", "models handled", "unmodified", "largest error (eval)", "largest error (train)", "weights changed, median",
    "time / fxgrow, median", "analysis / fxgrow's", "teacher untouched", "parameters an old optimizer still holds",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Where and with what it was measured."""
    versions = {"torch": torch.__version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**versions, "machine": f"{platform.machine()} ({processor()})"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def by_peer(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each peer, in the order of the models."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.peer, []).append(outcome)
    return found


def worked(outcome: Outcome, outcomes: Sequence[Outcome]) -> bool:
    """Whether it counts as handled: with noise, if the same pairs without noise are exact."""
    if outcome.peer == "noisy pairs" and outcome.status == "differs":
        return any(o.handled for o in outcomes if o.model == outcome.model and o.peer == "pairs")
    return outcome.handled


def ratios(mine: Sequence[Outcome], base: Sequence[Outcome], what: str = "times") -> str:
    """The median over models of times as a multiple of fxgrow's, with the number of models."""
    others = {o.model: o for o in base}
    found = [r for o in mine if o.model in others and (r := o.ratio(others[o.model], what)) is not None]
    return f"{statistics.median(found):.2f} ({len(found)})" if found else ""


def worst(outcomes: Sequence[Outcome], field: str) -> str:
    """The largest error."""
    errors = [error for o in outcomes if (error := getattr(o, field)) is not None]
    return f"{max(errors):.1e}" if errors else ""


def share(outcomes: Sequence[Outcome]) -> str:
    """The median share of convolution and linear weights whose shape changed."""
    shares = [o.weights_changed / o.weights for o in outcomes if o.weights]
    return f"{statistics.median(shares):.0%}" if shares else ""


def peer_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """A row for each peer."""
    peers = by_peer(outcomes)
    for key, found in peers.items():
        good = [o for o in found if worked(o, outcomes)]
        held = [o.optimizer for o in good if o.optimizer is not None]
        errors = [worst(good, field) for field in ("error_eval", "error_train")]
        yield (
            PEERS[key].title,
            f"{len(good)}/{len(found)}",
            f"{0 if key == 'gromo' else len(good)}/{len(found)}",
            *(["does not apply"] * 2 if PEERS[key].prunes else errors),
            share(good),
            ratios(good, peers.get("fxgrow", [])),
            ratios(good, peers.get("fxgrow", []), "analysis") if PEERS[key].analyse else "",
            f"{sum(bool(o.untouched) for o in good)}/{len(good)}",
            f"{statistics.median(held):.0%}" if held else "",
        )


def cell(outcome: Outcome, base: Outcome | None) -> str:
    """One outcome in the table of models by peers."""
    if outcome.status not in ("exact", "differs", "pruned"):
        return "-" if outcome.status == "no entry" else outcome.status
    text = "runs" if outcome.status == "pruned" else f"{outcome.error:.0e}"
    text += f", {outcome.weights_changed}/{outcome.weights}"
    ratio = outcome.ratio(base) if base is not None and outcome.peer != "fxgrow" else None
    return text + (f", {ratio:.2g}x" if ratio is not None else "")


def model_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """A row for each model."""
    for model in dict.fromkeys(o.model for o in outcomes):
        found = {o.peer: o for o in outcomes if o.model == model}
        base = found.get("fxgrow")
        size = f"{base.parameters / 1e6:.1f} M" if base is not None else ""
        yield (model, size, *(cell(found[key], base) if key in found else "" for key in by_peer(outcomes)))


def failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Which models each peer does not handle, and why."""
    for key, found in by_peer(outcomes).items():
        bad = [o for o in found if not worked(o, outcomes)]
        if key == "gromo":
            reasons = {"none of its containers has these layers, it takes no nn.Module": [o.model for o in bad]}
        else:
            reasons = {}
            for o in bad:
                reason = re.sub(r" \(\d+ -> \d+\)$", "", o.reason) or f"error {o.error:.1e}"
                reasons.setdefault(reason, []).append(o.model)
        if bad:
            yield f"- {PEERS[key].title}: {len(bad)} of {len(found)}"
        yield from (f"  - {', '.join(models)}: {reason}" for reason, models in reasons.items())


WAY_HEAD = (
    "gromo's own",
    "filled by",
    "error (eval)",
    "error (train)",
    "weights changed",
    "with a gradient",
    "time / fxgrow",
)


def way_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """A row for each of gromo's models and each way."""
    titles = {key: peer.title for key, peer in gromo_ways().items()}
    for o in outcomes:
        base = next(b for b in outcomes if b.model == o.model and b.peer == "fxgrow")
        if o.error_eval is None or o.error_train is None:
            yield (o.model, titles[o.peer], o.status, o.reason[:80], "", "", "")
            continue
        ratio = o.ratio(base)
        yield (
            o.model,
            titles[o.peer],
            f"{o.error_eval:.1e}",
            f"{o.error_train:.1e}",
            f"{o.weights_changed}/{o.weights}",
            "" if o.moved is None else f"{o.moved:.0%}",
            "" if ratio is None else f"{ratio:.2f}",
        )


def summary_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The table of peers."""
    return table(HEAD, list(peer_rows(outcomes)))


def page(tables: dict[str, list[Outcome]], where: dict[str, str]) -> list[str]:
    """The lines of the page."""
    outcomes, own = tables["models"], tables["gromo"]
    count = len({o.model for o in outcomes})
    lines = ["# fxgrow and its peers", "", "Made by a script, not by hand:", "", f"    {COMMAND}", "", *INTRODUCTION]
    lines += ["", f"{count} models; {', '.join(f'{k} {v}' for k, v in where.items())}."]
    lines += ["", *summary_lines(outcomes), "", *REMARKS, "", "## Not handled", "", *failures(outcomes)]
    head = ("model", "parameters", *(PEERS[key].title for key in by_peer(outcomes)))
    lines += ["", "## Model by model", "", *CELLS, "", *table(head, list(model_rows(outcomes)))]
    if own:
        lines += ["", "## gromo on its own models", "", *WAYS_REMARK, "", *table(WAY_HEAD, list(way_rows(own)))]
    return lines


INTRODUCTION = """\
All get the same unmodified models, with random weights, norm statistics and affine parameters. Growers widen by 1.5,
Torch-Pruning removes a third of each width. Errors are max |result - teacher| / max |teacher| over all outputs, in
float64, dropout off; above 1e-10 a result is not exact. A model counts as handled if the result runs in eval and train
mode, with outputs of the same shapes (for pruning: and backward), and, for a grower, is exact.

Time is processor time in float32 on one thread, for a batch of two at 64 x 64 (Inception 299 x 299): the peers take
turns, medians of the repeats, then the median over the models that both handle (their number in brackets). Other jobs
ran on the machine, so only these ratios mean anything. A peer that works in place is timed without the copy that would
keep the teacher. fxgrow always makes a new model, and checks it.
""".splitlines()
REMARKS = """\
**Torch-Pruning** makes widths smaller, so the function is not preserved and exactness does not apply. The layers that
produce the outputs are excluded and the heads of each `nn.MultiheadAttention` are named, as its documentation says.
Settings that only one model needs are not given, as none are to fxgrow. Version 1.6.1 traces in eval mode only, so what
runs only in training (the auxiliary heads of GoogLeNet and Inception) is not pruned with the rest. It runs the model on
its inputs, which fxgrow does on the meta device. With larger images it takes longer in comparison
([speed.md](speed.md#against-torch_pruning) has them at 224 x 224).

**gromo** has no entry point for an `nn.Module`: networks have to be written in its classes, hence no unmodified model.
It is given the models that its ready-made containers can express, with the same weights, and its exact option (below).
The widths inside residual blocks and inside the stages of a VGG grow. The others cannot. The rebuilding is not timed.

**Net2Net by pairs** is the arithmetic of the notebooks without the mistakes of its ports: consecutive layers, in the
order of their definition, are widened as producer and consumer, with the batch norm between them. A user would have to
name the pairs. In a network with skip connections, pairs inside blocks can be right, but these are not all widths. With
noise, a model counts where the same pairs without noise are exact.

**Optimizers**: none moves the state of an optimizer. The last column is the median share of the result's parameters (as
tensors) that an optimizer made before the change would still update.
""".splitlines()
CELLS = """\
The larger error of eval and train mode, convolution and linear weights that changed, time as a multiple of fxgrow's;
`-`: the peer does not take the model.
""".splitlines()
WAYS_REMARK = """\
Its ready-made containers and its ways to fill new neurons; fxgrow gets the same objects, unmodified. `with a gradient`:
the share of the student's parameters that have a gradient in the first or the second of two steps, divided by the
teacher's share (inactive ReLUs change it by a few per cent). Extensions are created with a scaling factor of zero,
which the user is meant to set; with zero, the weights on both sides of a new neuron are zero and get no gradient.
Optimal neurons are found from random samples (256, for the ResNet 32 images) and may change the function on purpose.
""".splitlines()
