"""The errors of fxgrow: each names what was found, what was expected and what to do next."""


class GrowError(ValueError):
    """A network cannot be grown as asked; nothing was changed."""


class TraceError(GrowError):
    """The model cannot be turned into a graph that provably computes what the model computes."""


class WidthError(GrowError):
    """The widths of the model cannot be inferred, or a name in a question about them does not exist."""


class PlanError(GrowError):
    """The specification cannot be met: no match, two requests that disagree, or a width that must stay."""


class DrawError(GrowError):
    """It cannot be drawn as asked: nothing to draw in it, no such level or suffix, or no Graphviz."""


class Unfit(Exception):
    """A part of a model that a request cannot be met for, and why; told to users as a reason."""


class EquivalenceError(GrowError):
    """The student does not compute what the teacher computes."""
