"""fxgrow: trained PyTorch networks made wider and deeper, computing the same function and training on.

What is listed in `__all__` is public, and so are `fxgrow.methods.register` and `fxgrow.ops.rule` with what their
folders list in theirs. Everything else may change in any version.
"""

from . import methods, ops
from .api import apply, draw, grow, plan, summary, trace, verify, widths
from .base.version import __version__
from .capture.traced import Traced
from .drawing.inline import Inline
from .errors import DrawError, EquivalenceError, FxgrowError, GrowError, PlanError, TraceError, WidthError
from .infer.width_graph import WidthGraph
from .model.activations import ParametricActivation
from .model.example_inputs import ExampleInputs
from .plans.growth_plan import Plan
from .report.report import Report
from .report.summary_table import Summary
from .rewrite.student import plan_of
from .spec.parse import Spec, Widen
from .spec.requests import Deepen, Inputs, Kernel, Outputs

__all__ = [
    "Deepen",
    "DrawError",
    "EquivalenceError",
    "ExampleInputs",
    "FxgrowError",
    "GrowError",
    "Inline",
    "Inputs",
    "Kernel",
    "Outputs",
    "ParametricActivation",
    "Plan",
    "PlanError",
    "Report",
    "Spec",
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
    "methods",
    "ops",
    "plan",
    "plan_of",
    "summary",
    "trace",
    "verify",
    "widths",
]
