"""The public functions that grow: thin, with the work in `capture`, `infer`, `validate` and `rewrite`.

The file is long because each function has its whole documentation here, with an example, and overloads for type
checkers. It is not split: users read it as one page. Those that look at what has grown are in `examine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, TypeVar, cast, overload

from torch import fx, nn

from . import methods
from .base.isolation import isolated, own_device
from .base.progress_bar import shown
from .base.scalars import as_int
from .base.surroundings import check_surroundings
from .base.wording import a_type
from .capture.forms import trace_forms
from .capture.traced import Traced
from .errors import FxgrowError, GrowError, PlanError, in_words
from .infer.freeze import freeze
from .infer.width_graph import WidthGraph
from .model.example_inputs import ExampleInputs
from .model.sharded import is_sharded
from .model.supported import leaf_references
from .model.tree import Output
from .plans.chain import chained
from .plans.growth_plan import Plan
from .recording.model_run import source_location
from .rewrite.apply_plans import apply_plans
from .rewrite.student import call_resize, check_calibration, student_of
from .shards.calls import apply_sharded, grow_sharded
from .shards.options import Options
from .shards.replicas import grow_replicated, is_replicated
from .spec.parse import Spec, parse
from .state.averages import apply_inside
from .state.hand_over import hand_over
from .state.optimizer import Optimizers, moving
from .validate.budgets import plan_to_budget

Resize: TypeAlias = Callable[[nn.Module, Plan], None]
LeafModules: TypeAlias = Iterable[str | type]
Model = TypeVar("Model", bound=nn.Module)


@contextmanager
def reasons(function: str, progress: bool | None = None) -> Iterator[None]:
    """What surrounds each function: the process is as before, and whatever the user's code raises becomes a reason."""
    check_surroundings(function)
    with shown(progress), isolated():
        try:
            yield
        except (FxgrowError, MemoryError):
            raise
        except Exception as error:
            raise GrowError(f"{function} fails: {in_words(error)}{source_location(error)}") from error


def trace(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    output: Output = "graph",
    leaf_modules: LeafModules = (),
    progress: bool | None = None,
) -> Traced:
    """A model as graphs, one for each mode or one for both. The model is not touched.

    Args:
        model: Any module with real floating-point parameters, on any device, in either mode.
        example_inputs: A tensor, a tuple of positional arguments or a dict of keyword arguments; only shapes and
            dtypes count, of any batch size. Several forms of inputs, such as with labels and without, are `Forms`.
            None: guessed from the first layer, trying usual sizes.
        output: "graph" takes the model's code into a graph as far as it can be; "module" runs it as it is.
        leaf_modules: Names or classes of submodules that stay calls in the graph.
        progress: A bar on standard error, if it takes more than 2 s and rich is installed (the extra `cli`). None: on a
            terminal; True: also where standard error does not say that it is one; False: never.

    Returns:
        What `widths` takes. Its `graphs`, `inputs` and `notes` can be read.

    Raises:
        TraceError: The model does not run on the inputs, or holds what fxgrow does not grow.

    Example:
        >>> import torch, fxgrow
        >>> print(fxgrow.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))))
        Traced Sequential: 4 nodes, one graph for both modes, inputs float[2, 4]

    Source: torch.fx (Reed et al., arXiv 2112.08429).
    """
    with reasons("trace", progress):
        return trace_forms(model, example_inputs, output=output, leaf_modules=leaf_references(leaf_modules))


def widths(
    model: nn.Module | Traced,
    example_inputs: ExampleInputs | None = None,
    *,
    output: Output = "graph",
    leaf_modules: LeafModules = (),
    progress: bool | None = None,
) -> WidthGraph:
    """Which dimensions of a model are one width, which can grow, and why the others cannot.

    Args:
        model: The model, or what `trace` made of it.
        example_inputs: As for `trace`.
        output: As for `trace`.
        leaf_modules: As for `trace`.
        progress: As for `trace`.

    Returns:
        What `plan` takes: its `groups`, the widths, and `why` they are tied or must stay.

    Raises:
        TraceError: As `trace`; also where the trace does not compute what the model computes.

    Example:
        >>> import torch, fxgrow
        >>> found = fxgrow.widths(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)))
        >>> [(group.name, group.size) for group in found.groups if not group.pinned]
        [('0', 8)]
        >>> print(found.why("1"))
        1 (2) must stay: it is an output of the model
        1.weight[1]: 0 (8) can grow to any width

    Source: unification, as in type inference (Robinson, J. ACM 12, 1965), on the dimensions of tensors.
    """
    with reasons("widths", progress):
        traced = (
            model
            if isinstance(model, Traced)
            else trace(model, example_inputs, output=output, leaf_modules=leaf_modules)
        )
        return freeze(traced)


