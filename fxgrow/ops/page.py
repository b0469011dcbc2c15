"""docs/operators.md and `fxgrow operators`: the rules of the registry, and the mappings for which each is exact."""

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

fxgrow runs a model on meta tensors. For each ATen operator a rule states which dimensions are one width, and for which
mappings g: [new] → [old] of channels the operator commutes with growth. The Python code does not matter: `nn.Conv2d`,
`F.conv2d`, `x @ w` and einsum all reach the operators below.

- **any**: exact for any g, whatever values the new channels have, if their outgoing weights are zero.
- **replicas**: exact for any g, if new channels are replicas of old ones.
- **equal**: exact if every channel has the same number of replicas, so the width grows by an integer factor.
- **stays**: no g is exact, and the dimension keeps its size. The plan names the operator and its location.

An operator without a rule pins every width of its operands, and the plan names it. Operators that PyTorch tags as
elementwise (`torch.Tag.pointwise`) all have the rule `pointwise`, whether they are listed or not.
Each row is tested by growing the samples of its rule: tests/test_rules.py.
"""

KINDS = {"any": "any", "replicas": "replicas", "equal": "equal", "zero": "zeros", "pinned": "stays"}


@dataclass(frozen=True, slots=True)
class Entry:
    """The documentation of a rule.

    Attributes:
        family: The name of its file.
        rule: The name of its function.
        operators: The operators that it applies to: `max_pool2d` for all overloads, `sum.default` for one.
        what: The formula or description of what they compute.
        exact: Pairs of "any", "replicas", "equal" or "stays" and the dimensions for which that holds.
    """

    family: str
    rule: str
    operators: tuple[str, ...]
    what: str
    exact: tuple[tuple[str, str], ...]

    def text(self, columns: int) -> str:
        """Text for a terminal, wrapped to lines of `columns` characters."""
        parts = [("", self.family, ", ".join(self.operators)), ("  ", "computes", self.what)]
        parts += [("  ", word, which) for word, which in self.exact]
        return "\n".join(
            textwrap.fill(
                f"{begin}{word + ':':10} {text}", max(columns, 40), subsequent_indent=" " * 13, break_on_hyphens=False
            )
            for begin, word, text in parts
        )


def entries() -> tuple[Entry, ...]:
    """All rules, sorted by family."""
    families: dict[str, dict[int, tuple[Rule, list[Any]]]] = {}
    for op, rule in rules().items():
        family = rule.function.__module__.rpartition(".")[2]
        families.setdefault(family, {}).setdefault(id(rule.function), (rule, []))[1].append(op)
    return tuple(
        Entry(family, rule.function.__name__, _names(ops), _summary(rule.function.__doc__), _exact(rule.exact))
        for family, entries_of in sorted(families.items())
        for rule, ops in entries_of.values()
    )


def page() -> str:
    """The text of docs/operators.md."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    all_entries = [entry for entry in entries() if f"{__package__}.{entry.family}" in sys.modules]  # none from outside
    for family in dict.fromkeys(entry.family for entry in all_entries):
        yield f"## {family}\n"
        yield f"{_summary(sys.modules[f'{__package__}.{family}'].__doc__)}\n"
        yield "| rule | operators | what it computes | exact for |"
        yield "|---|---|---|---|"
        for entry in all_entries:
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
        name if len(overloads) > 1 or overloads == ["default"] else f"{name}.{overloads[0]}"
        for name, overloads in names.items()
    )


def _exact(exact: Exactness) -> tuple[tuple[str, str], ...]:
    return tuple((word, getattr(exact, kind)) for kind, word in KINDS.items() if getattr(exact, kind))
