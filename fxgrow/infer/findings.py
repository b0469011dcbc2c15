"""What an inference finds: everything that the rules said, in terms of `Var`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.roles import Role
from ..base.structures import ArgumentPath
from ..capture.traced import Traced
from ..layouts.layout import InputDim, Layout, Places
from ..layouts.unify import Tie, Unifier
from ..model.tree import Mode
from ..ops import Linear, Value
from ..recording.call import Call
from ..recording.returned import Returned
from .attributes import Attribute
from .literals import Literal
from .tensor_kinds import TensorKinds

CARRY: Role = "carry"
CONTRACT: Role = "contract"
IS_OUTPUT = "it is an output of the model"
STATES = "the model's code states a size that growth would have to change"  # found by the check of a student
REQUEST = ", which fxgrow.Inputs("  # behind the size of an input, before its label
BETWEEN = "sums over it between two activations"  # why the size of a head must stay
FLAT = "new entries of {} are zero, where its function has no slope, so that they never train"


def input_of(reason: str) -> str:
    """The input whose channels a width has to be as many as, by the reason why it stays; empty for other reasons."""
    _, advice, rest = reason.partition(REQUEST)
    return rest.partition(", ...)")[0].strip("'\"") if advice else ""


@dataclass(frozen=True, slots=True)
class Lifted:
    """The inputs and outputs whose pins are lifted, so that their sizes are widths like all others.

    Attributes:
        inputs: (name, dimension) of inputs, by the names of `recording.run.named_inputs`.
        outputs: (parameter, dimension) whose widths may be those of outputs.
    """

    inputs: frozenset[InputDim] = frozenset()
    outputs: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class FixedDims:
    """Dimensions of inputs that must keep the example's sizes if some widths grow.

    Attributes:
        dims: (input, dimension), by the names of `recording.run.named_inputs`; -1: the number of dimensions.
        layouts: Which hold these widths.
        reason: Why.
    """

    dims: tuple[InputDim, ...]
    layouts: tuple[Layout, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm.

    Attributes:
        weight: The position of its gain among the call's tensors; None where it has none.
        bias: The same of its shift.
        argument: The position of eps among the call's arguments.
        eps: Its value.
        module: The module whose attribute `eps` that is, or None.
        literal: (mode, node, path) of the literal that it is, or None.
    """

    weight: int | None
    bias: int | None
    argument: int
    eps: float
    module: str | None = None
    literal: tuple[Mode, str, ArgumentPath] | None = None


@dataclass(frozen=True, slots=True)
class RowMoments:
    """A mean or a variance of the rows of a parameter, which has to stay the same where these are summed over.

    Attributes:
        origin: The parameter or buffer.
        over: The dimensions that a row consists of.
        reason: What depends on it.
        correction: That of the variance; None where only the mean has to stay.
    """

    origin: str
    over: frozenset[int]
    reason: str
    correction: float | None = None


KeyedValue = tuple[int | str | None, Value]  # what numbers a value on its tape, and what is known of it


