"""fxgrow: trained PyTorch networks made wider and deeper, computing the same function and training on."""

from .api import apply, draw, grow, plan, summary, trace, verify, widths
from .base.version import __version__
from .errors import DrawError, EquivalenceError, GrowError, PlanError, TraceError, WidthError
from .infer.width_graph import WidthGraph
from .model.activations import ParametricActivation
from .plans.growth_plan import Plan
from .report.report import Report
from .report.summary_table import Summary
from .rewrite.student import plan_of
from .spec.parse import Widen
from .spec.requests import Deepen, Inputs, Kernel, Outputs

__all__ = [
    "Deepen",
    "DrawError",
    "EquivalenceError",
    "GrowError",
    "Inputs",
    "Kernel",
    "Outputs",
    "ParametricActivation",
    "Plan",
    "PlanError",
    "Report",
    "Summary",
    "TraceError",
    "Widen",
    "WidthError",
    "WidthGraph",
    "__version__",
    "apply",
    "draw",
    "grow",
    "plan",
    "plan_of",
    "summary",
    "trace",
    "verify",
    "widths",
]
