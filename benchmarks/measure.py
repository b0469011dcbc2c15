"""Grow one model and compare it with what it was: what zoo.py does for each row of its table.

Nothing here trusts `fxgrow.verify`: outputs are compared in float64, with randomised statistics and affine
weights, dropout off, in eval and in train mode.
"""

import collections
import contextlib
import gc
import itertools
import logging
import math
import re
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import fxgrow
from benchmarks.zoos import Arguments, Entry
from tests.check import NoRandomness, grown, randomise, relative_error, run
from tests.left import grown_or_left

TOLERANCE = 1e-10
# A model that makes float32 tensors inside does not run in float64.
TOLERANCES = {torch.float64: TOLERANCE, torch.float32: 1e-5}
SHARE = 0.95
# With outputs that depend on the inputs by less than this, nothing was tested.
BLIND = 1e-6
MODES = ("eval", "train")
GROWABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# The layers that make the inner width of a transformer's MLP, as their authors call them.
MLP = re.compile(r"(^|\.)(fc1|w1|w12|lin1|linear1|linear_1|dense1|pwconv1|up_proj|intermediate\.dense|mlp\.0)$")


# What --deepen asks for: a new layer after each layer, and a clone of the last block of each stage.
DEEPER = {"layers": fxgrow.Deepen("*"), "blocks": fxgrow.Deepen("*", blocks=1)}


@dataclass(slots=True)
class Row:
    """What one model at one factor gave."""

    zoo: str
    model: str
    factor: float
    parameters: int = 0
    parameters_grown: int = 0
    traced: str = ""  # "yes", or the exception that says why not
    nodes: int = 0
    weights: int = 0
    weights_grown: int = 0
    error_eval: float | None = None
    error_train: float | None = None
    sensitivity: float | None = None  # how far the outputs depend on the inputs at all
    shapes: str = ""  # "equal" or "differ", where that is all that can be compared
    seconds: float = 0.0
    failure: str = ""
    pins: str = ""  # "name: reason" of all widths that stayed, one a line
    notes: str = ""
    output: str = "graph"  # what was asked for: "graph", "module", or new "layers" or "blocks"
    family: str = ""
    kind: str = ""  # of failure: "skipped" (fails without fxgrow), "refused" (a GrowError), "crash", "timeout", "WRONG"
    noise: float | None = None  # the teacher's error under inputs that differ by rounding; where an error is large
    mlps: int = 0
    mlps_grown: int = 0
    frames: str = ""  # of a crash: the last lines of code, innermost first
    tolerance: float = TOLERANCE
    kept: str = ""  # "name: why" of what was kept as a call, one a line
    repairs: int = 0  # sizes that the check of the student found wrong
    forward: float = 0.0  # seconds of the teacher's two forward passes, one in each mode, before it grew; 0 on meta

    @property
    def key(self) -> tuple[str, str, float, str]:
        """What a resumed run knows the row by."""
        return self.zoo, self.model, self.factor, self.output

    @property
    def share(self) -> float:
        """The share of convolution and linear weights whose shape changed."""
        return self.weights_grown / self.weights if self.weights else 0.0

    @property
    def passes(self) -> float:
        """How many forward passes of the teacher growing took; 0 if these were not measured."""
        return 2 * self.seconds / self.forward if self.forward else 0.0

    @property
    def errors(self) -> list[float]:
        """The errors that were measured."""
        return [e for e in (self.error_eval, self.error_train) if e is not None]

    @property
    def error(self) -> str:
        """The larger error, as the tables show it."""
        if self.failure:
            return "failed"
        if self.shapes:
            return f"shapes {self.shapes}"
        return f"{max(self.errors, default=math.nan):.1e}"

    @property
    def exact(self) -> bool:
        """Whether all that was compared is equal."""
        # "not <=" rather than ">": a NaN must not pass.
        return all(e <= self.tolerance for e in self.errors) if self.errors else self.shapes == "equal"

    @property
    def passed(self) -> bool:
        """Whether this counts as right."""
        return not self.failure and self.exact and self.share >= SHARE

    @property
    def status(self) -> str:
        """The row in a word, as the summary counts it."""
        if self.failure:
            return self.kind or "crash"
        if not self.exact:
            # A network that amplifies rounding by so much says nothing about growth.
            chaotic = self.noise is not None and all(e <= 100 * self.noise for e in self.errors)
            return "unstable" if chaotic else "WRONG"
        if self.sensitivity is not None and self.sensitivity < BLIND:
            return "blind"
        return "grown" if self.parameters_grown != self.parameters else "unchanged"

    @property
    def reason(self) -> str:
        """Why it failed, names and numbers left out: rows of one reason are one finding."""
        text = re.sub(r"\w+ cannot be traced in \w+ mode: ", "", self.failure)
        text = re.sub(r"\((at|in) [^()]*/[^()]*:\d+:.*|\[[\w.]+:\d+\]$", "", text)
        text = re.sub(
            r"\w+ does not run on .* in (\w+) mode on the meta device", r"does not run on meta, \1 mode", text
        )
        text = re.sub(r"\w+\.forward", "forward", text)
        return _anonymous(text).strip()

    @property
    def place(self) -> str:
        """The line of the model's code that a refusal names."""
        found = re.search(r"\(at (?:.*/)?([^/ ]+/[^/ ]+:\d+: .*?)\)(?: \[[\w.]+:\d+\])?$", self.failure)
        return found.group(1)[:160] if found else ""

    @property
    def reasons_kept(self) -> list[tuple[str, str]]:
        """Why code was kept as a call: (the reason with names and numbers left out, the line of code)."""
        found = []
        for line in self.kept.splitlines():
            why = line.split(": ", 1)[-1]
            at = re.search(r" \(at (?:.*/)?([^/ ]+/[^/ ]+:\d+: .*?)\)$", why)
            found.append((_anonymous(why[: at.start()] if at else why), at.group(1)[:160] if at else ""))
        return found

    @property
    def top_pins(self) -> str:
        """The three commonest reasons, names and numbers left out."""
        reasons = (_anonymous(line.split(": ", 1)[-1]) for line in self.pins.splitlines())
        return "; ".join(f"{n}x {reason}" for reason, n in collections.Counter(reasons).most_common(3))


