"""The page of benchmarks/worth.py, made of its records. It states what they show, and what they lack."""

import math
import statistics
from dataclasses import replace
from pathlib import Path

from benchmarks.page import Table, spread, wrapped
from benchmarks.worth_analysis import (
    CLEARLY,
    Interval,
    Part,
    compared,
    lead,
    reference,
    saved,
    saved_after,
    smaller_net,
)
from benchmarks.worth_fit import Saving
from benchmarks.worth_picture import draw
from benchmarks.worth_settings import BUDGETS, PROTOCOL, RATES, SEEDS, SIZES, Net

INTRODUCTION = """
Does growing a net save computation against nets that never grow? Each run spends one budget of FLOPs (B/4, B/2, B or
2B), forward and backward, as torch's counter has them, and its rate comes down to zero over that budget. The
protocol has four rates and four seeds for each method; the tables say how many of these a row has so far. Methods are
compared at their best rate of those, on the seeds that the compared runs share.
Growth has to beat the lower envelope of all fixed sizes: the largest net from scratch, and the narrow, the shallow, the
small and a middle-sized net alone, all with the same FLOPs. Batches are twice as large while a net is narrow, in all
methods; a fixed size that is not doubled is the control for that. New layers stand behind the last old one, or, where a
method is "spread", behind each old one. Seconds are processor time of training and growing, without evaluation. Runs
were made on many days beside other jobs, so that their own seconds do not compare. So a step of each net was timed, all
of them side by side, and a run has the seconds of its steps at these times, and those of its growths. The FLOPs of
growing are not counted.
"""
SAVING = """
saved: 1 - what the method spends / what the envelope spends until the loss of scratch at the reference budget, from
straight lines between the mean losses of neighbouring budgets, over the logarithm of what was spent, never beyond the
budgets that were measured. "≥": the method has that loss with the least that was measured. In brackets: 95 % intervals
of the paired bootstrap over seeds; with fewer than three seeds there is none.
"""
FREE = """
The teacher was there before: it was trained with as many FLOPs again, which are not counted. saved: 1 - what the grown
net spends / what the envelope spends until it has the same loss; "≥": no fixed size has it with the most that was
measured. It says what growing a net that is there saves, and not that training a smaller net first does.
"""
LEADS = """
What the largest net spends from scratch until it has the loss of the smaller one, minus what that one spent. It is all
that growth at this point could save, if it cost nothing and the grown net then went on as the one from scratch does
from the same loss. "≤": scratch has this loss with the least that was measured; "≥": not with the most.
"""
CHANGES = """
changed: the most predictions that one growth changed, of those that were watched. Loss: on the watched part of the test
data, at the last growth; then: some steps later. Baselines, marked with *, change the function.
"""

SMALL = """
The same protocol on nets small enough for all seeds of a question to be run on one processor in hours.
[worth.md](worth.md) has the protocol's own sizes.
"""

LIMITS = """\
## Limits

- The envelope has five sizes, each with two schedules. Another size in between may lie lower.
- The best of four rates is chosen by the same test losses that are compared, for fixed sizes and for growth alike.
- GradMax, as a way of filling, is not among the methods: fxgrow has its scores, and the filling was not worth adding
  ([gradmax.md](gradmax.md)).
- `--size real` (a GPU, CIFAR-10 and a GPT of 122 M parameters) was not run yet.
- FLOPs of the GPT include attention, which torch's counter misses on a CPU. They are counted on meta tensors.
"""
SPEEDS = """\
- The tables below were measured by hand on one thread of an AMD EPYC that other jobs used as well. Channels last and
  bfloat16 by autocast, eager, were chosen for all methods: compiling takes longer than it saves.

| images/s, batches of 64 | 16 channels | 8 channels |
| --- | --- | --- |
| eager | 1,890 | 3,810 |
| channels last | 2,160 | 4,170 |
| channels last, bfloat16 | 2,650 | 4,400 |
| the same, compiled (47 s once) | 2,610 | 4,390 |
| channels last, bfloat16, batches of 128, fused SGD | | 5,000 |

| bytes/s of the GPT, batches of 16 sequences of 128 | 128 wide, 8 deep | 64 wide, 8 deep | 128 wide, 1 deep |
| --- | --- | --- | --- |
| eager | 7,450 | 21,800 | 48,800 |
| bfloat16 | 10,300 | 21,300 | 68,500 |
| compiled (23 s once) | 7,260 | 21,500 | 49,500 |
| bfloat16, compiled (26 s once) | 9,850 | 20,300 | 66,800 |
"""

