"""The methods that benchmarks/worth.py compares. To add one, add an entry in `methods_of`.

A method is a sequence of nets, each with its part of the budget, with a schedule of the rate, a way of filling new
entries, and a rule for the optimizer's state. A method of one net is a fixed size.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks.worth_settings import BUDGETS, Key, Net, Settings

Schedule = Literal["cosine", "wsd"]
State = Literal["new", "carried", "rewarmed"]
Fill = Literal["auto", "split", "stacked", "random", "shrunk"]
BASELINES: tuple[Fill, ...] = ("stacked", "random", "shrunk")  # they change the function


@dataclass(frozen=True, slots=True)
class Stage:
    """One net of a method.

    Attributes:
        net: Its size.
        part: Of the budget.
        free: Whether its FLOPs do not count: a teacher that is there already, with a schedule of its own.
    """

    net: Net
    part: float
    free: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """A way to spend a budget.

    Attributes:
        stages: The nets in turn.
        title: For tables.
        tier: 0 for those whose runs decide most, which come first.
        schedule: Of the rate, over the whole budget.
        state: Of the optimizer at growth: anew, carried, or carried with new entries warmed up.
        fill: How new entries are filled. "auto" and "split" are fxgrow's; the others change the function.
        doubled: Whether narrow nets have batches of twice the size.
        scaled: Whether their rate is larger as well: twice as large for SGD, by the square root of 2 for Adam. Without
            it the noise of the steps grows where the batch becomes smaller, at growth.
        between: Whether new layers stand between the old ones, as evenly as they can, and not after the last of them.

    Source: rates and batches, Goyal et al. (arXiv 1706.02677) for SGD, Malladi et al. (arXiv 2205.10287) for Adam.
    """

    stages: tuple[Stage, ...]
    title: str
    tier: int
    schedule: Schedule = "cosine"
    state: State = "carried"
    fill: Fill = "auto"
    doubled: bool = True
    scaled: bool = False
    between: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether it is one net that never grows."""
        return len(self.stages) == 1

    @property
    def is_baseline(self) -> bool:
        """Whether its growth changes the function."""
        return self.fill in BASELINES

    @property
    def has_free_teacher(self) -> bool:
        """Whether some of its FLOPs do not count."""
        return any(stage.free for stage in self.stages)

    def definition(self) -> dict[str, Any]:
        """What its runs depend on; neither its title nor its tier.

        What came later is left out where it is False: records from before it stay what they are.
        """
        later = [name for name in ("scaled", "between") if not getattr(self, name)]
        return {name: value for name, value in asdict(self).items() if name not in ("title", "tier", *later)}


def fixed(net: Net, title: str, tier: int = 0, **options: Any) -> Method:
    """One net for the whole budget."""
    return Method((Stage(net, 1.0),), title, tier, **options)


def grown(nets: Sequence[Net], last: float, title: str, tier: int, **options: Any) -> Method:
    """Some nets: the last with its part of the budget, the others with equal parts of the rest."""
    each = (1 - last) / (len(nets) - 1)
    return Method((*(Stage(net, each) for net in nets[:-1]), Stage(nets[-1], last)), title, tier, **options)


