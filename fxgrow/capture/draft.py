"""One model while it is traced: what it ran itself, and the attempts to make graphs that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from ..base.generators import same_randomness
from ..errors import GrowError, TraceError
from ..model.call_args import bind, given_arguments
from ..model.copies import Inventory, clone_owned, clone_to_run
from ..model.example_inputs import ModelInputs
from ..model.generated_code import check_arguments
from ..model.grown import GrownModule
from ..model.layer_kinds import CONTAINERS, is_layer
from ..model.opaque import OPAQUE_MODEL, opaque_graph, unsupported_mode_graph
from ..model.provenance import copy_module_stacks, module_stacks
from ..model.tree import MODE_OVERRIDES, MODES, Mode, graph_for, keep, set_training, skeleton, switch
from ..model.walk import modules, named_modules
from ..recording.model_run import explain
from ..recording.operators import draws
from ..recording.recall import Recall
from ..recording.run import ModelRun, TapedRun
from ..recording.tape import Tape
from .attempt import Attempt
from .attribute_ints import remembered
from .conversions import Conversions
from .elsewhere import check_elsewhere
from .notes import notes_of, one_call
from .origins import VALUE
from .patches import DrawnError
from .symbolic import symbolic_trace
from .traced import Traced, any_code
from .tracer import Tracer

ROUNDS = 12  # of tracing with more leaves; after that the whole model is one call


class Draft:
    """The state while one model is traced.

    Args:
        model: A copy of it.
        held: What it consists of.
        inputs: The example inputs.
        tapes: What it ran itself in each mode.
        asked: The modules that are to stay calls.
        infinite: The parameters and buffers that hold infinities or NaN.
        recall: Of runs of the model.
        lenient: Whether its graphs only show what the code does with sizes. They may lose what it does beside them, and
            tell integers that it reads from layers of torch.nn from others.
    """

    def __init__(
        self,
        model: nn.Module,
        held: Inventory,
        inputs: ModelInputs,
        tapes: Mapping[Mode, ModelRun],
        asked: frozenset[str],
        infinite: frozenset[str],
        recall: Recall | None,
        *,
        lenient: bool = False,
    ) -> None:
        self.model = model
        self.lenient = lenient
        self.held = held
        self.recall = recall
        self.infinite = infinite
        self.asked = asked
        self.inputs = inputs
        self.tapes = tapes
        self.name = type(model).__name__
        self.arguments = bind(model, inputs)
        self.training = [module.training for _, module in held.paths]
        self.why: dict[str, str] = {}  # each leaf that tracing made, and the reason

    # -- the whole -------------------------------------------------------------------------------

    def as_opaque(self, why: str) -> Traced:
        """The model as one call."""
        notes = [one_call(self.name, why)] if why else []
        root = keep(clone_to_run(self.model, real=self.inputs.real, known=self.held))
        graph = opaque_graph(self.model)
        check_arguments(root, graph)
        code = vars(root)[OPAQUE_MODEL]
        return self._traced(root, {"eval": graph}, notes=notes, opaque=True, modes=tuple(self.tapes), code=code)

    # -- the ladder ------------------------------------------------------------------------------

    def climb(self, leaves: frozenset[str]) -> Traced:
        """Trace with more and more leaves until the trace computes what the model computes.

        Raises:
            TraceError: The model's own forward cannot be traced.
        """
        if "" in leaves:
            raise TraceError("its forward keeps state in attributes from call to call")
        for _ in range(ROUNDS):
            graphs: dict[Mode, fx.Graph] = {}
            trees: dict[Mode, nn.Module] = {}
            new_leaves: dict[str, str] = {}
            same: dict[Mode, bool] = {}
            changing = freezing = False
            for mode, tree, attempt, alike in self._in_modes(partial(self._symbolic, leaves=leaves)):
                trees[mode], graphs[mode], same[mode] = tree, attempt.graph, alike
                new_leaves.update(attempt.new_leaves)
                changing |= attempt.layers_change
                freezing |= attempt.may_freeze
            if not new_leaves:
                traced = self._assembled(graphs, trees, leaves)
                # a constant may be written to, run after run
                if traced.constants or changing or not all(same.values()):
                    new_leaves = self._differences(traced)
            if not new_leaves:
                if freezing and not self.inputs.real:
                    check_elsewhere(self.model, traced)
                return traced
            self.why.update(new_leaves)
            leaves |= self._alike(new_leaves)
            if "" in leaves:
                raise TraceError(new_leaves[""])
        raise _untraceable(leaves)

    def shown(self) -> tuple[Traced, bool]:
        """Graphs of what can be traced, whatever they lose of what the model does; and whether they show all of it."""
        graphs: dict[Mode, fx.Graph] = {}
        trees: dict[Mode, nn.Module] = {}
        whole = True
        for mode, tree, attempt, same in self._in_modes(self._as_far_as_possible):
            trees[mode], graphs[mode] = tree, attempt.graph
            whole &= attempt.whole and same
        traced = self._assembled(graphs, trees, frozenset())
        return traced, whole and not traced.runs_code

    def _in_modes(
        self, trace: Callable[[Mode], tuple[nn.Module, Attempt, bool]]
    ) -> Iterator[tuple[Mode, nn.Module, Attempt, bool]]:
        """What tracing gives in each mode, up to the first whose graph serves both."""
        for mode in self.tapes:
            tree, attempt, same = trace(mode)
            yield mode, tree, attempt, same
            if same and self._serves_both_modes(attempt, tree):
                return

    def _as_far_as_possible(self, mode: Mode) -> tuple[nn.Module, Attempt, bool]:
        """An attempt that comes to an end: with more leaves where one has failed and left something behind."""
        leaves: frozenset[str] = frozenset()
        for _ in range(ROUNDS):
            tried = self._symbolic(mode, leaves)
            if any(node.op == "output" for node in tried[1].graph.nodes):
                return tried
            leaves |= self._alike(tried[1].new_leaves)
        raise _untraceable(leaves)

    def _alike(self, paths: Mapping[str, str]) -> frozenset[str]:
        """Those modules, and all of their classes: the same code, with the same outcome."""
        modules = dict(self.held.paths)
        kinds = {type(modules[path]) for path in paths if path and type(modules[path]) not in CONTAINERS}
        return frozenset(paths) | {path for path, module in modules.items() if path and type(module) in kinds}

    def _symbolic(self, mode: Mode, leaves: frozenset[str]) -> tuple[nn.Module, Attempt, bool]:
        """A copy, an attempt to trace it, and whether its values are the model's."""
        try:
            return self._symbolic_on_copy(mode, leaves, find_draws=False)
        except DrawnError:
            return self._symbolic_on_copy(mode, leaves, find_draws=True)

    def _symbolic_on_copy(
        self, mode: Mode, leaves: frozenset[str], *, find_draws: bool
    ) -> tuple[nn.Module, Attempt, bool]:
        conversions = Conversions()
        tried = self._tried(mode, leaves, conversions, find_draws=find_draws)
        while not self.lenient and not tried[1].new_leaves and conversions.differ():
            with suppress(TraceError):
                again = self._tried(mode, leaves, conversions, find_draws=find_draws)
                if again[2]:
                    tried = again
        return tried

    def _tried(
        self, mode: Mode, leaves: frozenset[str], conversions: Conversions, *, find_draws: bool
    ) -> tuple[nn.Module, Attempt, bool]:
        tree = clone_to_run(self.model, real=self.inputs.real, known=self.held)
        held = switch(tree, mode)
        run = TapedRun(tree, self.arguments, Tape, real=self.inputs.real, recall=self.recall, known=held)
        given = given_arguments(self.model, self.inputs)
        tracer = Tracer(
            run.arguments, given, run.tape, leaves, conversions, find_draws=find_draws, lenient=self.lenient
        )
        with remembered(tree, layers=self.lenient), same_randomness():
            attempt = symbolic_trace(tracer, tree, held)
        _keep_places(attempt.graph, tree, mode)
        model = self.tapes[mode]
        same = run.has_made(model) if self.lenient else run.is_alike(attempt.result, model)
        return tree, attempt, same and not attempt.new_leaves

    def _serves_both_modes(self, attempt: Attempt, tree: nn.Module) -> bool:
        """Whether tracing in the other mode would give the same graph.

        The code that became the graph did not ask for its mode, `train()` changes nothing but that, the rest is layers
        of torch.nn, and outside them the model does the same in both. (Inference runs the graph in the other mode and
        compares the digests.)
        """
        paths = list(named_modules(tree))
        if attempt.mode_matters or not all(_only_has_mode(module) for _, module in paths):
            return False
        called = {str(node.target) for node in attempt.graph.nodes if node.op == "call_module"}
        layers = {path for path, module in paths if is_layer(module)}
        first, *others = (
            [(c.op, c.constants, c.shapes, c.module) for c in run.calls if c.module not in layers]
            for run in self.tapes.values()
        )
        return not any_code(tree, called) and all(other == first for other in others)

    def _assembled(
        self, graphs: dict[Mode, fx.Graph], trees: Mapping[Mode, nn.Module], leaves: frozenset[str]
    ) -> Traced:
        overrides = {
            mode: {name: m.training for name, m in named_modules(tree) if name and m.training != (mode == "train")}
            for mode, tree in trees.items()
        }
        called = {str(node.target) for graph in graphs.values() for node in graph.nodes if node.op == "call_module"}
        constants = {
            key: value
            for tree in trees.values()
            for key, value in vars(tree).items()
            if isinstance(value, Tensor) and not hasattr(self.model, key)
        }
        for graph in graphs.values():
            for node in graph.nodes:
                node.meta.pop(VALUE, None)
        if len(self.tapes) == 1:
            missing: Mode = "train" if "eval" in self.tapes else "eval"
            graphs[missing] = unsupported_mode_graph(self.model, missing)
        elif len(graphs) == 1 or len({str(graph.python_code("self").src) for graph in graphs.values()}) == 1:
            graphs = {"eval": graphs["eval"]}
        plain = {name for name, module in self.held.paths if name and is_layer(module)}
        runs_code = any_code(self.model, called)
        root = skeleton(self.model, called | plain)
        if self.inputs.real:
            root = clone_owned(root)
        root.__dict__.update(constants, **{MODE_OVERRIDES: overrides})
        return self._traced(
            root,
            graphs,
            leaf_modules=frozenset(called | plain),
            constants=constants,
            overrides=overrides,
            runs_code=runs_code,
            code=self._own() if runs_code else None,
            modes=self._modes(graphs, runs_code=runs_code),
            notes=self._notes(graphs, called),
        )

    def _differences(self, traced: Traced) -> dict[str, str]:
        """The smallest module where a trace departs from the model, and how; empty where they compute the same."""
        for mode, theirs in self.tapes.items():
            real = self.inputs.real
            run = TapedRun(traced.fresh(), self.arguments, Tape, mode=mode, real=real, recall=self.recall)
            try:
                result = run.graph(traced.graph(mode))
            except GrowError as error:
                return {run.tape.module: str(error).splitlines()[0]}
            except Exception as error:  # noqa: BLE001 - whatever the trace raises where the model runs
                return {run.tape.module: explain(error)}
            difference = run.difference(result, theirs)
            if difference is not None:
                what, path = difference
                reason = f"its trace computes something else in {mode} mode: {what}"
                return {_outside(path, traced.leaf_modules): reason}
        return {}

    # -- the result ------------------------------------------------------------------------------

    def _traced(self, root: nn.Module, graphs: dict[Mode, fx.Graph], **more: Any) -> Traced:
        for module, training in zip(modules(root), self.training, strict=True):
            set_training(module, training=training)
        return Traced(
            root=root,
            graphs=graphs,
            inputs=self.inputs,
            arguments=self.arguments,
            tapes=self.tapes,
            class_name=self.name,
            classes={path: type(module) for path, module in self.held.paths},
            asked=self.asked,
            infinite=self.infinite,
            **more,
        )

    def _own(self) -> nn.Module:
        """The model itself, on meta, or a copy of one that runs for real, whose weights may change."""
        return clone_to_run(self.model, real=True, known=self.held) if self.inputs.real else self.model

    def _modes(self, graphs: Mapping[Mode, fx.Graph], *, runs_code: bool) -> tuple[Mode, ...]:
        """The modes whose runs show every operation."""
        random_in_eval = "eval" in self.tapes and any(draws(call.op) for call in self.tapes["eval"].calls)
        if len(graphs) == 1 and not random_in_eval and not runs_code:
            return ("train",) if "train" in self.tapes else ("eval",)
        return tuple(self.tapes)

    def _notes(self, graphs: Mapping[Mode, fx.Graph], called: set[str]) -> tuple[str, ...]:
        missing = " and ".join(mode for mode in MODES if mode not in self.tapes)
        why = dict.fromkeys(sorted(self.asked & called), "it was asked for")
        why |= {path: reason for path, reason in self.why.items() if path in called}
        return tuple(notes_of(self.model, self.inputs, graphs, why, missing))


def _keep_places(graph: fx.Graph, tree: nn.Module, mode: Mode) -> None:
    """Carry over from a student which module each node comes from: its own code has no modules left."""
    if isinstance(tree, GrownModule):
        copy_module_stacks(module_stacks(graph_for(tree.graphs, mode)), graph)


def _only_has_mode(module: nn.Module) -> bool:
    kind = type(module)
    own = "train" in vars(module) or "eval" in vars(module) or hasattr(kind, "training")
    return kind.train is nn.Module.train and kind.eval is nn.Module.eval and not own


def _outside(module: str, leaves: frozenset[str]) -> str:
    """The module that calls the leaf which a module is in: a leaf runs the model's own code, so its input differs."""
    steps = module.split(".")
    for number in range(1, len(steps) + 1):
        if ".".join(steps[:number]) in leaves:
            return ".".join(steps[: number - 1])
    return module


def _untraceable(leaves: frozenset[str]) -> TraceError:
    return TraceError(f"even with {len(leaves)} of its modules kept as calls it cannot be traced")
