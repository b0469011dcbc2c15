"""The errors of fxgrow: each names what was found, what was expected and what to do next."""


class FxgrowError(ValueError):
    """The base of all errors of fxgrow."""


class GrowError(FxgrowError):
    """A network cannot be grown as asked; nothing was changed."""


class TraceError(GrowError):
    """The model cannot be turned into a graph that provably computes what the model computes."""


class WidthError(GrowError):
    """The widths of the model cannot be inferred, or a name in a question about them does not exist."""


class PlanError(GrowError):
    """The specification cannot be met: no match, two requests that disagree, or a width that must stay."""


class EquivalenceError(GrowError):
    """The student does not compute what the teacher computes."""


class DrawError(FxgrowError):
    """The drawing cannot be made: nothing to draw, unknown level or suffix, or Graphviz is missing."""


class Unfit(Exception):
    """Internal: a request does not apply here; the message becomes the reported reason."""


def in_words(error: BaseException) -> str:
    """The kind of an exception and the first line of its message, whatever the message is made by."""
    kind = type(error).__name__
    try:
        reason = str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 - a __str__ of the user's own
        reason = ""
    if reason.startswith("While executing %"):  # what torch.fx says of an error without a text
        reason = ""
    return f"{kind}: {reason}" if reason else kind
