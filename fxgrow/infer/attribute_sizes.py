"""Attributes of modules that the code reads as sizes, and every place that they are passed on to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..base.structures import ArgumentPath
from ..capture.attribute_ints import AttributeInt, Source, attribute_ints_in
from ..capture.traced import Traced
from ..layouts.layout import Layout, fixed
from ..layouts.unify import Inexpressible, Unifier
from ..model.tree import module_at
from .attributes import Attribute
from .findings import Findings
from .literals import Literal


class AttributeSizes:
    """What the attributes are the sizes of."""

    def __init__(self, unifier: Unifier) -> None:
        self.unifier = unifier
        self._layouts: dict[Source, Layout] = {}

    def state(self, value: Any, layout: Layout) -> None:
        """A size in the user's code is that of a layout; if it was read from an attribute, that follows."""
        if type(value) is AttributeInt:
            self._layouts[value.source] = layout

    def state_in_code(self, value: Any, layout: Layout) -> None:
        """The same where code reads the attribute each time: all that it is the size of has one size."""
        if type(value) is AttributeInt:
            known = self._layouts.get(value.source, layout)
            with suppress(Inexpressible):  # the check of the student finds what that leaves
                self.unifier.expressed(lambda: self.unifier.unify(known, layout), known, layout)
        self.state(value, layout)

    def add_to(self, findings: Findings, traced: Traced) -> None:
        """Add the attributes whose layout is known, and every other place in the graphs that they were passed on to."""
        findings.attributes.extend(self._attributes(traced))
        known = {(literal.mode, literal.node, literal.path) for literal in findings.literals}
        findings.literals.extend(li for li in self._literals(traced) if (li.mode, li.node, li.path) not in known)

    def _attributes(self, traced: Traced) -> Iterator[Attribute]:
        for path, name, index in self._layouts:
            value = getattr(module_at(traced.root, path), name, None)
            if index < 0:
                yield Attribute(path, name, (self._layouts[path, name, index],))
            elif isinstance(value, tuple | list):
                entries = tuple(self._layouts.get((path, name, i), fixed(v)) for i, v in enumerate(value))
                yield Attribute(path, name, entries)

    def _literals(self, traced: Traced) -> Iterator[Literal]:
        for mode in traced.modes:
            for node in traced.graph(mode).nodes:
                for kind, arguments in (("args", node.args), ("kwargs", node.kwargs)):
                    for steps, value in attribute_ints_in(arguments):
                        path: ArgumentPath = (kind, *steps)
                        if value.source in self._layouts:
                            yield Literal(mode, node.name, path, self._layouts[value.source])
