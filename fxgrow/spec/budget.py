"""A request for a size of the whole: so many parameters, FLOPs or seconds. Knows names, but no model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from ..base.decode import DecodeError, Leniency, decode
from ..base.scalars import as_int, as_number
from ..errors import PlanError
from .patterns import EVERYTHING
from .requests import Request, check_pattern, patterns

MOST_RATIO = 1000.0  # a float below is a factor, one from here on a number
MOST_SCORES = 3  # that a message lists

What = Literal["parameters", "flops", "latency"]
KINDS: tuple[What, ...] = ("parameters", "flops", "latency")


@dataclass(frozen=True, slots=True, repr=False)
class Budget(Request):
    """A request for the widths that meet a budget within 1 %. Give one of `parameters`, `flops` and `latency`.

    All widths that the pattern means grow by one factor, as far as each can; with `scores`, those grow most that are
    worth most. Other requests beside it (`Deepen`, `Outputs`, widths by name) count: the whole meets the budget.

    Attributes:
        parameters: How many parameters the student has: an int, or a float from 1000.0 on, is a number; a smaller float
            is a factor (2.0: twice as many as the teacher).
        flops: The FLOPs of a forward pass on the example inputs, 2 per multiply-add; a number or a factor as above.
        latency: What `measure` is to give.
        measure: A function of a student that says how long it takes. The student has random weights, the teacher's
            device and eval mode; it is made and measured about five times.
        pattern: Which widths grow, as for `Widen`.
        multiple_of: New widths are multiples of this many channels.
        exclude: Globs over names to leave as they are.
        method: How new channels are filled; None: as `grow` was told.
        scores: By the name of a width, what it is worth to grow it. Doubling a width of score 2 is worth as much as
            doubling two widths of score 1; widths that are not named stay.
        widths: The widths that meet it, by name: what was solved. Where it is given, nothing is solved.

    Example:
        >>> Budget(flops=500e6, multiple_of=8)
        Budget(flops=500000000.0, multiple_of=8)
    """

    parameters: int | float | None = None
    flops: int | float | None = None
    latency: float | None = None
    measure: Callable[[nn.Module], float] | None = field(default=None, compare=False)
    pattern: str = EVERYTHING
    multiple_of: int = 1
    exclude: tuple[str, ...] = ()
    method: str | None = None
    scores: Mapping[str, float] | None = field(default=None, hash=False)
    widths: Mapping[str, int] | None = field(default=None, hash=False)

    key = "budget"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise PlanError(f"a Budget has one of parameters, flops and latency, not {' and '.join(given) or 'none'}")
        object.__setattr__(self, given[0], _number(given[0], getattr(self, given[0])))
        if (self.latency is None) != (self.measure is None) and self.widths is None:
            raise PlanError("Budget: give latency with measure, a function of a student that tells its seconds")
        if self.measure is not None and not callable(self.measure):
            raise PlanError(f"Budget: measure is a function of a student, not {self.measure!r:.80}")
        multiple_of = as_int(self.multiple_of)
        if multiple_of is None or multiple_of < 1:
            raise PlanError(f"Budget: multiple_of is a positive int, not {self.multiple_of!r:.80}")
        object.__setattr__(self, "multiple_of", multiple_of)
        object.__setattr__(self, "exclude", patterns("Budget", self.exclude))
        object.__setattr__(self, "scores", _by_name("scores", self.scores, _score))
        object.__setattr__(self, "widths", _by_name("widths", self.widths, _width))

    @property
    def what(self) -> What:
        """What it bounds."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    def goal(self, before: float) -> int | float:
        """The number that the student is to have.

        Args:
            before: That of the teacher.

        Raises:
            PlanError: It is less.
        """
        number: int | float = getattr(self, self.what)
        if self.what == "latency":
            return number
        is_factor = isinstance(number, float) and number < MOST_RATIO
        goal = round(number * before) if is_factor else round(number)
        if not before:
            raise PlanError(f"{self!r}: the model has no {self.what.replace('flops', 'FLOPs that torch counts')}")
        if goal < before:
            unit = "FLOPs" if self.what == "flops" else self.what
            advice = f"; for a factor, write {float(number)!r}" if not is_factor and number < MOST_RATIO else ""
            raise PlanError(f"{self!r}: the model has {before:,} {unit} already; fxgrow only grows{advice}")
        return goal

    def solved(self, widths: Mapping[str, int]) -> Budget:
        """The budget with the widths that meet it."""
        return dataclasses.replace(self, widths=widths)

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("measure", "widths")}
        said = [f"{name}={_brief(value)}" for name, value in given.items() if value != _DEFAULTS[name]]
        return f"Budget({', '.join(said)})"

    @classmethod
    def is_data(cls, data: Mapping[str, Any]) -> bool:
        inside = data.get(cls.key)
        return len(data) == 1 and isinstance(inside, Mapping) and any(name in inside for name in KINDS)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Budget:
        inside = dict(data[cls.key])
        unknown = sorted(set(map(str, inside)) - set(_DEFAULTS) | inside.keys() & {"measure"})
        if unknown:
            raise PlanError(f"Budget has no option {', '.join(map(repr, unknown))} in JSON")
        kinds: dict[str, Any] = {"multiple_of": int, "pattern": str, "method": str | None}
        if isinstance(inside.get("exclude"), str):
            inside["exclude"] = (inside["exclude"],)
        try:
            for name in kinds.keys() & inside.keys():
                inside[name] = decode(kinds[name], inside[name], name, Leniency())
        except DecodeError as error:
            raise PlanError(f"Budget: {error}") from None
        return cls(**inside)

    def data(self) -> dict[str, Any]:
        """As plain data; a function has none."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "measure"}
        said = {name: value for name, value in given.items() if value != _DEFAULTS[name]}
        return {self.key: {name: list(v) if isinstance(v, tuple) else v for name, v in said.items()}}


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Budget)}


def _brief(value: object) -> str:
    """A value as a message has it: of many scores only their number."""
    many = isinstance(value, Mapping) and len(value) > MOST_SCORES
    return f"<{len(value)} widths>" if many else repr(value)  # type: ignore[arg-type]


def _number(name: str, value: object) -> int | float:
    number = as_number(value)
    if number is None or not 0 < number < math.inf:
        raise PlanError(f"Budget: {name} is a number, or a float below {MOST_RATIO:g} as a factor, not {value!r:.80}")
    if name == "latency":
        return float(number)
    if isinstance(number, float) and number < 1:
        raise PlanError(f"Budget: a factor of {number!r} would not grow anything; expected a float of at least 1.0")
    return number


def _by_name(option: str, given: object, one: Callable[[object], Any]) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise PlanError(f"Budget: {option} is a mapping from names of widths to numbers, not {given!r:.80}")
    made = {name: one(value) for name, value in given.items()}
    if wrong := [name for name, value in made.items() if value is None]:
        raise PlanError(f"Budget: {option} of {wrong[0]!r:.80}: {given[wrong[0]]!r:.80} is none")
    return made


def _score(value: object) -> float | None:
    number = as_number(value)
    return float(number) if number is not None and 0 <= number < math.inf else None


def _width(value: object) -> int | None:
    number = as_int(value)
    return number if number is not None and number > 0 else None
