"""Widths that are alike are one box, "×12": the heads of twelve encoder layers, the inner widths of 35 blocks.

Two boxes are alike if their names differ only in numbers, their widths, types and states are equal, and their arrows
lead to and from boxes that are alike, or are the same one. These are the classes of the coarsest partition that is
stable under refinement by neighbours. A chain of boxes that are equal but for their place in it is one box, too.

Source: Paige and Tarjan, "Three partition refinement algorithms" (1987): the coarsest stable partition.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from .folding import total
from .view import Edge, Node

ALIKE = 3  # boxes that are alike are one from this number on; in a picture that does not read otherwise, two are, too


def alike(nodes: Sequence[Node], edges: Sequence[Edge], least: int = ALIKE) -> dict[str, str]:
    """The first box of each class or chain of at least so many boxes, by the key of each of its boxes."""
    looks = {node.key: _looks(node) for node in nodes}
    classes: dict[int, list[str]] = {}
    for key, number in _refined(looks, edges).items():
        classes.setdefault(number, []).append(key)
    rows = [row for row in classes.values() if len(row) >= least]
    taken = {key for row in rows for key in row}
    rows += [row for row in _chains(nodes, edges, looks) if len(row) >= least and not taken & {*row}]
    return {key: row[0] for row in rows for key in row}


def _looks(node: Node) -> Hashable:
    """What a box says, but for the numbers in its name."""
    return node.kind, re.sub(r"\d+", "#", node.path or node.key), node.what, node.size, node.state, node.new


def _refined(looks: Mapping[str, Hashable], edges: Sequence[Edge]) -> dict[str, int]:
    """The class of each box in the coarsest stable partition.

    Classes are split by their arrows into one class after another. Of the parts of a class that was such a splitter,
    all but the largest are splitters in their turn, so that each arrow is looked at a logarithmic number of times.
    """
    near: dict[str, list[tuple[str, Hashable]]] = {key: [] for key in looks}
    for edge in edges:
        kind = edge.label, edge.skip, edge.back, edge.when
        near[edge.target].append((edge.source, (*kind, "to")))
        near[edge.source].append((edge.target, (*kind, "from")))
    classes = _numbered(looks)
    members: list[set[str]] = [set() for _ in {*classes.values()}]
    for key, number in classes.items():
        members[number].add(key)
    splitters = set(range(len(members)))
    while splitters:
        arrows: dict[str, Counter[Hashable]] = {}
        for one in members[splitters.pop()]:
            for key, arrow in near[one]:
                arrows.setdefault(key, Counter())[arrow] += 1
        parts: dict[int, dict[Hashable, set[str]]] = {}
        for key, counts in arrows.items():
            parts.setdefault(classes[key], {}).setdefault(frozenset(counts.items()), set()).add(key)
        for number, split in parts.items():
            for part in _all_but_largest(members[number], [*split.values()]):
                splitters.add(len(members))
                classes.update(dict.fromkeys(part, len(members)))
                members[number] -= part
                members.append(part)
    return classes


def _all_but_largest(whole: set[str], parts: list[set[str]]) -> list[set[str]]:
    """Disjoint parts of a set, and what is in none of them, without the largest of these."""
    rest = len(whole) - sum(map(len, parts))
    largest = max(parts, key=len)
    if rest >= len(largest):
        return parts
    return [*(part for part in parts if part is not largest), *([whole.difference(*parts)] if rest else [])]


def _numbered(keys: Mapping[str, Hashable]) -> dict[str, int]:
    numbers: dict[Hashable, int] = {}
    return {name: numbers.setdefault(key, len(numbers)) for name, key in keys.items()}


def _chains(nodes: Sequence[Node], edges: Sequence[Edge], looks: Mapping[str, Hashable]) -> Iterator[list[str]]:
    """Chains of boxes that look equal, each read by the next one alone, by arrows with one label."""
    readers, sources = (Counter(getattr(edge, end) for edge in edges) for end in ("source", "target"))
    after = {
        edge.source: edge
        for edge in edges
        if readers[edge.source] == sources[edge.target] == 1
        and not edge.back
        and edge.when == "both"
        and looks[edge.source] == looks[edge.target]
    }
    inner = {edge.target for edge in after.values()}
    for start in [node.key for node in nodes if node.key in after and node.key not in inner]:
        row, label = [start], after[start].label
        while (edge := after.get(row[-1])) is not None:
            if edge.label != label:
                yield row
                row, label = [], edge.label
            row.append(edge.target)
        yield row


def merged(
    nodes: Sequence[Node], edges: Sequence[Edge], into: Mapping[str, str]
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The boxes and arrows with one box for all that are alike."""
    rows: dict[str, list[Node]] = {}
    for node in nodes:
        rows.setdefault(into.get(node.key, node.key), []).append(node)
    kept: dict[tuple[str, str, str, str], list[Edge]] = {}
    for edge in edges:
        ends = into.get(edge.source, edge.source), into.get(edge.target, edge.target)
        if ends[0] != ends[1] or edge.source == edge.target:
            kept.setdefault((*ends, edge.label, edge.when), []).append(edge)
    return (
        tuple(row[0] if len(row) == 1 else _one(row) for row in rows.values()),
        tuple(
            replace(same[0], source=ends[0], target=ends[1], tip=_tip(same), main=any(edge.main for edge in same))
            for ends, same in kept.items()
        ),
    )


def _tip(edges: Sequence[Edge]) -> str:
    return ", ".join(dict.fromkeys(edge.tip for edge in edges if edge.tip))


def _one(row: Sequence[Node]) -> Node:
    return replace(
        row[0],
        path=ranged([node.path or node.key for node in row]),
        times=len(row),
        groups=tuple(dict.fromkeys(name for node in row for name in node.groups)),
        parameters=total(node.parameters for node in row),
        flops=total(node.flops for node in row),
        inside=tuple(dict.fromkeys(name for node in row for name in node.inside)),
        paths=tuple(node.path for node in row if node.path),
    )


def ranged(paths: Sequence[str]) -> str:
    """One name for paths that differ in numbers, each from its first to its last: "layers.0…11.fc"."""
    steps = [re.split(r"(\d+)", path) for path in paths]
    if len({len(one) for one in steps}) > 1:
        return f"{paths[0]} … {paths[-1]}"
    return "".join(
        first if len({one[i] for one in steps}) == 1 else f"{first}…{steps[-1][i]}" for i, first in enumerate(steps[0])
    )