def plan(
    widths: WidthGraph,
    spec: Spec,
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    progress: bool | None = None,
) -> Plan:
    """New widths for a specification, checked on meta tensors to give the teacher's function.

    Args:
        widths: What `widths` found.
        spec: A float (a factor for every width that can grow), a mapping from names or globs to an int (the new width
            in channels) or a float (a factor), `Widen`, `Deepen`, `Kernel`, `Inputs`, `Outputs` or `Budget` objects, a
            list of these, or the same as JSON.
        seed: Of which channels are replicated, and of how consumers' weights are shared among replicas.
        method: How new channels are filled where a request does not say: "auto" (for each width "zero_out" where that
            is exact, else "split"), "split", "even", "zero_out", or one of the baselines "noise", "random_pad",
            "random_init", which do not preserve the function; or one that `fxgrow.methods.register` added.
        progress: As for `trace`.

    Returns:
        What `apply` takes: pure data, which `Plan.to_json` writes and `Plan.from_json` reads.

    Raises:
        PlanError: A request cannot be met: nothing matches, two disagree, or the width must stay. Or nothing would grow
            by a factor above 1.

    Example:
        >>> import torch, fxgrow
        >>> found = fxgrow.widths(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)))
        >>> [(w.name, w.old, w.new) for w in fxgrow.plan(found, {"0": 12}).grown_widths]
        [('0', 8, 12)]

    Source: Net2Net (Chen, Goodfellow, Shlens, arXiv 1511.05641), section 2.1.
    """
    if not isinstance(widths, WidthGraph):
        raise PlanError(f"plan takes what fxgrow.widths found, not {a_type(widths)}")
    number = as_int(seed)
    if number is None:
        raise PlanError(f"seed is an int, not {seed!r}")
    with reasons("plan", progress), own_device():
        return plan_to_budget(widths, parse(spec), seed=number, method=method)


# Over 60 lines by the documentation of its arguments, which is public: its code has fewer than 30.
def apply(
    plan: Plan | Sequence[Plan],
    model: Model,
    example_inputs: ExampleInputs | None = None,
    *,
    calibration: Iterable[ExampleInputs] | None = None,
    optimizer: Optimizers | None = None,
    reset: bool = False,
    warmup: int = 0,
    resize: Resize | None = None,
    release: bool = False,
    progress: bool | None = None,
) -> fx.GraphModule | Model:
    """The student that a plan makes of a model: the one it was made for, or another with the same shapes.

    A chain of plans (`Plan.then`, or a list) is applied plan by plan.

    Args:
        plan: From `plan`, or read from JSON.
        model: The teacher, or an average or a checkpoint of it. It is not touched; the student is on its device,
            in its dtypes. A wrapper that averages (`AveragedModel`, timm's `ModelEmaV3`) gives the same wrapper, around
            the student of what it holds.
        example_inputs: As for `trace`; None: those that the plan was made with.
        calibration: Batches of inputs (of the student, where it has more input channels), for new norms that are to be
            calibrated: a DataLoader, or a list of tensors, of tuples of arguments or of dicts; what `forward` has no
            place for (labels) is left out. None: these norms start with mean 0 and variance 1, for a `state_dict`
            that is loaded next.
        optimizer: The one that trains the model, or a list of them. It is changed, and the model is not: afterwards the
            same object trains the student, with its groups, options and schedulers, and its state has grown along.
        reset: Drop the optimizer's state of these parameters instead of growing it.
        resize: A function of the student and its plan, called before the student is returned: it can set sizes that the
            code states, which the plan's notes name.
        release: Of a model sharded by `fully_shard`: give back the memory of its parts and of the optimizer's old state
            as the student's are made. The model cannot be used afterwards, whatever comes of the growth.
        warmup: For so many steps of the optimizer new entries take a growing part of their steps, from 1 / `warmup` on.
        progress: As for `trace`.

    Returns:
        A GraphModule, or with a plan of `output="module"` a module of the model's own class; `plan_of` gives its plan.

    Raises:
        PlanError: The model has other parameters than the plan, or another forward.
        TraceError: It cannot be traced.
        GrowError: The optimizer is for another model, or keeps state that is not known to grow. It is as it was.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> student = fxgrow.apply(fxgrow.plan(fxgrow.widths(teacher), 2.0), teacher)
        >>> student.get_submodule("0")
        Linear(in_features=4, out_features=16, bias=True)
    """
    with reasons("apply", progress):
        options = Options(optimizer, reset, calibration, warmup, resize, release)
        if is_sharded(model):
            return cast("Model", apply_sharded(plan, model, example_inputs, options))
        options.check_keeps()

        def applied(inner: nn.Module, batches: Iterable[ExampleInputs] | None) -> tuple[nn.Module, Plan]:
            chain = chained(plan)
            return apply_plans(chain, inner, example_inputs, batches), chain

        if is_replicated(model):
            return cast("Model", grow_replicated(model, applied, options))
        chain, steps = chained(plan), options.steps()
        moved = moving(optimizer, model, reset=reset)
        student = apply_inside(chain, model, lambda inner: apply_plans(chain, inner, example_inputs, calibration))
        call_resize(resize, student, chain)
        hand_over(moved, chain, model, student, steps)
        return cast("fx.GraphModule | Model", student)


