"""What the runs of an experiment gave, as tables and as curves."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from statistics import fmean, stdev

from experiment.figures import Curve, Panel
from experiment.runs import Experiment, Outcome, Run
from experiment.tables import Table, spread

NEARLY = 0.99  # of the accuracy of the net from scratch


def of_run(outcomes: Iterable[Outcome], run: str) -> list[Outcome]:
    """The outcomes of a run, by seed."""
    return sorted((o for o in outcomes if o.run == run), key=lambda o: o.seed)


def accuracy_table(experiment: Experiment, outcomes: Sequence[Outcome]) -> Table:
    """Test accuracy before the first epoch and after each, in per cent, and the predictions that growth changed."""
    found = [of_run(outcomes, run.name) for run in experiment.runs]
    changed = [[o.changed for o in of if o.changed is not None] for of in found]
    rows = [("changed", *(str(max(each)) if each else "" for each in changed))]
    for epoch in range(max(len(of[0].accuracies) for of in found)):
        cells = (spread([o.accuracies[epoch] for o in of]) if epoch < len(of[0].accuracies) else "" for of in found)
        rows.append((f"epoch {epoch}" if epoch else "before", *cells))
    return Table(("", *(run.name for run in experiment.runs)), tuple(rows))


def loss_table(experiment: Experiment, outcomes: Sequence[Outcome]) -> Table:
    """The mean loss while training in the first three epochs, and of the test images after each."""
    first = range(min(3, *(len(o.epochs) for o in outcomes)))
    header = ("run", *(f"train {e + 1}" for e in first), *(f"test {e + 1}" for e in first))
    rows = []
    for run in experiment.runs:
        found = of_run(outcomes, run.name)
        train = (spread([o.epochs[e].train_loss for o in found], 3) for e in first)
        rows.append((run.name, *train, *(spread([o.epochs[e].test.loss for o in found], 3) for e in first)))
    return Table(header, tuple(rows))


def cost_table(experiment: Experiment, outcomes: Sequence[Outcome], images: int) -> Table:
    """Sizes, and the epochs and FLOPs that it takes to reach two accuracies.

    Args:
        experiment: what ran.
        outcomes: what it gave.
        images: training images of an epoch.
    """
    teacher = experiment.runs[0].name
    goal = {o.seed: o.accuracies[-1] for o in of_run(outcomes, teacher)}
    rivals = any(run.rival for run in experiment.runs)
    header: tuple[str, ...] = ("run", "parameters", "MFLOPs an image", "epochs to teacher's", "TFLOPs")
    if rivals:
        header += ("epochs to 99 % of scratch's", "TFLOPs", "with its teachers'")
    rows = []
    for run in experiment.runs:
        found = of_run(outcomes, run.name)
        row: tuple[str, ...] = (run.name, f"{found[0].parameters:,}", f"{found[0].flops / 1e6:.1f}")
        row += _reached(found, [goal[o.seed] for o in found], images)[:2]
        if rivals:
            row += _to_rival(experiment, run, outcomes, images)
        rows.append(row)
    return Table(header, tuple(rows))


def _to_rival(experiment: Experiment, run: Run, outcomes: Sequence[Outcome], images: int) -> tuple[str, ...]:
    if run.rival is None:
        return "", "", ""
    found, rival = of_run(outcomes, run.name), of_run(outcomes, run.rival)
    epochs, own, exact = _reached(found, [NEARLY * o.accuracies[-1] for o in rival], images)
    if exact is None:
        return epochs, own, "-"
    before = spent_before(experiment, run, outcomes, images)
    return epochs, own, spread([(f + before) / 1e12 for f in exact])


def _reached(found: Sequence[Outcome], goals: Sequence[float], images: int) -> tuple[str, str, list[float] | None]:
    """Epochs and TFLOPs until the test accuracy first reaches a goal, as text, and the FLOPs if every seed did."""
    epochs = [
        next((e for e, accuracy in enumerate(o.accuracies) if accuracy >= goal), None)
        for o, goal in zip(found, goals, strict=True)
    ]
    there = [e for e in epochs if e is not None]
    if len(there) < len(found):
        return (f"{len(there)} of {len(found)} seeds" if there else "not reached"), "-", None
    spent = [e * images * o.flops for e, o in zip(there, found, strict=True)]
    return spread(there, 1), spread([f / 1e12 for f in spent]), spent


def spent_before(experiment: Experiment, run: Run, outcomes: Sequence[Outcome], images: int) -> float:
    """The FLOPs that the teachers of a run were trained with."""
    if run.parent is None:
        return 0.0
    parent = of_run(outcomes, run.parent)[0]
    above = spent_before(experiment, experiment.run(run.parent), outcomes, images)
    return above + len(parent.epochs) * images * parent.flops


def panels(experiment: Experiment, outcomes: Sequence[Outcome], images: int) -> tuple[Panel, ...]:
    """Test accuracy over epochs and over FLOPs (its teachers' included), and the loss while training."""
    by_epoch, by_flops, losses = [], [], []
    for run in experiment.runs:
        found = of_run(outcomes, run.name)
        epochs = tuple(float(e) for e in range(len(found[0].epochs) + 1))
        before = spent_before(experiment, run, outcomes, images)
        spent = tuple(accumulate([before, *[images * found[0].flops] * len(found[0].epochs)]))
        accuracies = tuple(o.accuracies for o in found)
        by_epoch.append(Curve(run.name, epochs, accuracies))
        by_flops.append(Curve(run.name, tuple(f / 1e12 for f in spent), accuracies))
        losses.append(Curve(run.name, epochs[1:], tuple(tuple(e.train_loss for e in o.epochs) for o in found)))
    view = _view(experiment, outcomes)
    return (
        Panel("epoch of the run", "test accuracy (%)", tuple(by_epoch), view, whole_x=True),
        Panel("TFLOPs, its teachers' included", "test accuracy (%)", tuple(by_flops), view),
        Panel("epoch of the run", "training loss", tuple(losses), whole_x=True),
    )


def styles(experiment: Experiment) -> dict[str, int]:
    """The teacher and students that keep its function have the solid styles, the nets that they compete with others."""
    solid = [run.name for run in experiment.runs if run == experiment.runs[0] or (run.parent and run.exact)]
    others = [run.name for run in experiment.runs if run.name not in solid]
    return {name: number for number, name in enumerate(solid + others)}


def _view(experiment: Experiment, outcomes: Sequence[Outcome]) -> tuple[float, float] | None:
    """From below the accuracy after the worst second epoch: what a net guesses at first would flatten all else.

    To above the highest band of one standard deviation, so that no band is cut off there.
    """
    runs = [list(zip(*(o.accuracies for o in of_run(outcomes, r.name)), strict=True)) for r in experiment.runs]
    low = min(fmean(epochs[min(2, len(epochs) - 1)]) for epochs in runs)
    high = max(fmean(a) + (stdev(a) if len(a) > 1 else 0) for epochs in runs for a in epochs)
    margin = 0.06 * (high - low)
    return (low - margin, high + margin) if high > low else None
