"""The tracer that reads a graph back from the code that FX wrote, as unpickling a GraphModule does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from ..model.fixed_sizes import check_sizes
from ..model.opaque import raise_unsupported_mode
from .patches import patched
from .proxy import ASKED, CONVERTED


class _CodeProxy(fx.Proxy):
    """A proxy for code that FX wrote: what a graph can hold, and FX's own proxy cannot."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __round__(self, *digits: Any) -> Any:
        return self.tracer.create_proxy("call_function", round, (self, *digits), {})


class Retracer(fx.Tracer):
    """What unpickling a GraphModule traces its code with."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        functions: tuple[Callable[..., Any], ...] = (*ASKED, *CONVERTED.values(), check_sizes, raise_unsupported_mode)
        super().__init__(autowrap_functions=functions)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _CodeProxy(node, self)

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with patched(self):
            return super().trace(root, concrete_args)