@overload
def grow(
    model: nn.Module,
    spec: Spec,
    example_inputs: ExampleInputs | None = None,
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    output: Literal["graph"] = "graph",
    leaf_modules: LeafModules = (),
    calibration: Iterable[ExampleInputs] | None = None,
    optimizer: Optimizers | None = None,
    reset: bool = False,
    warmup: int = 0,
    resize: Resize | None = None,
    release: bool = False,
    progress: bool | None = None,
) -> fx.GraphModule: ...


@overload
def grow(
    model: Model,
    spec: Spec,
    example_inputs: ExampleInputs | None = None,
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    output: Literal["module"],
    leaf_modules: LeafModules = (),
    calibration: Iterable[ExampleInputs] | None = None,
    optimizer: Optimizers | None = None,
    reset: bool = False,
    warmup: int = 0,
    resize: Resize | None = None,
    release: bool = False,
    progress: bool | None = None,
) -> Model: ...


@overload
def grow(
    model: Model,
    spec: Spec,
    example_inputs: ExampleInputs | None = None,
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    output: Output,
    leaf_modules: LeafModules = (),
    calibration: Iterable[ExampleInputs] | None = None,
    optimizer: Optimizers | None = None,
    reset: bool = False,
    warmup: int = 0,
    resize: Resize | None = None,
    release: bool = False,
    progress: bool | None = None,
) -> fx.GraphModule | Model: ...


# Over 60 lines by the documentation of its arguments, which is public: its code has fewer than 30.
def grow(
    model: Model,
    spec: Spec,
    example_inputs: ExampleInputs | None = None,
    *,
    seed: int = 0,
    method: str = methods.DEFAULT,
    output: Output = "graph",
    leaf_modules: LeafModules = (),
    calibration: Iterable[ExampleInputs] | None = None,
    optimizer: Optimizers | None = None,
    reset: bool = False,
    warmup: int = 0,
    resize: Resize | None = None,
    release: bool = False,
    progress: bool | None = None,
) -> fx.GraphModule | Model:
    """A larger model that computes the same function and trains on.

    Args:
        model: The trained teacher; it is not touched.
        spec: What to widen, deepen and so on, as for `plan`.
        example_inputs: As for `trace`.
        seed: As for `plan`.
        method: As for `plan`.
        output: "graph" gives a GraphModule; "module" a copy of the model, of its own class, with grown parameters
            and attributes, where widths whose sizes the code itself states stay.
        leaf_modules: As for `trace`.
        calibration: As for `apply`.
        optimizer: As for `apply`.
        reset: As for `apply`.
        warmup: As for `apply`.
        resize: As for `apply`.
        release: As for `apply`.
        progress: As for `trace`.

    Returns:
        The student, with the teacher's `state_dict` keys, device and dtypes; `plan_of(student)` is its `Plan`.

    Raises:
        GrowError: With the reason; nothing was changed.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> student = fxgrow.grow(teacher, {"0": 12})
        >>> x = torch.randn(5, 4)
        >>> torch.allclose(student(x), teacher(x), atol=1e-6)
        True

    Source: Net2Wider (arXiv 1511.05641), with fresh channels where they are exact, else with shares per weight.
    """

    def proposed(model: nn.Module, output: Output) -> tuple[Traced, Plan]:
        found = widths(model, example_inputs, output=output, leaf_modules=leaf_modules)
        return found.traced, plan(found, spec, seed=seed, method=method)

    def made(model: nn.Module, batches: Iterable[ExampleInputs] | None) -> tuple[nn.Module, Plan]:
        traced, proposal = proposed(model, output)
        check_calibration(proposal, batches)
        return student_of(traced, proposal, model, batches), proposal

    with reasons("grow", progress):
        options = Options(optimizer, reset, calibration, warmup, resize, release)
        if is_sharded(model):
            return cast("Model", grow_sharded(model, lambda: proposed(model, "module"), options))
        options.check_keeps()
        if is_replicated(model):
            return cast("Model", grow_replicated(model, made, options))
        steps = options.steps()
        moved = moving(optimizer, model, reset=reset)
        student, proposal = made(model, calibration)
        call_resize(resize, student, proposal)
        hand_over(moved, proposal, model, student, steps)
        return cast("fx.GraphModule | Model", student)
