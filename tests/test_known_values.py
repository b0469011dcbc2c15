"""What is known of the tensors of a run, and whose calls are recorded in code that no graph shows."""

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxgrow.infer.findings import Findings
from fxgrow.infer.observer import ObservedRunner
from fxgrow.infer.values import KnownValues
from fxgrow.layouts.layout import of
from fxgrow.layouts.unify import Unifier
from fxgrow.model.opaque import call
from fxgrow.ops import Value
from fxgrow.recording.tape import Tape

aten = torch.ops.aten


def _known() -> tuple[KnownValues, Tape, Tensor, Value]:
    """A run on one tensor (8,) of a width, and what is known of it."""
    unifier = Unifier()
    value = Value((of(unifier.fresh("a", 8)),))
    x = torch.empty(8, device="meta")
    tape = Tape({"x": x})
    known = KnownValues(Findings(unifier, {}, {}))
    known.set([("x", value)])
    return known, tape, x, value


def test_of_a_tensor_that_no_call_made_nothing_is_known() -> None:
    known, tape, x, value = _known()
    known.set([(number, Value(())) for number in (1, 2)])
    assert known.if_known(tape, x) is value
    assert known.if_known(tape, torch.empty(8, device="meta")) is None
    assert known.if_known(tape, 8) is None


def test_rules_get_what_is_known_of_tensors_that_are_given_by_name() -> None:
    known, tape, x, value = _known()
    op = aten._scaled_dot_product_flash_attention_for_cpu.default
    given = known.arguments(tape, op, (x, x, x), {"attn_mask": x, "scale": 0.5})
    assert given.args == [value, value, value]
    assert given.kwargs == {"attn_mask": value, "scale": 0.5}
    assert given.keys == ("x",) * 4


def test_rules_get_what_is_known_of_tensors_in_lists() -> None:
    known, tape, x, value = _known()
    given = known.arguments(tape, aten.cat.default, ([x, x], 0), {})
    assert given.args == [[value, value], 0]


def _of_the_user(x: Tensor) -> Tensor:
    return x


def test_calls_are_looked_at_in_the_users_functions_and_not_in_those_of_torch() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    root = nn.Module()
    root.layer, root.own = nn.Linear(2, 2), type("Own", (nn.Module,), {})()
    runner = ObservedRunner(None, root, graph, Tape({}))  # type: ignore[arg-type]

    def looks(target: Any) -> bool:
        return runner._runs_code(graph.call_function(target, (x,)))

    assert [looks(target) for target in (torch.tanh, torch.cat, operator.getitem, math.sqrt, getattr)] == [False] * 5
    assert looks(_of_the_user)
    assert looks(call)
    assert not runner._runs_code(graph.call_method("view", (x, 2)))
    assert not runner._runs_code(graph.call_module("layer", (x,)))
    assert runner._runs_code(graph.call_module("own", (x,)))