def steps_of(of: Settings) -> tuple[Net, ...]:
    """Nets from half the width, or from depth 1, to the largest in small steps: eight growths, or as many as there are.

    A LayerNorm's width grows by whole multiples, so the GPT becomes deeper and the ResNet wider.
    """
    if of.track == "text":
        return tuple(Net(of.width, depth) for depth in _between(1, of.depth))
    return tuple(Net(width, of.depth) for width in _between(of.width // 2, of.width))


def _between(first: int, last: int) -> list[int]:
    return sorted({round(first + (last - first) * i / 8) for i in range(9)})


def methods_of(of: Settings) -> dict[str, Method]:
    """All methods of a track, by name."""
    big, narrow, shallow, small = of.big, of.narrow, of.shallow, of.small
    wide, deep = f"width {narrow.width} → {big.width}", f"depth 1 → {big.depth}"
    deeper = of.middle.depth < big.depth
    between = f"depth {of.middle.depth} → {big.depth}" if deeper else f"width {of.middle.width} → {big.width}"
    found = {
        "scratch": fixed(big, f"from scratch: {big.width} wide, {big.depth} deep"),
        "narrow": fixed(narrow, f"narrow net alone: {narrow.width} wide, {narrow.depth} deep"),
        "shallow": fixed(shallow, f"shallow net alone: {shallow.width} wide, 1 deep"),
        "small": fixed(small, f"small net alone: {small.width} wide, 1 deep"),
        "middle": fixed(of.middle, f"middle net alone: {of.middle.width} wide, {of.middle.depth} deep", 1),
        "narrow-undoubled": fixed(narrow, f"narrow net alone, batch {of.batch}", 2, doubled=False),
    }
    found |= {
        f"{name}-wsd": replace(found[name], title=found[name].title + ", WSD", tier=1, schedule="wsd")
        for name in ("scratch", "narrow", "shallow", "small", "middle")
    }
    for percent, tier in ((40, 0), (20, 1), (60, 1)):
        for schedule, later in (("cosine", 0), ("wsd", 1)):
            text = f"{percent} % after growth" + (", WSD" if later else "")
            for name, nets, change in (
                ("width", (narrow, big), wide), ("depth", (shallow, big), deep),
                ("both", (small, big), f"{wide}, {deep}"),
            ):  # fmt: skip
                found[f"{name}-{percent}" + ("-wsd" if later else "")] = grown(
                    nets, percent / 100, f"{change}, {text}", tier + later, schedule=schedule
                )
    found |= {
        "two-jumps": grown((small, narrow, big), 0.4, f"{deep}, then {wide}, 40 % at the end", 1),
        **{
            f"middle-{percent}": grown((of.middle, big), percent / 100, f"{between}, {percent} % after growth", 1)
            for percent in (40, 60, 20, 80)
        },
        **{
            f"middle-{percent}-wsd": grown(
                (of.middle, big), percent / 100, f"{between}, {percent} % after growth, WSD", 1, schedule="wsd"
            )
            for percent in (40, 60, 20)
        },
        **{
            f"middle-{percent}-between": grown(
                (of.middle, big),
                percent / 100,
                f"{between}, spread, {percent} % after growth",
                1,
                between=True,
            )
            for percent in (40, 60, 80)
            if deeper
        },
        **(
            {
                "deep-jumps": Method(
                    (Stage(shallow, 0.15), Stage(of.middle, 0.25), Stage(big, 0.6)),
                    f"depth 1 → {of.middle.depth} → {big.depth}, spread, 60 % at the end",
                    1,
                    between=True,
                )
            }
            if deeper
            else {}
        ),
        "small-steps": grown(steps_of(of), 0.4, f"{len(steps_of(of)) - 1} small steps, 40 % at the end", 1),
    }
    for name, change in (("width-40", wide), ("depth-40", deep), ("middle-60", f"{between}, 60 % after growth")):
        for state, words in (("new", "new optimizer"), ("rewarmed", "new entries warmed up")):
            found[f"{name}-{state}"] = replace(found[name], title=f"{change}, {words}", tier=2, state=state)
    found |= {
        f"{name}-scaled": replace(found[name], title=f"{found[name].title}, rate by the batch", tier=1, scaled=True)
        for name in ("width-40", "width-20", "both-40")
    }
    found |= {
        "width-40-undoubled": replace(found["width-40"], title=f"{wide}, batch {of.batch}", tier=2, doubled=False),
        "width-40-split": replace(found["width-40"], title=f"{wide}, split", tier=2, fill="split"),
        "depth-40-stacked": replace(found["depth-40"], title=f"{deep}, copies stacked", tier=2, fill="stacked"),
        "depth-40-random": replace(found["depth-40"], title=f"{deep}, random layers", tier=2, fill="random"),
        "width-40-shrunk": replace(found["width-40"], title=f"{wide}, shrunk and perturbed", tier=2, fill="shrunk"),
        "free-width": Method((Stage(narrow, 1.0, free=True), Stage(big, 1.0)), f"{wide}, free teacher", 2),
        "free-depth": Method((Stage(shallow, 1.0, free=True), Stage(big, 1.0)), f"{deep}, free teacher", 2),
        "free-middle": Method(
            (Stage(of.middle, 1.0, free=True), Stage(big, 1.0)), f"{between}, free teacher", 2, between=deeper
        ),
    }
    return found


# -- which run is next ---------------------------------------------------------------------------------

LATER = {"B/16": 0, "B/8": 0, "B/4": 0, "B/2": 0, "B": 3, "2B": 6}


def in_order(keys: Sequence[Key], methods: dict[str, Method], best: dict[tuple[str, str], float]) -> list[Key]:
    """Runs that decide most come first: the first methods, the smaller budgets, the first seed, the middle rate.

    Args:
        keys: Runs that are to be made.
        methods: By name.
        best: The best rate so far, by method and budget, where all rates have been tried with one seed; further seeds
            then begin with it.
    """

    def rank(key: Key) -> tuple[int, ...]:
        first = best.get((key.method, key.budget), 1.0)
        other = 0 if key.rate == first else 3 if key.seed == 0 else 8
        tier = methods[key.method].tier
        return (3 * tier + LATER[key.budget] + 2 * key.seed + other, tier, key.seed, list(BUDGETS).index(key.budget))

    return sorted(keys, key=rank)
