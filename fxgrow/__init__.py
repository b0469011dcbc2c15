"""fxgrow: trained PyTorch networks made wider and deeper, computing the same function and training on."""

from .activations import ParametricActivation
from .api import apply, draw, grow, plan, summary, trace, verify, widths
from .errors import DrawError, EquivalenceError, GrowError, PlanError, TraceError, WidthError
from .plan import Plan
from .report import Report
from .rewrite import plan_of
from .spec import Widen
from .summary import Summary
from .widths import WidthGraph
from .wishes import Deepen, Inputs, Kernel, Outputs

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
__version__ = "0.1.0"