def _anonymous(text: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", text)


class Timeout(BaseException):
    """A model takes too long. Not an Exception: no handler in a model or in the engine may swallow it."""


class Skip(Exception):
    """The model is not measured, for a reason that has nothing to do with growth."""


@contextlib.contextmanager
def time_limit(seconds: float, *, processor: bool = False) -> Iterator[None]:
    """Raise Timeout inside after so many seconds, of the processor if that is asked for; 0: never."""

    def ring(*_: object) -> None:
        raise Timeout

    if not seconds:
        yield
        return
    timer, number = (signal.ITIMER_PROF, signal.SIGPROF) if processor else (signal.ITIMER_REAL, signal.SIGALRM)
    before = signal.signal(number, ring)
    signal.setitimer(timer, seconds, 1)  # again after a second: what a callback of a weak reference raises is dropped
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)


class _Counter(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """What fxgrow logs inside: one message for each size that growth would have got wrong."""
    logger, handler = logging.getLogger("fxgrow"), _Counter()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler.kept
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def describe(error: BaseException) -> str:
    """The exception's type, its message, and the last line of code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" [{Path(frames[-1].filename).name}:{frames[-1].lineno}]" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:4000]}{place}"


def innermost(error: BaseException, count: int = 8) -> str:
    """The last lines of code of a traceback, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-count:]
    return " < ".join(
        f"{Path(f.filename).parent.name}/{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[::-1]
    )


def sensitivity(outputs: Sequence[Tensor]) -> float:
    """How far the outputs for two samples differ, relative to their size: near 0, errors say nothing."""
    first = outputs[0] if outputs else torch.empty(0)
    if first.ndim == 0 or len(first) < 2 or not first.is_floating_point():
        return math.nan
    return float((first[0] - first[1]).abs().max() / first.abs().max())


def parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