EARLIER = """
## An earlier experiment with this control

Fashion-MNIST, a ResNet-20 of 8 channels, each run annealed over its own budget, two seeds. The best curriculum trained
the half-width net for 80 % of the FLOPs, then grew it to the full width. Test loss of the two seeds:

| FLOPs | half-width net, never grown | best curriculum | full width from scratch, with twice these FLOPs |
| --- | --- | --- | --- |
| half of one epoch's | .3286, .3269 | .3272, .3347 | .322 |
| half of four epochs' | .2499, .2558 | .2551, .2610 | .240 |

At the same FLOPs, the half-width net that was never grown ended lower than the best curriculum, on the mean of the two
seeds: by .003 at the smaller budget and by .005 at the larger. It ended lower in three of the four pairs. Without this
control, and with accuracy read off curves whose rate has not come down, growing seemed to reach the accuracy of a net
from scratch for 76 % of its FLOPs.
"""


def write_markdown(path: Path, parts: list[Part], command: str) -> None:
    """The page and its picture."""
    measured = [part for part in parts if part.records.runs]
    picture = path.parent / "pictures" / f"{path.stem}.png"
    small = all(size_of(part) == "small" for part in parts)
    title = "# What growth is worth to small nets" if small else "# What growth is worth"
    lines = [title, "", "Made by a script, not by hand:", "", f"    {command}", ""]
    lines += [*wrapped(SMALL), ""] if small else []
    lines += [*wrapped(INTRODUCTION), "", *(line for part in parts for line in state(part)), ""]
    if measured:
        draw(measured, picture)
        lines += [f"![Final test loss over FLOPs and over seconds](pictures/{picture.name})", ""]
        lines += [
            *wrapped("Each dot is a mean of runs that were annealed over this budget. Yellow: the envelope."),
            "",
        ]
    for part in measured:
        lines += track(part)
    lines += [*LIMITS.splitlines(), *([] if small else (SPEEDS + EARLIER).splitlines())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def size_of(part: Part) -> str:
    """The name of the size that a track has, whatever its precision."""
    of = part.of
    names = [name for name, tracks in SIZES.items() if replace(tracks[of.track], amp=of.amp) == of]
    return names[0] if names else "cpu"


def state(part: Part) -> list[str]:
    """How much of the protocol was run, with which command, and what the whole takes."""
    runs, of = part.records.runs, part.of
    inside = sum(key.budget in PROTOCOL for key in runs)
    more = f", and {len(runs) - inside} at smaller budgets" if len(runs) > inside else ""
    hours = sum(run["seconds"] + run["free_seconds"] for run in runs.values()) / 3600
    whole = part.seconds_whole()
    cost = f"{hours:.1f} hours of training so far; the whole takes about {whole / 3600:.0f}" if whole else "not begun"
    on = "; ".join(sorted(part.records.machines))
    text = f"**{of.track}**: {inside} of {part.whole} runs{more} ({cost}{', on ' + on if on else ''})."
    size = "" if size_of(part) == "cpu" else f" --size {size_of(part)}"
    again = f"`OMP_NUM_THREADS=1 python benchmarks/worth.py{size} --track {of.track} --hours 8` goes on."
    untimed = "" if part.times or not runs else " Steps were not timed: seconds are those that the runs took."
    return [*wrapped(f"- {text} {again}{untimed}")]


# -- a track -------------------------------------------------------------------------------------------


def track(part: Part) -> list[str]:
    """The section of one track."""
    of = part.of
    lines = [f"## {of.track.capitalize()}", "", *wrapped(setting(part)), "", *findings(part), ""]
    for table in (losses(part), against(part), leads(part), growths(part), free(part)):
        if table.rows:
            lines += [f"#{line}" if line.startswith("## ") else line for line in table.lines()] + [""]
    return lines


def _size(net: Net) -> str:
    return f"{net.width} wide and {net.depth} deep"


def setting(part: Part) -> str:
    """Net, data and optimizer in words."""
    of = part.of
    budget = f"B is {part.budgets['B']:.3g} FLOPs, what the largest net needs for"
    precision = ", in bfloat16 by autocast, with growth and evaluation in float32" if of.amp else ""
    rates = ", ".join(f"{rate * of.rate:g}" for rate in RATES)
    if of.track == "images":
        net = f"A ResNet of three stages, {_size(of.big)} (blocks in each stage), on {of.data}"
        how = (
            f"Images are shifted by up to 2 pixels and mirrored. SGD (Nesterov 0.9, decay 5e-4), batches of {of.batch}"
        )
        budget = f"{budget} {of.examples:,} images"
    else:
        net = f"A pre-norm GPT of bytes, {_size(of.big)}, on sequences of {of.length} from {of.data}"
        how = f"AdamW (0.9, 0.95, weight decay 0.1, gradients clipped at 1), batches of {of.batch}"
        budget = f"{budget} {of.examples * of.length:,} bytes"
    return (
        f"{net}; digest of the data {part.digest}. {budget}. {how}, highest rates {rates}{precision}. "
        f"Narrow: {_size(of.narrow)}; shallow: {_size(of.shallow)}; "
        f"small: {_size(of.small)}; middle: {_size(of.middle)}."
    )


def findings(part: Part) -> list[str]:
    """What the records show, budget by budget, and whether a saving is shown."""
    lines = []
    for budget in part.shown():
        rows = [(name, found) for name in part.grown() if (found := compared(part, name, budget))]
        if rows:
            name, best = min(rows, key=lambda row: row[1].difference)
            lines += wrapped(
                f"- At {budget} the method that ends lowest beside the fixed sizes is {part.methods[name].title}: "
                f"{best.difference:+.4f}{_ends(best.interval, '+.4f')} to {part.methods[best.lowest].title} "
                f"({_seeds(len(best.seeds))}, {best.sizes} of {part.sizes} fixed sizes{_baseline(part, name)}). "
                f"It is the best of {len(rows)} methods, which favours it."
            )
    lines += wrapped(f"- {small_net(part)}")
    lines += wrapped(f"- {aim(part)}")
    return lines


def _baseline(part: Part, name: str) -> str:
    return "; a baseline that changes the function" if part.methods[name].is_baseline else ""


def _seeds(number: int) -> str:
    return f"{number} seed{'s' if number != 1 else ''}"


def _ends(ends: Interval, form: str) -> str:
    return f" [{format(ends[0], form)}, {format(ends[1], form)}]" if ends else ""


def small_net(part: Part) -> str:
    """Whether B is large enough for the largest net to be worth having."""
    found = smaller_net(part)
    if found is None:
        return "Whether the largest net is better than the smaller ones is not measured yet."
    spread = "one seed, no spread" if found.spread is None else f"a spread of {found.spread:.4f}"
    if found.is_clearly_worse:
        verdict = "it is clearly worse, as the protocol asks for"
    elif found.worse < 0:
        verdict = "it is better, so this budget is too small for the largest net"
    else:
        verdict = "that it is clearly worse at B is not shown"
    return (
        f"The best smaller net at {found.budget} is {part.methods[found.name].title}: {found.worse:+.4f} to scratch "
        f"({spread}); {verdict} ({CLEARLY:g} spreads at B)."
    )


def aim(part: Part) -> str:
    """Whether the records show a saving, which takes an interval above zero."""
    shown, budget = [], reference(part)
    for name in part.grown():
        found, beside = saved(part, name, "flops"), compared(part, name, budget) if budget else None
        complete = beside is not None and beside.sizes == part.sizes
        if complete and found and found[1] and found[1][0] > 0:
            shown.append((found[1][0], name, found[0], found[1]))
    if not shown:
        return "No saving is shown: no method has an interval of its saving above zero, beside all fixed sizes."
    _, name, part_saved, ends = max(shown)
    return f"Shown at {budget}: {part.methods[name].title} saves {part_saved} of the FLOPs{_percent(ends)}."


def _percent(ends: Interval) -> str:
    if ends is None:
        return ""
    low, high = (f"{100 * end:.0f}" if math.isfinite(end) else "not reached" for end in ends)
    return f" [{low}, {high}]"


def _title(part: Part, name: str) -> str:
    return part.methods[name].title + ("*" if part.methods[name].is_baseline else "")


def losses(part: Part) -> Table:
    """Final test losses at the best rate."""
    table = Table("Final test loss", ("method", *part.shown()))
    for name in [*part.fixed(), *part.grown()]:
        cells = []
        for budget in part.shown():
            values = list(part.losses(name, budget).values())
            tried = part.records.tried(name, budget)
            rate = part.best.get((name, budget), 1.0) * part.of.rate
            detail = f" (rate {rate:g}; {len(values)}/{SEEDS}, {tried}/{len(RATES)})" if values else ""
            cells.append(spread(values, ".4f") + detail)
        table.rows.append((_title(part, name), *cells))
    table.remarks.append(
        "Mean ± standard deviation. In parentheses: the best rate, seeds at it, and rates that were tried."
    )
    return table


def against(part: Part) -> Table:
    """Methods beside the envelope of the fixed sizes."""
    budget = reference(part)
    head = tuple(f"at {name}" for name in part.shown())
    table = Table("Beside the fixed sizes", ("method", *head, "FLOPs saved", "seconds saved"))
    for name in part.grown():
        cells = []
        for budget_name in part.shown():
            found = compared(part, name, budget_name)
            cells.append(f"{found.difference:+.4f}{_ends(found.interval, '+.4f')}" if found else "-")
        savings = [_saving(saved(part, name, what)) for what in ("flops", "seconds")]
        table.rows.append((_title(part, name), *cells, *savings))
    table.remarks.append("Mean loss minus the lowest mean of a fixed size with the same FLOPs: below 0 is better.")
    table.remarks += [f"{' '.join(SAVING.split())} Reference: {budget or 'not measured yet'}."]
    return table


def _saving(found: tuple[Saving, Interval, int] | None) -> str:
    return "-" if found is None else f"{found[0]}{_percent(found[1])} ({_seeds(found[2])})"


def leads(part: Part) -> Table:
    """How far the smaller nets are ahead of the largest: what growth could save if it were free."""
    budgets = [name for name in part.shown() if BUDGETS[name] <= 1]
    table = Table("How far smaller nets are ahead", ("net", *(f"after {name}" for name in budgets)))
    for name in part.fixed():
        if part.methods[name].stages[0].net != part.of.big:
            found = [lead(part, name, budget) for budget in budgets]
            if any(found):
                table.rows.append((part.methods[name].title, *(str(one) if one else "-" for one in found)))
    table.remarks.append(f"{' '.join(LEADS.split())} In parts of {reference(part)}.")
    return table


def growths(part: Part) -> Table:
    """What growth changes at once, and some steps later."""
    steps = part.of.after
    head = ("method", "changed", "loss before", "after", f"{steps} steps later", "s growing")
    table = Table("At growth", head)
    for name in [*part.grown(), *part.grown(free=True)]:
        runs = [run for budget in part.measured(name) for run in part.runs(name, budget).values()]
        last = [run["growths"][-1] for run in runs]
        changed = max(growth["changed"] for run in runs for growth in run["growths"])
        watched = last[0]["predictions"]
        figures = [statistics.fmean(one[what] for one in last) for what in ("loss_before", "loss_after", "loss_then")]
        seconds = statistics.fmean(run["growing"] for run in runs)
        table.rows.append(
            (_title(part, name), f"{changed} of {watched:,}", *(f"{f:.4f}" for f in figures), f"{seconds:.1f}")
        )
    table.remarks.append(" ".join(CHANGES.split()))
    return table


def free(part: Part) -> Table:
    """Methods whose teacher's FLOPs do not count, apart from all others."""
    table = Table("With a free teacher", ("method", *part.shown(), *(f"saved at {name}" for name in part.shown())))
    for name in part.grown(free=True):
        cells = [spread(list(part.losses(name, budget).values()), ".4f") for budget in part.shown()]
        savings = [_saving(saved_after(part, name, budget)) for budget in part.shown()]
        table.rows.append((_title(part, name), *cells, *savings))
    table.remarks.append(" ".join(FREE.split()))
    return table
