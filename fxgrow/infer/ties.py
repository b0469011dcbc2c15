"""Which dimensions operators tied together, as a graph: each edge is a tie, its site the operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Ties:
    """Ties between dimensions, each named `parameter[dimension]` or by a number of inference.

    networkx is imported where a path is asked for: importing it takes as long as importing all of fxgrow.

    Attributes:
        sites: The operator that made each tie, by its two dimensions.
    """

    sites: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, ties: Iterable[tuple[str, str, str]]) -> Ties:
        """Of (dimension, dimension, site) in order: the first tie of two dimensions counts."""
        sites: dict[tuple[str, str], str] = {}
        for a, b, site in ties:
            if (b, a) not in sites:
                sites.setdefault((a, b), site)
        return cls(sites)

    def site(self, a: str, b: str) -> str:
        """The operator that tied two dimensions."""
        return self.sites[(a, b) if (a, b) in self.sites else (b, a)]

    def paths(self, start: str) -> Mapping[str, list[str]]:
        """The shortest path from a dimension to each that hangs together with it."""
        import networkx as nx  # noqa: PLC0415 - see the class

        found: dict[str, list[str]] = nx.single_source_shortest_path(self._graph, start) if start in self else {}
        return found

    def towards(self, root: str) -> Mapping[str, str]:
        """For each dimension that hangs together with one, the next on the way to it."""
        import networkx as nx  # noqa: PLC0415 - see the class

        return dict(nx.bfs_predecessors(self._graph, root))

    def __contains__(self, dimension: str) -> bool:
        return dimension in self._graph

    @cached_property
    def _graph(self) -> nx.Graph:
        import networkx as nx  # noqa: PLC0415 - see the class

        graph = nx.Graph()
        graph.add_edges_from(self.sites)
        return graph
