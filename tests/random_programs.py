"""Random programs: modules whose `forward` is random Python, with the statements and spellings that people use.

`random_nets` builds graphs of layers. Here the code itself is random: sizes as numbers, devices, constants, branches,
closures, writes in place, index arithmetic, several results. A program is a list of statements; each reads images by
name and makes one more. Whatever the teacher cannot run is no program. A student has to be exact, in both modes and at
other sizes of batches and images, with the gradient of its input, or growing has to be refused with a GrowError.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import fxgrow
from tests.program_statements import CHANGING, CUTTING, KEEPING, MEETING, RESULTS

Outcome = Literal["exact", "nothing grows", "refused", "wrong", "crash", "no program"]
CHANNELS = (4, 6, 8, 12)
EXAMPLE, *OTHERS = (2, 6), (3, 6), (9, 6), (13, 6), (2, 9)  # (images, rows)
TOLERANCE = 1e-8  # relative, in float64
ROUNDING = 2.0**-50  # a few units in the last place of an input


class Doubled(torch.autograd.Function):
    """A Function with a true derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * 2


class Centred(torch.autograd.Function):
    """A Function whose backward looks over channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient - gradient.mean(1, keepdim=True)


class Named(Tensor):
    """A tensor under another name."""


@dataclass(frozen=True, slots=True)
class Program:
    """Source code of a model.

    Attributes:
        layers: Statements of `__init__`.
        statements: Those of `forward` but for the last.
        result: The last.
    """

    layers: tuple[str, ...]
    statements: tuple[str, ...]
    result: str

    @property
    def source(self) -> str:
        """The class as text."""
        init = ["super().__init__()", *self.layers]
        forward = ["h0 = self.stem(x)", *self.statements, self.result]

        def body(lines: list[str]) -> str:
            return "\n".join(f"        {part}" for line in lines for part in line.split("\n"))

        return (
            f"class Program(nn.Module):\n    def __init__(self):\n{body(init)}\n"
            f"    def forward(self, x):\n{body(forward)}\n"
        )

    def model(self) -> nn.Module:
        """A module of that class, with random parameters."""
        names: dict[str, Any] = {"torch": torch, "nn": nn, "F": nn.functional, "np": np, "contextlib": contextlib}
        names["math"] = math
        names |= {"Doubled": Doubled, "Centred": Centred, "Named": Named}
        exec(compile(self.source, "program.py", "exec"), names)
        torch.manual_seed(0)
        model: nn.Module = names["Program"]().double()
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
        return model.eval()


def program(seed: int) -> Program:
    """A random program; most run."""
    draw = random.Random(seed)
    width = draw.choice(CHANNELS)
    layers = [
        f"self.stem = nn.Conv2d(3, {width}, 3, padding=1)",
        "self.act = nn.LeakyReLU(0.2)",
        "self.heads = 2",
        "self.gain = nn.Parameter(torch.ones(1))",
        "self.register_buffer('mark', torch.ones(3))",
        "self.held = lambda t: self.act(t)",
        "self.depth = nn.Parameter(torch.ones(1, 1, 3, 3))",
    ]
    widths = {"h0": width}
    statements: list[str] = []
    for number in range(draw.randint(1, 7)):
        u, o, c = draw.choice(list(widths)[-2:]), f"h{number + 1}", draw.choice(CHANNELS)
        kind = draw.random()
        alike = [name for name, size in widths.items() if size == widths[u]]
        if kind < 0.45:
            text, widths[o] = draw.choice(KEEPING), widths[u]
        elif kind < 0.75:
            text = draw.choice(CHANGING)
            widths[o] = widths[u] if ("self.t" in text or "self.g" in text) else c
        elif kind < 0.9:
            text, widths[o] = draw.choice(CUTTING), 0
        else:
            text, widths[o] = draw.choice(MEETING), widths[u]
        line = text.format(u=u, v=draw.choice(alike), o=o, n=number, c=c)
        layers += _layers(number, widths[u], c, line)
        statements.append(line)
        if widths[o] == 0 or "cat" in text:
            widths[o] = _width_of(layers, statements, o) or widths[u]
    u, v = list(widths)[-1], draw.choice(list(widths))
    layers.append(f"self.head = nn.Linear({widths[u]}, 3)")
    return Program(tuple(layers), tuple(statements), draw.choice(RESULTS).format(u=u, v=v))


def _layers(number: int, width: int, new: int, line: str) -> Iterator[str]:
    """The layers that a statement names."""
    made = {
        "c": f"nn.Conv2d({width}, {new}, 3, padding=1)", "p": f"nn.Linear({width}, {new}, bias=False)",
        "bn": f"nn.BatchNorm2d({width})", "g": f"nn.Conv2d({width}, {width}, 3, padding=1, groups={width})",
        "t": f"nn.Sequential(nn.Conv2d({width}, {new}, 1), nn.ReLU(), nn.Conv2d({new}, {width}, 1))",
        "s": f"nn.Sequential(nn.Conv2d({width}, {new}, 1), nn.BatchNorm2d({new}), nn.ReLU())",
    }  # fmt: skip
    for name, layer in made.items():
        if f"self.{name}{number}" in line:
            yield f"self.{name}{number} = {layer}"
    if f"self.f{number}" in line:
        yield f"self.k{number} = nn.Conv2d({width}, {new}, 1)"
        yield f"self.f{number} = lambda t: self.k{number}(t)"


def _width_of(layers: list[str], statements: list[str], name: str) -> int:
    """The channels of an image; 0 where the program so far does not run."""
    try:
        with torch.no_grad():
            return int(Program(tuple(layers), tuple(statements), f"return {name}").model()(example(*EXAMPLE)).shape[1])
    except Exception:  # noqa: BLE001 - whatever random code raises
        return 0


def example(batch: int, rows: int) -> Tensor:
    """Images for a program."""
    return torch.randn(batch, 3, rows, rows, generator=torch.Generator().manual_seed(batch), dtype=torch.float64)


@dataclass(slots=True)
class Tally:
    """How programs ended.

    Attributes:
        counts: Of each outcome.
        faults: (seed, outcome, what happened) of those that broke the promise.
        grown: How many exact students have a wider layer.
    """

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    grown: int = 0

    def add(self, seed: int) -> None:
        """Try one more program."""
        outcome, text = judge(program(seed), seed)
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        self.grown += outcome == "exact" and text == "grown"
        if outcome in ("wrong", "crash"):
            self.faults.append((seed, outcome, text))


def judge(tried: Program, seed: int) -> tuple[Outcome, str]:
    """Grow a program and compare."""
    draw = random.Random(seed)
    factor = draw.choice([1.5, 2.0, 1.25])
    output: Any = draw.choice(["graph", "module"])
    method = draw.choice(["auto", "auto", "split", "zero_out"])
    try:
        teacher = tried.model()
        results = {EXAMPLE: _results(teacher, *EXAMPLE)}
        for sizes in OTHERS:
            with contextlib.suppress(Exception):  # which it may not take
                results[sizes] = _results(teacher, *sizes)
        if not all(leaf.isfinite().all() for leaf in tree_flatten(results)[0] if isinstance(leaf, Tensor)):
            return "no program", "not finite"
        if not _same(list(results.values()), [_results(teacher, *sizes) for sizes in results]):
            return "no program", "another result at each call"
    except Exception as error:  # noqa: BLE001 - whatever random code raises
        return "no program", str(error)
    try:
        student = fxgrow.grow(teacher, factor, example(*EXAMPLE), output=output, method=method)
        for given, expected in results.items():
            try:
                ours = _results(student, *given)
            except fxgrow.GrowError:
                if given == EXAMPLE:
                    return "wrong", "the example itself is refused"
                continue
            if not _same(ours, expected):
                if not _same(_results(teacher, *given, times=1 + ROUNDING), expected):
                    return "no program", "rounding of its inputs changes its results as much"
                return "wrong", f"another result at {given} ({factor}, {output}, {method})"
    except fxgrow.GrowError as error:
        if str(error).startswith("nothing of "):
            return "nothing grows", str(error)
        unforeseen = re.match(r"\w+ fails: ", str(error))  # an error of fxgrow's own that became a reason
        return "crash" if unforeseen else "refused", str(error)
    except Exception:  # noqa: BLE001 - what the promise excludes
        return "crash", f"({factor}, {output}, {method})\n{traceback.format_exc(limit=-3)}"
    sizes = zip(teacher.parameters(), student.parameters(), strict=True)
    return "exact", "grown" if any(a.shape != b.shape for a, b in sizes) else "as it was"


def _results(model: nn.Module, batch: int, rows: int, times: float = 1.0) -> Any:
    """In both modes what a model gives, and the gradient of its input, which is multiplied by a number."""
    given: list[Any] = []
    state = {name: b.clone() for name, b in model.named_buffers()}
    for training in (False, True):
        model.train(training)
        x = (example(batch, rows) * times).requires_grad_()
        result = model(x)
        loss = sum(
            leaf.sin().sum() for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor) and leaf.requires_grad
        )
        gradient = torch.autograd.grad(loss, x, allow_unused=True)[0] if isinstance(loss, Tensor) else None
        given.append((result, gradient))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])
    model.eval()
    return given


def _same(one: Any, other: Any) -> bool:
    (ours, form), (theirs, their_form) = tree_flatten(one), tree_flatten(other)
    return str(form) == str(their_form) and all(_alike(a, b) for a, b in zip(ours, theirs, strict=True))


def _alike(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and bool(one == other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    scale = max(1.0, float(other.detach().abs().max())) if other.numel() else 1.0
    return (
        bool(((one - other).abs() <= TOLERANCE * scale).all()) if other.is_floating_point() else torch.equal(one, other)
    )


def shrunk(tried: Program, seed: int, fails: Callable[[Program], bool] | None = None) -> Program:
    """The same fault with fewer statements."""
    outcome = judge(tried, seed)[0]
    still = fails or (lambda candidate: judge(candidate, seed)[0] == outcome)
    for at in reversed(range(len(tried.statements))):
        new, old = f"h{at + 1}", f"h{at}"
        rest = [*tried.statements[:at], f"{new} = {old}", *tried.statements[at + 1 :]]
        candidate = Program(tried.layers, tuple(rest), tried.result)
        if still(candidate):
            tried = candidate
    return tried
