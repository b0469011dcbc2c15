"""What a user may ask for, in every form that they may say it in.

A factor, a mapping from patterns to widths, `Widen` objects, lists of these, or any of it as JSON. In all of them an
int is a width in channels and a float a factor. Knows names, but no widths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..base.decode import DecodeError, encode, parse_json
from ..base.file_kinds import is_plan_text
from ..base.scalars import as_int, as_number
from ..errors import PlanError
from .budget import Budget
from .hints import as_number_hint, check_is_mapping_of_widths, what_to_write
from .patterns import EVERYTHING, is_literal
from .requests import REQUESTS, Request, check_pattern, made_of, patterns

MOST_TIMES = 1e6  # what is above was meant otherwise
MOST_CHANNELS = 10**8  # of a width, a kernel size, a stated size


@dataclass(frozen=True, slots=True)
class Widen:
    """A request for wider layers.

    Attributes:
        pattern: Glob over module and parameter names (`*` also matches dots); the name of a container
            means everything in it; "*" means every width that can grow.
        width: An int is the new width in channels, a float a factor.
        multiple_of: The new width is rounded up to a multiple of this many channels.
        method: How new channels are filled (a name of `fxgrow.methods`); None: as `grow` was told.
        cardinality: Grouped convolutions get more groups instead of wider ones.
        exclude: Globs over names to leave as they are.
        indivisible: Where only whole multiples are exact (a mean or a layer norm over the channels):
            "round_up" to the next one, "leave" the width, or "average": grow to the width itself, with as many
            copies of each channel as there is room for, and with the mean of the channels in the rest. It is
            exact where nothing but layer norms with a gain asks for whole multiples, and all else that carries
            the width is linear (sums, contractions, position tables, class tokens, as between the blocks of a
            pre-norm transformer); elsewhere the width is left, or refused if it was asked for by name.

    Example:
        >>> Widen("layer3.*", 1.5, multiple_of=8)
        Widen(pattern='layer3.*', width=1.5, multiple_of=8)
    """

    pattern: str
    width: int | float
    multiple_of: int = 1
    method: str | None = None
    cardinality: bool = False
    exclude: tuple[str, ...] = ()
    indivisible: Literal["round_up", "leave", "average"] = "round_up"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        width, multiple_of = as_number(self.width), as_int(self.multiple_of)
        if width is None:
            raise PlanError(
                f"{self.pattern!r}: a width is an int (channels) or a float (factor), not {self.width!r:.80}"
                f"{as_number_hint(self.width)}"
            )
        object.__setattr__(self, "width", width)
        if not self.width >= 1:  # nan too
            raise PlanError(
                f"{self.pattern!r}: {self.width!r} would not grow anything; expected an int of at least the present "
                "width, or a float of at least 1.0"
            )
        if self.width >= (MOST_TIMES if isinstance(self.width, float) else MOST_CHANNELS):
            kind = "a factor" if isinstance(self.width, float) else "a number of channels"
            raise PlanError(
                f"{self.pattern!r}: {self.width:,} is too large for {kind}; a float is a factor, an int the new width"
            )
        if multiple_of is None or multiple_of < 1:
            raise PlanError(f"{self.pattern!r}: multiple_of is a positive int, not {self.multiple_of!r}")
        object.__setattr__(self, "multiple_of", multiple_of)
        if self.indivisible not in ("round_up", "leave", "average"):
            raise PlanError(
                f"{self.pattern!r}: indivisible is 'round_up', 'leave' or 'average', not {self.indivisible!r}"
            )
        object.__setattr__(self, "exclude", patterns(self.pattern, self.exclude))

    @property
    def blanket(self) -> bool:
        """Whether it asks for everything, so that what must stay is left instead of refused."""
        return self.pattern == EVERYTHING

    @property
    def is_literal_name(self) -> bool:
        """Whether the pattern is a plain name."""
        return is_literal(self.pattern)

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = [f"{f.name}={given[f.name]!r}" for f in dataclasses.fields(self) if given[f.name] != f.default]
        return f"Widen({', '.join(fields)})"


APPLY = "fxgrow.apply(plan, model) makes its student (on the command line: fxgrow apply MODEL PLAN TEACHER STUDENT)"

Option: TypeAlias = int | float | str | Sequence[str] | Sequence[int] | None
"""The value of an option in JSON."""

Spec: TypeAlias = float | str | Widen | Request | Mapping[str, Option | Mapping[str, Option]] | Sequence["Spec"]
"""What to grow: a factor, JSON text, a request, a mapping of patterns to widths, or a sequence of these.

