"""Which tensors of a small model and a large one correspond: by name, and in numbered containers by place and kind.

Where the large model has more entries of a family (`layer1.0`, `layer1.1`, ... or `block_0`, `block_1`, ...), those of
the small one are aligned with them in order, as sequences are. What is left over is new: blocks, or layers of a chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..plans.numbering import PLACE

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

MOST_ENTRIES = 10_000  # of a container
OTHER = -1.0  # the score of a pair that shares no name
SMALLER = 0.5  # what a pair loses whose tensors would have to shrink
ALIKE = 0.3  # what it wins where all sizes are equal
IN_PROPORTION = 0.2  # and where they have one ratio


@dataclass(frozen=True, slots=True)
class NewBlocks:
    """Entries that only the large model has, behind one that both have, with entries of their own.

    Attributes:
        behind: The path of that one in the small model.
        paths: Their paths in the large model.
    """

    behind: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A linear layer or convolution in a chain that only the large model has.

    Attributes:
        after: The path of the layer of the small model that it follows.
        paths: Its own in the large model, and that of its norm.
        kernel: Its kernel size per axis; empty for a linear layer.
        normed: Whether a batch norm follows it.
    """

    after: str
    paths: tuple[str, ...]
    kernel: Shape
    normed: bool


@dataclass(slots=True)
class Correspondence:
    """What corresponds.

    Attributes:
        tensors: The large model's name of each tensor of the small one that it has.
        modules: The large model's path of each module with tensors.
        blocks: The new blocks.
        layers: The new layers, in order.
        renumbered: The containers of chains with new layers, whose entries without tensors stand elsewhere.
    """

    tensors: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    blocks: list[NewBlocks] = field(default_factory=list)
    layers: list[NewLayer] = field(default_factory=list)
    renumbered: set[str] = field(default_factory=set)

    def unpaired(self, small: Shapes, large: Shapes) -> tuple[list[str], list[str]]:
        """The tensors that only the small model has, and those that only the large one has and that are not new."""
        new = [path for block in self.blocks for path in block.paths]
        new += [path for layer in self.layers for path in layer.paths]
        inside = tuple(f"{path}." for path in new)
        paired = set(self.tensors.values())
        theirs = [name for name in large if name not in paired and not name.startswith(inside)]
        return [name for name in small if name not in self.tensors], theirs

    def path(self, module: str) -> str | None:
        """The path in the large model of any module of the small one; None where its place is not known."""
        steps = module.split(".")
        for known in range(len(steps), -1, -1):
            path = ".".join(steps[:known])
            if path in self.modules:
                moved = known < len(steps) and path in self.renumbered
                return None if moved else ".".join(filter(None, [self.modules[path], *steps[known:]]))
        return module


@dataclass(slots=True)
class _Node:
    """A module by the names and shapes of its tensors."""

    own: dict[str, Shape] = field(default_factory=dict)
    children: dict[str, _Node] = field(default_factory=dict)
    inside: dict[str, Shape] = field(default_factory=dict)  # also of the modules in it

    @classmethod
    def of(cls, shapes: Shapes) -> _Node:
        """The tree of a model."""
        root = cls()
        for name, shape in shapes.items():
            node = root
            *path, own = name.split(".")
            for at, step in enumerate(path):
                node.inside[".".join([*path[at:], own])] = shape
                node = node.children.setdefault(step, cls())
            node.own[own] = node.inside[own] = shape
        return root

    def child(self, name: str) -> _Node:
        """A child; one without tensors where there is none with some."""
        return self.children.get(name, _EMPTY)


_EMPTY = _Node()


def correspond(small: Shapes, large: Shapes) -> Correspondence:
    """Pair the tensors of two models.

    Args:
        small: The shapes of the small model's tensors by name, in its order.
        large: Those of the large one.
    """
    found = Correspondence()
    _align(found, _Node.of(small), _Node.of(large), "", "")
    return found


def _align(found: Correspondence, small: _Node, large: _Node, mine: str, its: str) -> None:
    found.modules[mine] = its
    for name in small.own:
        if name in large.own:
            found.tensors[_join(mine, name)] = _join(its, name)
    theirs = _families(large)
    for stem, names in _families(small).items():
        family = _Family(small, large, names, theirs.get(stem, []))
        for own, other in family.pairs:
            if own in small.children and other in large.children:
                _align(found, small.children[own], large.children[other], _join(mine, own), _join(its, other))
        for behind, new in family.new:
            if small.child(behind).children:
                found.blocks.append(NewBlocks(_join(mine, behind), tuple(_join(its, name) for name in new)))
            else:
                found.layers += _layers(family, behind, new, mine, its)
                found.renumbered.add(mine)


