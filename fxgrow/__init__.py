"""fxgrow: trained PyTorch networks made wider and deeper, computing the same function and training on.

What is listed in `__all__` is public, and so are `fxgrow.methods.register` and `fxgrow.ops.rule` with what their
folders list in theirs. Everything else may change in any version.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .base.isolation import no_collection

with no_collection():  # what is imported stays; a full collection here would go through all of torch, for nothing
    from . import methods, ops, state
    from .api import apply, grow, plan, trace, widths
    from .base.version import __version__
    from .capture.traced import Traced
    from .checkpoint import Loaded, grow_checkpoint, load, save
    from .errors import DrawError, EquivalenceError, FxgrowError, GrowError, PlanError, TraceError, WidthError
    from .infer.width_graph import WidthGraph
    from .model.activations import ParametricActivation
    from .model.example_inputs import ExampleInputs, Forms
    from .plans.growth_plan import Plan
    from .rewrite.lineage import plan_of
    from .scoring import Scores, scores
    from .spec.budget import Budget
    from .spec.parse import Spec, Widen
    from .spec.requests import Deepen, Inputs, Kernel, Outputs
    from .state.plain import PlainData
    from .training import Epoch, GrowthSchedule, Plateau, Step

_LATE = {"match": ".matching"} | dict.fromkeys(("Inline", "Report", "Summary", "draw", "summary", "verify"), ".examine")

if TYPE_CHECKING:
    from .drawing.inline import Inline
    from .examine import draw, summary, verify
    from .matching import match
    from .report.report import Report
    from .report.summary_table import Summary
else:

    def __getattr__(name: str) -> object:
        """What looks at a network is imported when it is first asked for: not all who grow one draw it."""
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with no_collection():
            module = import_module(_LATE[name], __name__)
        globals().update({late: getattr(module, late) for late, place in _LATE.items() if place == _LATE[name]})
        return globals()[name]


__all__ = [
    "Budget",
    "Deepen",
    "DrawError",
    "Epoch",
    "EquivalenceError",
    "ExampleInputs",
    "Forms",
    "FxgrowError",
    "GrowError",
    "GrowthSchedule",
    "Inline",
    "Inputs",
    "Kernel",
    "Loaded",
    "Outputs",
    "ParametricActivation",
    "PlainData",
    "Plan",
    "PlanError",
    "Plateau",
    "Report",
    "Scores",
    "Spec",
    "Step",
    "Summary",
    "TraceError",
    "Traced",
    "Widen",
    "WidthError",
    "WidthGraph",
    "__version__",
    "apply",
    "draw",
    "grow",
    "grow_checkpoint",
    "load",
    "match",
    "methods",
    "ops",
    "plan",
    "plan_of",
    "save",
    "scores",
    "state",
    "summary",
    "trace",
    "verify",
    "widths",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
