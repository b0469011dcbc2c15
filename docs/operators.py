"""Writes docs/operators.md, the table of operators that fxgrow has rules for, from the registry.

Usage:
    python docs/operators.py           # write it
    python docs/operators.py --check   # exit 1 if it is not what the registry says
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fxgrow.ops import Exact, Rule, rules

PAGE = Path(__file__).with_name("operators.md")

HEAD = """\
# Operators

<!-- Written by docs/operators.py from the rules in fxgrow/ops; do not edit. -->

fxgrow runs a model on meta tensors and asks a rule at each ATen operator which dimensions are one width, and
for which mappings g: [new] → [old] of channels the operator commutes with growth. It makes no difference what the
Python looked like: `nn.Conv2d`, `F.conv2d`, `x @ w` and einsum all end in the operators below.

- **any**: exact for any g. The new channels may hold anything, where the method gives them outgoing weights of zero.
- **replicas**: exact for any g, if new channels are replicas of old ones.
- **equal**: exact if every channel has equally many replicas, so by whole multiples.
- **stays**: no g is exact, and the dimension keeps its size. The plan says which operator it met, and where.

An operator without a rule pins every width that it touches, and is named in the plan. Operators that PyTorch
tags as elementwise (`torch.Tag.pointwise`) all have the rule `pointwise`, whether they are listed or not.
Each row is tested by growing samples that stand beside its rule: tests/test_rules.py.
"""

KINDS = {"any": "any", "replicas": "replicas", "equal": "equal", "pinned": "stays"}


def page() -> str:
    """The text of docs/operators.md."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    families: dict[str, dict[int, tuple[Rule, list[Any]]]] = {}
    for op, rule in rules().items():
        family = rule.function.__module__.rpartition(".")[2]
        families.setdefault(family, {}).setdefault(id(rule.function), (rule, []))[1].append(op)
    for family, found in sorted(families.items()):
        yield f"## {family}\n"
        yield f"{_summary(sys.modules[f'fxgrow.ops.{family}'].__doc__)}\n"
        yield "| rule | operators | what it computes | exact for |"
        yield "|---|---|---|---|"
        for rule, ops in found.values():
            what = _cell(_summary(rule.function.__doc__))
            yield f"| {rule.function.__name__} | {_overloads(ops)} | {what} | {_exact(rule.exact)} |"
        yield ""


def _summary(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _overloads(ops: Iterable[Any]) -> str:
    """Names with their overloads: `max_pool2d`, `sum.default`; a whole packet by its name alone."""
    names: dict[str, list[str]] = {}
    for op in ops:
        if op._overloadname != "out" and not op._overloadname.endswith("_out"):
            names.setdefault(op._schema.name.split("::")[1], []).append(op._overloadname)
    shown = [name if len(found) > 1 or found == ["default"] else f"{name}.{found[0]}" for name, found in names.items()]
    return ", ".join(f"`{name}`" for name in shown)


def _exact(exact: Exact) -> str:
    parts = [(word, getattr(exact, kind)) for kind, word in KINDS.items()]
    return "<br>".join(f"**{word}**: {_cell(text)}" for word, text in parts if text)


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    text = page()
    if check:
        stale = not PAGE.exists() or PAGE.read_text() != text
        sys.stderr.write("docs/operators.md is stale: run python docs/operators.py\n" * stale)
        return int(stale)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