def _families(node: _Node) -> dict[str, list[str]]:
    """The children by the stem of their names, in order; those without a number are families of their own.

    Numbers that are missing are entries without tensors, such as activations.
    """
    families: dict[str, list[str]] = {}
    for name in node.children:
        place = PLACE.fullmatch(name)
        families.setdefault(name if place is None else f"{place[1]}#", []).append(name)
    numbers = [int(name) for name in families.get("#", ())]
    if numbers and max(numbers) < MOST_ENTRIES:
        families["#"] = [str(number) for number in range(max(numbers) + 1)]
    return families


@dataclass
class _Family:
    """The entries of one stem in a container of both models."""

    small: _Node
    large: _Node
    mine: Sequence[str]
    theirs: Sequence[str]

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Which correspond; by name where the large model has no more."""
        if len(self.theirs) > len(self.mine):
            return self._aligned()
        same = [(name, name) for name in self.mine if name in self.theirs]
        if same or len(self.theirs) < len(self.mine):
            return same if len(same) == len(self.theirs) else list(zip(self.mine, self.theirs, strict=False))
        return list(zip(self.mine, self.theirs, strict=True))

    @property
    def new(self) -> Iterator[tuple[str, list[str]]]:
        """The entries that only the large model has, behind each that has some."""
        paired = {other: own for own, other in self.pairs}
        behind: str | None = None
        new: dict[str, list[str]] = {}
        for other in self.theirs:
            if other in paired:
                behind = paired[other]
            elif behind is not None and other in self.large.children:
                new.setdefault(behind, []).append(other)
        return iter(new.items())

    def _aligned(self) -> list[tuple[str, str]]:
        """The best way to place all of the small model's entries among the large one's in order; early ones first."""
        score = [[_likeness(self.small.child(a), self.large.child(b)) for b in self.theirs] for a in self.mine]
        n, m = len(self.mine), len(self.theirs)
        best = [[0.0] * (m + 1) for _ in range(n + 1)]
        for i in range(n - 1, -1, -1):
            best[i][m] = float("-inf")
            for j in range(m - 1, -1, -1):
                best[i][j] = max(score[i][j] + best[i + 1][j + 1], best[i][j + 1])
        pairs: list[tuple[str, str]] = []
        i = j = 0
        while i < n and j < m:
            if score[i][j] + best[i + 1][j + 1] >= best[i][j + 1]:
                pairs.append((self.mine[i], self.theirs[j]))
                i += 1
            j += 1
        return pairs


def _likeness(small: _Node, large: _Node) -> float:
    """How well an entry of the large model suits one of the small: names that they share, and sizes in proportion."""
    common = small.inside.keys() & large.inside.keys()
    if not common:
        return 0.0 if small.inside.keys() == large.inside.keys() else OTHER
    score = len(common) / len(small.inside.keys() | large.inside.keys())
    pairs = [(small.inside[name], large.inside[name]) for name in common]
    if any(len(a) != len(b) or any(x > y for x, y in zip(a, b, strict=True)) for a, b in pairs):
        return score - SMALLER
    ratios = {y / x for a, b in pairs for x, y in zip(a, b, strict=True) if x}
    return score + (ALIKE if ratios <= {1.0} else IN_PROPORTION if len(ratios) == 1 else 0.0)


def _layers(family: _Family, behind: str, new: Sequence[str], mine: str, its: str) -> Iterator[NewLayer]:
    """The linear layers and convolutions among new entries of a chain, each with its norm."""
    before = family.mine[: family.mine.index(behind) + 1]
    maps = [name for name in before if len(family.small.child(name).own.get("weight", ())) > 1]
    nodes = [(name, family.large.children[name].own) for name in new]
    for at, (_, own) in enumerate(nodes):
        weight = own.get("weight", ())
        if len(weight) > 1 and maps:
            normed = at + 1 < len(nodes) and "running_mean" in nodes[at + 1][1]
            paths = tuple(_join(its, new) for new, _ in nodes[at : at + 1 + normed])
            yield NewLayer(_join(mine, maps[-1]), paths, weight[2:], normed)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