In all of them an `int` is a width in channels and a `float` is a factor.
"""


def parse(spec: Spec) -> tuple[Widen | Request, ...]:
    """Every form of a specification as requests.

    Args:
        spec: An `int` in it is a width in channels, a `float` a factor; numpy's numbers count as these.

    Raises:
        PlanError: It is none of the forms, or empty, or an `int` without a layer.

    Example:
        >>> parse({"conv1": 64, "layer3.*": 1.5})
        (Widen(pattern='conv1', width=64), Widen(pattern='layer3.*', width=1.5))
    """
    try:
        requests = tuple(_requests(spec))
    except RecursionError:
        raise PlanError("the specification is nested too deep, or holds itself") from None
    if not requests:
        raise PlanError("the specification asks for nothing")
    return requests


def _requests(spec: Spec) -> Iterable[Widen | Request]:
    if isinstance(spec, Widen | Request):
        yield spec
    elif isinstance(number := as_number(spec), float):
        yield Widen(EVERYTHING, number)
    elif number is not None:
        factor = f"{number}.0" if 1 <= number < MOST_TIMES else "2.0"
        raise PlanError(f"an int is a width in channels, and this one names no layer; for a factor, write {factor}")
    elif isinstance(spec, str):
        if is_plan_text(spec):
            raise PlanError(f"the specification is a plan, which is made already; {APPLY}")
        yield from _requests(_from_json(spec))
    elif isinstance(spec, Mapping):
        yield from _from_mapping(spec)
    elif isinstance(spec, Sequence) and not isinstance(spec, bytes | bytearray):
        for part in spec:
            yield from _requests(part)
    else:
        raise PlanError(
            "a specification is a float (a factor), a mapping, Widen, Deepen or other requests, a list of these or "
            f"JSON, not {type(spec).__name__}{_other_hint(spec)}"
        )


def _other_hint(spec: object) -> str:
    """What to do with an object that is no specification."""
    return f"; {APPLY}" if callable(getattr(spec, "to_json", None)) else as_number_hint(spec)


def _from_json(text: str) -> Spec:
    try:
        return parse_json(text)
    except DecodeError as error:
        advice = f"; {what_to_write(text)}" if text[:1] not in "{[" else ""
        raise PlanError(f"the specification {text!r:.80} is not JSON ({error}){advice}") from None


def _from_mapping(spec: Mapping[str, Any]) -> Iterable[Widen | Request]:
    kinds: tuple[type[Request], ...] = (Budget, *REQUESTS.values())
    kind = next((request for request in kinds if request.is_data(spec)), None)
    if kind is not None:
        yield kind.from_data(spec)
        return
    if "pattern" in spec and "width" in spec:  # a Widen as JSON
        yield made_of(Widen, spec)
        return
    check_is_mapping_of_widths(spec)
    for pattern, value in spec.items():
        if isinstance(value, Mapping):
            if "width" not in value:
                raise PlanError(
                    f"{pattern!r}: the options {dict(value)!r:.80} lack a width: "
                    f'write {{"width": 1.5}} for a factor, {{"width": 64}} for channels'
                )
            yield from _from_mapping({"pattern": pattern, **value})
        else:
            yield Widen(pattern, value)


def to_json(requests: Iterable[Widen | Request]) -> list[dict[str, Any]]:
    """Requests as plain data, which `parse` reads back."""
    return [w.data() if isinstance(w, Request) else _data(w) for w in requests]


def _data(request: Widen) -> dict[str, Any]:
    given = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    return {f.name: encode(given[f.name]) for f in dataclasses.fields(request) if given[f.name] != f.default}
