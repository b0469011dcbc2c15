"""The language of the rules: what an operator's rule can say of widths, and where that is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import fx

from ..base.structures import ArgumentPath
from ..capture.traced import Traced
from ..layouts.layout import Layout, fixed, is_fixed, of, product
from ..layouts.unify import Inexpressible, Kind, Unifier, size
from ..model.copies import named_tensors
from ..model.layer_kinds import LAYER_NORM
from ..model.tree import Mode, module_at
from ..ops import Env, Value
from . import literals
from .attributes import Attribute
from .findings import CONTRACT, Findings, Norm
from .literals import Spelling

T = TypeVar("T")


class RuleEnv(Env):
    """What rules say of the call at work goes into the findings, in terms of one unifier's variables."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.tensors = named_tensors(traced.root)
        self.unifier = Unifier()
        entered = {
            name: tuple(
                of(self.unifier.fresh(f"{name}[{d}]", n)) if n != 0 else fixed(0) for d, n in enumerate(tensor.shape)
            )
            for name, tensor in self.tensors.items()
        }
        self.findings = Findings(self.unifier, entered, {}, [], [], [], [], {}, {}, {}, {}, [], [])
        self.op: Any = None
        self.node: fx.Node | None = None
        self.spelling: Spelling | None = None  # the call at work, where no graph has a node for it
        self.called: str | None = None  # the module whose own code is at work
        self.mode: Mode = "eval"
        self.outs: tuple[tuple[int, ...], ...] = ()
        self.strides: tuple[tuple[int, ...], ...] = ()
        self.dtypes: tuple[torch.dtype, ...] = ()
        self._contracted: Counter[tuple[int, int]] = Counter()  # (value, dimension) of the call at work
        self._expected: list[tuple[int, Layout, Layout]] = []
        self._summed: list[tuple[Value, int]] = []
        self._norm: tuple[Value | None, Value | None, Norm] | None = None
        self._declared: dict[str, tuple[Layout, ...]] = {}

    def unify(self, a: Layout, b: Layout) -> None:
        self._expressed(lambda: self.unifier.unify(a, b), a, b)

    def pin(self, layout: Layout, reason: str) -> None:
        self.unifier.pin(layout, reason)

    def cut(self, layout: Layout, position: int) -> tuple[Layout, Layout]:
        length = size(layout)
        if position == length:
            return layout, fixed(0)
        if position == 0:
            return fixed(0), layout
        return self._expressed(lambda: self.unifier.cut(layout, position), layout)

    def split(self, layout: Layout, sizes: Sequence[int], kinds: Sequence[Kind]) -> list[Layout]:
        return self._expressed(lambda: self.unifier.split_into(layout, sizes, kinds), layout)

    def _expressed(self, step: Callable[[], T], *layouts: Layout) -> T:
        """A step of the unification; where it fails, it is tried with fixed sizes for the dimensions of inputs."""
        while True:
            try:
                return step()
            except Inexpressible:
                if not self.unifier.fix_inputs(layouts):
                    raise

    def kinds(self, sizes: Sequence[int]) -> tuple[Kind, ...]:
        return literals.kinds(self.spelling or self.node, sizes)

    def count(self, size: int) -> Layout:
        return of(self.unifier.fresh(f"groups of {self.unifier.site}", size, count=True))

    def elastic(self, size: int) -> Layout:
        return (
            fixed(size) if size < 2 else of(self.unifier.fresh(f"constant of {self.unifier.site}", size, elastic=True))
        )

    def contract(self, value: Value, dim: int) -> None:
        if not value.origin:
            self.pin(value.layouts[dim], f"{self.unifier.site} sums over it between two activations")
            return
        self.findings.contractions.append((value.layouts[dim], value.origin, value.dims[dim], self.unifier.site))
        for source in value.dims[dim]:
            self.findings.roles.setdefault((value.origin, source), set()).add(CONTRACT)
        self._contracted[id(value), dim % len(value.layouts)] += 1
        self._summed.append((value, dim % len(value.layouts)))

    def uniform(self, layouts: Sequence[Layout], reason: str) -> None:
        wide = [layout for layout in layouts if not is_fixed(layout)]
        if wide:
            self.findings.uniform.append((product(layouts), f"{reason} in {self.unifier.site}"))
            for layout in wide:
                self.replicas_only(layout, reason)

    def centred(self, x: Value, over: Sequence[Layout], weight: Value | None, bias: Value | None, eps: float) -> None:
        self.uniform(over, "a layer norm")
        module, literal = self._eps(eps)
        self._norm = (weight, bias, Norm(None, None, 4, eps, module, literal))

    def _eps(self, eps: float) -> tuple[str | None, tuple[Mode, str, ArgumentPath] | None]:
        """Where the eps of the layer norm at work is stated: by a module, or by a literal of the graph."""
        if self.called is not None:
            module = module_at(self.traced.root, self.called)
            own = any(type(module).forward is cls.forward for cls in LAYER_NORM.classes)
            return (self.called if own and getattr(module, "eps", None) == eps else None), None
        node = self.node
        if node is None or self.spelling is not None or node.op != "call_function":
            return None, None
        if node.target not in (*LAYER_NORM.functions, *LAYER_NORM.native):
            return None, None
        path, stated = literals.argument(node, 4, "eps")
        if len(node.args) <= 4 and "eps" not in node.kwargs:
            stated = eps  # the default
        return None, (self.mode, node.name, path) if isinstance(stated, int | float) and stated == eps else None

    def replicas_only(self, layout: Layout, reason: str) -> None:
        self.findings.replicas.append((layout, f"{reason} in {self.unifier.site}"))

    def expect(self, argument: int, front: Layout, back: Layout = ()) -> None:
        self._expected.append((argument, front, back))

    def declare(self, **sizes: Layout | list[Layout]) -> None:
        found = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in sizes.items()}
        self._declared.update(found)
        if self.called is not None:
            self.findings.attributes += [Attribute(self.called, name, layouts) for name, layouts in found.items()]

    def note(self, layouts: Sequence[Layout], text: str) -> None:
        self.findings.notes.extend((layout, text) for layout in layouts)
