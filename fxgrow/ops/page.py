"""The table of operators that have a rule, and for which mappings each is exact, from the registry."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .registry import Exactness, Rule, rules

HEAD = """\
# Operators

<!-- Written by docs/operators.py from the rules in fxgrow/ops; do not edit. -->

fxgrow runs a model on meta tensors. At each ATen operator, a rule says which dimensions are one width, and for which
mappings g: [new] → [old] of channels the operator commutes with growth. The spelling in Python makes no difference:
`nn.Conv2d`, `F.conv2d`, `x @ w` and einsum all end in the operators below.

- **any**: exact for any g. The new channels may hold anything, where the method gives them outgoing weights of zero.
- **replicas**: exact for any g, if new channels are replicas of old ones.
- **equal**: exact if every channel has equally many replicas, so by whole multiples.
- **stays**: no g is exact, so the dimension is pinned. The plan names the operator and its place in the code.

An operator without a rule pins every width that it touches, and is named in the plan. Operators that PyTorch
tags as elementwise (`torch.Tag.pointwise`) all have the rule `pointwise`, whether they are listed or not.
Each row is tested by growing the samples of its rule (`tests/test_rules.py`).
"""

KINDS = {"any": "any", "replicas": "replicas", "equal": "equal", "pinned": "stays"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule in words.

    Attributes:
        family: The file that it stands in.
        rule: Its name.
        operators: The operators that it is for: `max_pool2d`, `sum.default`; one with many overloads by its name.
        what: What they compute.
        exact: Pairs of "any", "replicas", "equal" or "stays" and the dimensions for which that holds.
    """

    family: str
    rule: str
    operators: tuple[str, ...]
    what: str
    exact: tuple[tuple[str, str], ...]

    def text(self, columns: int) -> str:
        """For a terminal, in lines of so many characters."""
        parts = [("", self.family, ", ".join(self.operators)), ("  ", "computes", self.what)]
        parts += [("  ", word, which) for word, which in self.exact]
        return "\n".join(
            textwrap.fill(
                f"{begin}{word + ':':10} {text}", max(columns, 40), subsequent_indent=" " * 13, break_on_hyphens=False
            )
            for begin, word, text in parts
        )


def entries() -> tuple[Entry, ...]:
    """Every rule, by family."""
    found: dict[str, dict[int, tuple[Rule, list[Any]]]] = {}
    for op, rule in rules().items():
        family = rule.function.__module__.rpartition(".")[2]
        found.setdefault(family, {}).setdefault(id(rule.function), (rule, []))[1].append(op)
    return tuple(
        Entry(family, rule.function.__name__, _names(ops), _summary(rule.function.__doc__), _exact(rule.exact))
        for family, entries_of in sorted(found.items())
        for rule, ops in entries_of.values()
    )


def page() -> str:
    """The text of docs/operators.md."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    every = [entry for entry in entries() if f"{__package__}.{entry.family}" in sys.modules]  # none from outside
    for family in dict.fromkeys(entry.family for entry in every):
        yield f"## {family}\n"
        yield f"{_summary(sys.modules[f'{__package__}.{family}'].__doc__)}\n"
        yield "| rule | operators | what it computes | exact for |"
        yield "|---|---|---|---|"
        for entry in every:
            if entry.family == family:
                operators = ", ".join(f"`{name}`" for name in entry.operators)
                exact = "<br>".join(f"**{word}**: {_cell(text)}" for word, text in entry.exact)
                yield f"| {entry.rule} | {operators} | {_cell(entry.what)} | {exact} |"
        yield ""


def _summary(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _names(ops: Iterable[Any]) -> tuple[str, ...]:
    names: dict[str, list[str]] = {}
    for op in ops:
        if op._overloadname != "out" and not op._overloadname.endswith("_out"):
            names.setdefault(op._schema.name.split("::")[1], []).append(op._overloadname)
    return tuple(
        name if len(found) > 1 or found == ["default"] else f"{name}.{found[0]}" for name, found in names.items()
    )


def _exact(exact: Exactness) -> tuple[tuple[str, str], ...]:
    return tuple((word, getattr(exact, kind)) for kind, word in KINDS.items() if getattr(exact, kind))