def copied(inputs: Arguments, dtype: torch.dtype, device: str = "cpu", jitter: int = 0) -> Arguments:
    """The inputs in a dtype, at any depth; with a jitter, numbers that differ by rounding."""

    def one(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.to(device, copy=True)
        new = tensor.to(device, dtype, copy=True)
        if jitter:
            generator = torch.Generator().manual_seed(jitter)
            new *= 1 + 2 * torch.finfo(dtype).eps * torch.randn(new.shape, generator=generator, dtype=dtype)
        return new

    return pytree.tree_map_only(Tensor, one, inputs)


def call(model: nn.Module, inputs: Arguments) -> Any:
    """The model on positional or named inputs."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def calibrated(model: nn.Module, inputs: Arguments, seed: int) -> nn.Module:
    """Give batch norms statistics near those of their inputs.

    With statistics that have nothing to do with its inputs, a deep model forgets them: the outputs for two
    samples differ by 1e-13, all the rest comes from biases, and an error inside would not be seen either.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng(), NoRandomness():
        torch.manual_seed(seed)
        if norms:
            call(model.train(), inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.running_mean is None or norm.running_var is None:
                continue
            mean, var = norm.running_mean, norm.running_var
            var.clamp_(min=0.1 * float(var.mean()) + 1e-3)
            mean.add_(var.sqrt() * (torch.rand_like(var) - 0.5))
            var.mul_(0.5 + 1.5 * torch.rand_like(var))
    return model.train()


@dataclass(slots=True)
class Teacher:
    """A model that runs in plain PyTorch, with what it gives."""

    model: nn.Module
    entry: Entry
    device: str
    dtype: torch.dtype
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    seconds: float = 0.0  # that these took

    def run(self, model: nn.Module, mode: str, seed: int = 0, jitter: int = 0) -> list[Tensor]:
        """All outputs of a model on this teacher's inputs."""
        return run(model, self.inputs(mode, jitter), mode, seed)  # type: ignore[arg-type]

    def inputs(self, mode: str, jitter: int = 0) -> Any:
        """New inputs of a mode, in the model's dtype and on its device."""
        return copied(self.entry.given(mode), self.dtype, self.device, jitter)  # type: ignore[arg-type]


def prepared(entry: Entry, limit: float, skip: float, seed: int) -> Teacher:
    """The teacher, randomised, or on meta above the limit; in the first way in which it runs.

    In float64, or in float32 where the model insists on it.

    Raises:
        Skip: it does not run, or is too large.
    """
    failures: list[str] = []
    for dtype in TOLERANCES:
        attempt: Entry | None = entry
        while attempt is not None and (dtype == torch.float64 or any("ouble" in f or "float64" in f for f in failures)):
            try:
                return _prepared(attempt, limit, skip, seed, dtype)
            except Skip:
                raise
            except Exception as error:  # noqa: BLE001 (whatever a model may raise)
                failures.append(describe(error))
            attempt = attempt.fallback
    raise Skip(f"it does not run without fxgrow either: {failures[-1]}")


def _prepared(entry: Entry, limit: float, skip: float, seed: int, dtype: torch.dtype) -> Teacher:
    if skip < math.inf:
        # Much cheaper than to build it; a model that cannot be built on meta is built.
        size = 0
        with contextlib.suppress(Exception), torch.device("meta"):
            size = parameters(entry.build())
        if size > skip:
            raise Skip(f"it has {size / 1e6:.0f} million parameters")
    torch.manual_seed(seed)
    model = entry.build()
    if (size := parameters(model)) > skip:
        raise Skip(f"it has {size / 1e6:.0f} million parameters")
    teacher = Teacher(model.to(dtype), entry, "meta" if size > limit else "cpu", dtype)
    if teacher.device == "meta":
        model.to("meta")
    else:
        calibrated(randomise(model, seed), teacher.inputs("train"), seed)
    start = time.perf_counter()
    teacher.outputs = {mode: teacher.run(model, mode) for mode in MODES}
    teacher.seconds = time.perf_counter() - start
    if not any(teacher.outputs.values()):
        raise Skip("its outputs hold no tensor")
    if teacher.device == "cpu" and not all(bool(t.isfinite().all()) for ts in teacher.outputs.values() for t in ts):
        raise Skip("its outputs are not finite")
    return teacher


def measured(row: Row, teacher: Teacher, seed: int) -> None:
    """Grow the model and fill the row."""
    model = teacher.model
    options: dict[str, Any] = {"output": "module"} if row.output == "module" else {}
    inputs = teacher.inputs("train")
    start = time.perf_counter()
    with counted() as repairs:
        # where nothing can grow, which is refused, the row is the student of the same size
        student = grown_or_left(model, DEEPER.get(row.output, row.factor), inputs, seed=seed, **options)
    row.seconds, row.repairs = time.perf_counter() - start, len(repairs)
    row.forward = teacher.seconds if teacher.device == "cpu" else 0.0
    row.traced = "yes"
    row.nodes = len(student.graph.nodes) if isinstance(student, torch.fx.GraphModule) else 0
    row.parameters_grown = parameters(student)
    plan = fxgrow.plan_of(student)
    if plan is not None:
        row.pins = "\n".join(f"{left.name}: {left.reason}" for left in plan.skipped)
        row.notes = "\n".join(plan.notes)
        kept = re.findall(r"^(.*) is kept as (one call|a call), because (.*)$", row.notes, re.MULTILINE)
        row.kept = "\n".join(f"{name}: {why}" for name, _, why in kept)
        if kept:
            row.traced = "whole" if kept[0][1] == "one call" else f"{len(kept)} calls"
    changed = grown(model, student)
    names = {f"{name}.weight".lstrip(".") for name, m in model.named_modules() if isinstance(m, GROWABLE)}
    row.weights, row.weights_grown = len(names), len(names & changed)
    if row.output in DEEPER and plan is not None:
        row.weights = row.weights if row.output == "layers" else len(plan.changes)
        row.weights_grown = len(plan.changes)
    _count_mlps(row, model, student)
    after = {mode: teacher.run(student, mode) for mode in MODES}
    if teacher.device == "meta":
        shapes = [[[t.shape for t in ts] for ts in outputs.values()] for outputs in (teacher.outputs, after)]
        row.shapes = "equal" if shapes[0] == shapes[1] else "differ"
        return
    row.error_eval, row.error_train = (relative_error(teacher.outputs[mode], after[mode]) for mode in MODES)
    if not row.exact and rounds(teacher):  # its own code computes in float32, whatever dtype it is in
        row.tolerance = TOLERANCES[torch.float32]
    if not row.exact:
        jittered = itertools.product(MODES, (1, 2))
        row.noise = max(relative_error(teacher.outputs[m], teacher.run(model, m, jitter=j)) for m, j in jittered)


class Casts(TorchDispatchMode):
    """Sees whether a tensor of float64 becomes one of a narrower dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.narrower = False

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        if op is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64:
            self.narrower |= result.is_floating_point() and result.dtype != torch.float64
        return result


def rounds(teacher: Teacher) -> bool:
    """Whether a teacher in float64 computes something in a narrower dtype."""
    with Casts() as casts:
        teacher.run(teacher.model, "eval")
    return casts.narrower


def _count_mlps(row: Row, model: nn.Module, student: nn.Module) -> None:
    new = dict(student.named_parameters(remove_duplicate=False))
    for name, module in model.named_modules():
        if isinstance(module, GROWABLE) and MLP.search(name):
            row.mlps += 1
            now = new.get(f"{name}.weight", module.weight)
            row.mlps_grown += now.shape[0] != module.weight.shape[0]


def grow_model(
    zoo: str,
    entry: Entry,
    factors: Sequence[float],
    limit: float,
    seed: int,
    *,
    outputs: Sequence[str] = ("graph",),
    skip: float = math.inf,
    seconds: float = 0,
) -> Iterator[Row]:
    """One row per factor and output; whatever happens, all of them.

    Args:
        zoo: the zoo's name.
        entry: the model.
        factors: of all widths.
        limit: with more parameters, the model is grown on the meta device, where only shapes can be compared.
        seed: of the weights, and of growth.
        outputs: what `fxgrow.grow` is asked for.
        skip: with more parameters, it is not grown at all.
        seconds: that the model may take, all factors together; 0: any.
    """
    rows = [Row(zoo, entry.name, f, output=o, family=entry.family) for f in factors for o in outputs]
    todo = len(rows)
    try:
        with time_limit(seconds):
            try:
                teacher = prepared(entry, limit, skip, seed)
            except Skip as why:
                for row in rows:
                    row.failure, row.kind = f"teacher: {why}", "skipped"
                todo = 0
            for row in rows[:todo]:
                same = next((r for r in rows if r.output == row.output and r.kind == "refused"), None)
                if same is not None and same.traced != "yes":  # no factor changes what cannot be traced
                    row.failure, row.kind, row.traced = same.failure, same.kind, same.traced
                    row.parameters, row.sensitivity = same.parameters, same.sensitivity
                else:
                    _grow(row, teacher, seed)
                todo -= 1
                gc.collect()
    except Timeout:
        for row in rows[len(rows) - todo :]:
            row.failure, row.kind = f"timeout after {seconds:g} s", "timeout"
    yield from rows


def _grow(row: Row, teacher: Teacher, seed: int) -> None:
    row.parameters, row.tolerance = parameters(teacher.model), TOLERANCES[teacher.dtype]
    row.sensitivity = None if teacher.device == "meta" else sensitivity(teacher.outputs["eval"])
    try:
        measured(row, teacher, seed)
    except fxgrow.GrowError as error:
        row.failure, row.kind = describe(error), "refused"
        row.traced = row.failure if isinstance(error, fxgrow.TraceError) else "yes"
    except Exception as error:  # noqa: BLE001 (one model's crash must not stop the others)
        # A student that does not run is a wrong one.
        row.failure, row.kind = describe(error), "WRONG" if row.traced else "crash"
        row.traced, row.frames = row.traced or row.failure, innermost(error)
