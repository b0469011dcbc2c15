"""Why two layers share a width, and why one must stay: the text of `WidthGraph.why`."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
from collections.abc import Iterator, Mapping
from typing import Protocol

from ..errors import WidthError
from ..layouts.layout import Layout, atoms
from ..spec.patterns import is_pattern
from .groups import Group
from .ties import Ties


class Tensor(Protocol):
    """What explanations read of a parameter or buffer."""

    @property
    def layouts(self) -> tuple[Layout, ...]: ...


class Widths(Protocol):
    """What explanations read of a `WidthGraph`, which gives them."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...

    @property
    def groups_by_name(self) -> Mapping[str, Group]: ...

    @property
    def ties(self) -> Ties: ...

    def named(self, name: str) -> str: ...

    def state(self, name: str) -> str: ...

    def is_width(self, group: Group) -> bool: ...

    def produced(self, tensor: str) -> Layout: ...


class Explanation:
    """What the widths of a model say of its layers.

    Args:
        graph: The widths.
    """

    def __init__(self, graph: Widths) -> None:
        self.graph = graph
        self._inside: dict[str, list[str]] = {}  # the parameters and buffers in each module, and each by its own name
        for tensor in graph.tensors:
            for place in itertools.accumulate(tensor.split("."), "{}.{}".format):
                self._inside.setdefault(place, []).append(tensor)

    def of(self, a: str, b: str | None) -> str:
        """What `WidthGraph.why` says, with a line for each width or each operator, however long.

        Raises:
            WidthError: There is no such name.
        """
        for name in (a,) if b is None else (a, b):
            if not is_pattern(name):
                raise WidthError(f"why takes names of layers, not {name!r:.80}")
        a, b = self.graph.named(a), None if b is None else self.graph.named(b)
        if b is None:
            return "\n".join(dict.fromkeys(line for name in self._meant(a) for line in self._lines(name))) or (
                f"{a} has a fixed size"
            )
        return self._path(a, b)

    def _path(self, a: str, b: str) -> str:
        ties = self.graph.ties
        starts, ends = ([self._var(name) for name in self._meant(pattern)] for pattern in (a, b))
        paths = []
        for start in dict.fromkeys(starts):
            reached = ties.paths(start)
            paths += [reached[end] for end in dict.fromkeys(ends) if end in reached]
        if not paths:
            return f"nothing ties {a} and {b}"
        path = min(paths, key=len)
        steps = [f"  {x} -- {ties.site(x, y)} -- {y}" for x, y in itertools.pairwise(path)]
        mine, theirs = ({n for name in self._meant(one) for n in atoms(self._layout(name))} for one in (a, b))
        head = f"{a} and {b} share one width:" if mine & theirs else f"{a} and {b} hang together, but not as one width:"
        return "\n".join([head, *steps]) if steps else f"{a} and {b} are the same dimension"

    def _meant(self, pattern: str) -> list[str]:
        """The names that a glob means: modules with parameters, or else parameters or width groups; or the name."""
        graph = self.graph
        if pattern in graph.groups_by_name or not any(c in pattern for c in "*?["):
            return [pattern]
        layers = dict.fromkeys(t.rpartition(".")[0] or t for t in graph.tensors)
        named = (layers, graph.tensors, graph.groups_by_name)
        return next(filter(None, (fnmatch.filter(names, pattern) for names in named)), [pattern])

    def _lines(self, name: str) -> Iterator[str]:
        graph = self.graph
        said = dict.fromkeys(atoms(self._layout(name)))
        yield from map(self._state, said)
        for tensor in self._inside.get(name, ()):
            for dim, layout in enumerate(graph.tensors[tensor].layouts):
                for part in atoms(layout):
                    if part not in said and graph.is_width(graph.groups_by_name[part]):
                        said[part] = None
                        yield f"{tensor}[{dim}]: {self._state(part)}"

    def _state(self, name: str) -> str:
        return f"{name} ({self.graph.groups_by_name[name].size}) {self.graph.state(name)}"

    def _layout(self, name: str) -> Layout:
        if name in self.graph.groups_by_name:
            return ((name,),)
        return self.graph.produced(self._tensor(name))

    def _var(self, name: str) -> str:
        if name in self.graph.groups_by_name and name not in self._inside:
            tensor, dim = self.graph.groups_by_name[name].members[0]
            return f"{tensor}[{dim}]"
        tensor = self._tensor(name)
        at = self.graph.tensors[tensor].layouts.index(self.graph.produced(tensor))
        return f"{tensor}[{at}]"

    def _tensor(self, name: str) -> str:
        tensors = self._inside.get(name)
        if not tensors:
            modules = {t.rpartition(".")[0] for t in self.graph.tensors}
            close = difflib.get_close_matches(name, [*modules, *self.graph.tensors], 3)
            raise WidthError(f"no layer or parameter {name!r}{'; close: ' if close else ''}{', '.join(close)}")
        return tensors[0]
