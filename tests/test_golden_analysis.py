"""What inference finds in each network of the registry, before any check, is what the golden files say.

The check of a plan mends much of what inference gets wrong: a width that it pins is no error, so the tests of students
pass. Here each layout, use, literal and attribute is seen, and what a plan grows. Where a change is meant,
`python -m tests.test_golden_analysis` writes the files anew; read the difference.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxgrow.infer.findings import CONTRACT
from fxgrow.infer.width_graph import WidthGraph
from fxgrow.layouts.layout import Layout
from tests.analysed import EACH, Output, analysed, planned
from tests.nets import NETS, Net
from tests.thinned import thinned

FOLDER = Path(__file__).parent / "golden" / "analysis"
OUTPUTS: tuple[Output, ...] = ("graph", "module")
HEADING = "## "


def _said(layout: Layout) -> str:
    """A layout in one word: blocks are joined by +, factors by *."""
    blocks = ["*".join(f"({_said(f)})" if isinstance(f, tuple) else str(f) for f in block) or "1" for block in layout]
    return "+".join(blocks).replace(" ", "_")


def _described(widths: WidthGraph) -> Iterator[str]:
    for group in widths.groups_by_name.values():
        marks = [name for name in ("uniform", "replicas", "deferred_to", "count") if getattr(group, name)]
        together = sorted(group.ratio - {group.name})
        state = ["pinned"] if group.pinned else [*marks, *together]
        yield " ".join(["width", group.name.replace(" ", "_"), str(group.size), *state])
    for tensor in widths.tensors.values():
        uses = [
            f"sum:{_said(la)}" if role == CONTRACT else _said(la)
            for la, role in zip(tensor.layouts, tensor.roles, strict=True)
        ]
        yield " ".join(["tensor", tensor.name, tensor.kind, *uses])
    for literal in widths.literals:
        path = "".join(f"[{key}]" for key in literal.path)
        sign = "-" if literal.sign < 0 else ""
        part = "" if literal.part is None else " {}:{}".format(*literal.part)
        yield f"literal {literal.mode} {literal.node}{path} {sign}{_said(literal.layout)}{part}"
    stated: dict[str, dict[str, str]] = defaultdict(dict)
    for attribute in widths.attributes:
        stated[attribute.module][attribute.name] = ",".join(map(_said, attribute.layouts))
    for module, sizes in stated.items():
        yield " ".join(["attributes", module, *(f"{name}={size}" for name, size in sizes.items())])
    for fixed in widths.fixed:
        yield f"fixed {fixed.dims} {' '.join(map(_said, fixed.layouts))}"
    for outputs in dict.fromkeys(widths.outputs.values()):
        yield " ".join(["returned", *(",".join(map(_said, layouts)) for layouts in outputs)])


def described(net: Net, output: Output) -> list[str]:
    """The analysis of a net in lines; what a plan of the factor 2 grows and leaves."""
    plan = planned(net.name, output, 2.0)
    grown = [f"{width.name.replace(' ', '_')}={width.new}" for width in plan.grown_widths]
    left = [entry.name.replace(" ", "_") for entry in plan.skipped]
    return [*_described(analysed(net.name, output)), " ".join(["grown", *grown]), " ".join(["left", *left])]


def both(net: Net) -> list[str]:
    """The analysis for a graph; for a module what differs from that, but for literals, which only graphs have."""
    graph, module = (described(net, output) for output in OUTPUTS)
    more = [f"module + {line}" for line in module if line not in graph]
    less = [f"module - {line}" for line in graph if line not in module and not line.startswith("literal")]
    return [*graph, *more, *less]


def _file(net: Net) -> Path:
    return FOLDER / f"{net.build.__module__.rpartition('.')[2]}.txt"


def golden(net: Net) -> list[str]:
    """What the file of the net's family says of it."""
    text = _file(net).read_text()
    start = text.index(f"{HEADING}{net.name}\n")
    return text[start:].split(f"\n{HEADING}")[0].strip().split("\n")[1:]


@thinned("golden")
@pytest.mark.parametrize("net", EACH)
def test_the_analysis_is_that_of_the_golden_file(net: Net) -> None:
    lines = list(difflib.unified_diff(golden(net), both(net), "golden", "found", lineterm="", n=0))
    assert not lines, "\n".join(lines)


def test_no_golden_analysis_is_left_over() -> None:
    names = {line for file in FOLDER.glob("*.txt") for line in file.read_text().split("\n") if line.startswith(HEADING)}
    assert names == {HEADING + name for name in NETS}


if __name__ == "__main__":
    by_file = defaultdict(list)
    for one in NETS.values():
        by_file[_file(one)] += [HEADING + one.name, *both(one)]
    for file, lines in by_file.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