@dataclass(frozen=True, slots=True)
class Flow:
    """What has to be known of a call to see where means over channels go.

    Attributes:
        linear: How a channel goes through that carries the mean of the others.
        ins: Its tensors.
        outs: Its results.
        contracts: (position in `ins`, dimension) of weights that are summed over.
        norm: The layer norm that it is.
        mutates: Whether it writes into its first argument.
        numbers: Whether plain numbers are among its first two arguments.
        floating: Whether all its results are real numbers.
    """

    linear: Linear
    ins: tuple[KeyedValue, ...]
    outs: tuple[KeyedValue, ...]
    contracts: tuple[tuple[int, int], ...] = ()
    norm: Norm | None = None
    mutates: bool = False
    numbers: bool = False
    floating: bool = True


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a call of the student must look like: the layouts of its tensors, and of its integer arguments."""

    ins: tuple[Layout, ...]
    outs: tuple[tuple[Layout, ...], ...]
    expected: tuple[tuple[int, Layout, Layout], ...]
    sized: tuple[int | str, ...]
    flow: Flow
    unread: tuple[Layout, ...] = ()  # of what goes in, the entries that are left out
    decided: Any = None  # the result itself, where its size or value depends on numbers in tensors


@dataclass(frozen=True, slots=True)
class Trial:
    """What an inference with other sizes of the inputs finds, where it agrees with the example's.

    Attributes:
        traced: The model with these inputs.
        changed: The dimensions of inputs that differ from the example's.
        findings: What it finds, in terms of the same variables for parameters.
        places: Where the number of dimensions differs, as in `Variant`.
    """

    traced: Traced
    changed: frozenset[InputDim]
    findings: Findings
    places: Mapping[str, Places] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """Everything that the rules said, in terms of `Var`.

    Attributes:
        unifier: What each width was found to be.
        tensors: The layouts of each parameter and buffer.
        inputs: The same of each input, by the names of `recording.run.named_inputs`.
        outputs: Per mode, the layouts of each tensor that the model returns.
        roles: How each (parameter, dimension) is used: carried, contracted, or both.
        contractions: (layout, parameter, its dimensions, site) of each sum over a weight's dimension.
        uniform: Layouts over which only equal replication is exact, and where.
        replicas: Layouts in which new channels have to be replicas, and where.
        silent: (layout, parameter, its dimensions, reason) where only new entries of zero are exact.
        nonzero: (layout, parameter, reason) where new rows must not be zero.
        row_moments: Moments of rows of weights that have to stay the same.
        plain_sums: Where a (weight, dimension) is summed over as it is, and not less the mean of its rows.
        notes: What a user should know where a layout grows.
        predictions: Per mode and call, what the student's call must look like.
        calls: Per mode, the calls of the teacher.
        returned: Per mode, what the teacher leaves behind, value by value.
        nodes: What is known of each node's result, by (mode, node).
        literals: Sizes stated in the graphs.
        attributes: Sizes stated by modules.
        kinds: What each parameter and buffer is passed as.
        mixed: Layouts of widths in calls whose meaning could depend on the sizes of the inputs.
        fixed: Dimensions of inputs whose sizes must stay if some widths grow.
        trials: The same for other sizes of the inputs.
        forms: The same for further forms of inputs; all but what a run leaves is shared with these.
    """

    unifier: Unifier
    tensors: dict[str, tuple[Layout, ...]]
    inputs: dict[str, tuple[Layout, ...]]
    outputs: dict[Mode, list[tuple[Layout, ...]]] = field(default_factory=dict)
    roles: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    contractions: list[tuple[Layout, str, tuple[int, ...], str]] = field(default_factory=list)
    uniform: list[tuple[Layout, str]] = field(default_factory=list)
    replicas: list[tuple[Layout, str]] = field(default_factory=list)
    silent: list[tuple[Layout, str, tuple[int, ...], str]] = field(default_factory=list)
    nonzero: list[tuple[Layout, str, str]] = field(default_factory=list)
    row_moments: list[RowMoments] = field(default_factory=list)
    plain_sums: dict[tuple[str, int], str] = field(default_factory=dict)
    notes: list[tuple[Layout, str]] = field(default_factory=list)
    predictions: dict[Mode, list[Prediction]] = field(default_factory=dict)
    calls: dict[Mode, list[Call]] = field(default_factory=dict)
    returned: dict[Mode, Returned] = field(default_factory=dict)
    nodes: dict[tuple[Mode, str], Any] = field(default_factory=dict)
    literals: list[Literal] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)
    kinds: TensorKinds = field(default_factory=TensorKinds)
    mixed: dict[Layout, None] = field(default_factory=dict)
    fixed: list[FixedDims] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    forms: list[Findings] = field(default_factory=list)

    def of_form(self, inputs: dict[str, tuple[Layout, ...]]) -> Findings:
        """Findings for another form of inputs, which add to the same roles and constraints."""
        own = replace(self, inputs=inputs, outputs={}, predictions={}, calls={}, returned={}, nodes={})
        own.literals, own.fixed, own.trials, own.forms = [], [], [], []
        self.forms.append(own)
        return own

    @property
    def ties(self) -> list[Tie]:
        """Which widths hang together, and where."""
        return self.unifier.ties
