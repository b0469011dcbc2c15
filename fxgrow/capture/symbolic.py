"""One attempt to trace a module tree."""

from __future__ import annotations

import operator
import warnings

from torch import Tensor, fx, nn

from ..base.isolation import flags_restored
from ..errors import TraceError
from ..model.copies import DEVICE, Inventory
from ..model.generated_code import check_arguments
from ..recording.answers import Answers, answering
from ..recording.model_run import explain
from .attempt import Attempt
from .constants import of_constants
from .lenient_autograd import lenient_autograd
from .lost_in_graphs import check_caught, check_unchanged
from .origins import VALUE
from .patches import (
    DrawnError,
    draws_privately,
    nothing_lost_in_all,
    patched,
    watching,
)
from .proxy import guard_form
from .settings import settings_asked
from .tracer import Restart, Tracer


def symbolic_trace(tracer: Tracer, root: nn.Module, held: Inventory) -> Attempt:
    """Trace a module tree of our own, which consists of this.

    Raises:
        DrawnError: Some module draws from Python's random numbers; trace again and find out which.
        TraceError: The root's own code cannot be traced. A lenient trace ends there instead, without a result.
    """
    tape, lenient = tracer.tape, tracer.lenient
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if draws_privately(root) and not lenient:
                raise TraceError("it holds a generator of random numbers of its own")
            answers = Answers(root.__dict__.get(DEVICE), stand_in=tracer.device_of)
            lost = flags_restored(held.tensors) if lenient else nothing_lost_in_all(root, held.tensors, real=tape.real)
            also = [*watching(tracer), *of_constants(), *tracer.conversions.targets()]
            also += lenient_autograd(tracer) if lenient else settings_asked(tracer.asked_for_setting, held.paths)
            with answering(answers, held.paths), lost, patched(tracer, also):
                graph = tracer.trace(root)
                if not lenient:
                    check_caught(tracer.caught, "")
                    check_unchanged(tracer.frozen)
    except Restart:
        return Attempt(tracer.graph, tracer.new_leaves)
    except Exception as error:
        if tracer.new_leaves:
            return Attempt(tracer.graph, tracer.new_leaves)
        if isinstance(error, DrawnError) and not tracer.find_draws:
            raise
        if not lenient:
            raise TraceError(explain(error)) from error
        graph, tracer.loses = tracer.graph, True
        made = [node for node in graph.nodes if isinstance(node.meta.get(VALUE), Tensor)]
        tracer.create_node("output", "output", (made[-1] if made else None,), {})
    finally:
        tracer.close()
        tape.release()
    (output,) = (node for node in graph.nodes if node.op == "output")
    result = fx.node.map_arg(output.args[0], lambda node: node.meta[VALUE])
    if tracer.form_matters:
        guard_form(graph)
    for node in reversed(graph.nodes):
        node.type = None  # annotations of the user's module, which its source code alone could resolve
        if not node.users and _is_plain(node):
            graph.erase_node(node)
    graph.lint()
    check_arguments(root, graph)
    asked = tracer.mode_matters, tracer.layers_change, tracer.may_freeze
    return Attempt(graph, tracer.new_leaves, result, *asked, whole=not tracer.loses and not tracer.may_freeze)


def _is_plain(node: fx.Node) -> bool:
    """Whether a node reads a size only; it is removable where it has no users."""
    return node.target in (getattr, operator.getitem) and not isinstance(node.meta[VALUE], Tensor)
