"""The public functions that look at a network, before growth or after it: verify, summary and draw.

Apart from those that grow, and imported when one of them is first asked for: growing needs no tables, no drawings and
no counters of FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import overload

from torch import nn

from .api import reasons
from .base.isolation import own_device
from .base.scalars import as_int
from .drawing.given import Drawable
from .drawing.inline import HEIGHT, Inline
from .drawing.render import inline, render, target_of
from .drawing.view import Level
from .errors import GrowError
from .infer.width_graph import WidthGraph
from .model.example_inputs import ExampleInputs
from .model.sharded import is_sharded
from .plans.growth_plan import Plan
from .report.compare import compare
from .report.report import Report
from .report.select_rows import select
from .report.summarize import summarize
from .report.summary_table import Summary


def verify(
    teacher: nn.Module,
    student: nn.Module,
    example_inputs: ExampleInputs,
    *,
    tolerance: float | None = None,
    progress: bool | None = None,
) -> Report:
    """Teacher against student on real inputs: outputs and every node, in eval and in train mode, dropout off.

    A student whose plan added input channels gets the teacher's inputs with random numbers in the new ones; of one
    whose plan added outputs, the old ones are compared.

    Args:
        teacher: The model before growth.
        student: The model after it.
        example_inputs: The teacher's, with numbers: a tensor, a tuple of positional arguments or a dict of keyword
            arguments, on the models' device.
        tolerance: Largest relative error, max |difference| / max |teacher|; None: 1e-10 for float64, 1e-5 for
            float32, 1e-2 for float16, 8e-2 for bfloat16.
        progress: As for `trace`.

    Returns:
        The errors per mode and per node; `exact` tells the verdict, `raise_if_different()` raises for a bad one.

    Raises:
        GrowError: One is no model, or does not run on the inputs, or the outputs have other structures or shapes; or
            the two are swapped.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> fxgrow.verify(teacher, fxgrow.grow(teacher, 2.0), torch.randn(5, 4)).exact
        True
    """
    with reasons("verify", progress), own_device():
        if is_sharded(teacher) or is_sharded(student):
            raise GrowError("each process has a part of the model; compare what teacher and student return instead")
        return compare(teacher, student, example_inputs, tolerance=tolerance)


def summary(
    model: nn.Module | WidthGraph | Plan,
    example_inputs: ExampleInputs | None = None,
    *,
    teacher: nn.Module | WidthGraph | None = None,
    changed_only: bool = False,
    depth: int | None = None,
    progress: bool | None = None,
) -> Summary:
    """A model, what was found of it, a plan or a student, layer by layer: widths, parameters, FLOPs, what must stay.

    Args:
        model: A model, a `WidthGraph`, a `Plan`, or a student, which is compared with what it was.
        example_inputs: As for `trace`, and the teacher's; None: those that the plan was made with, or a guess.
        teacher: Of a plan or a student: tells what these do not hold, the FLOPs before growth, and of a plan all
            figures.
        changed_only: List only what changes; the totals are of all.
        depth: Add up the layers in modules that are so many steps deep: 1 for `layer1`, 2 for `layer1.0`.
        progress: As for `trace`.

    Returns:
        A table, also for notebooks and for `rich.print`; its `rows` are data. Printed it fits 80 columns;
        `to_text(120)` fits 120, and `to_markdown()` and `to_csv()` are for other programs.

    Raises:
        GrowError: `model` is none of these, or the teacher is not the plan's, or a model does not run.

    Example:
        >>> import torch, fxgrow
        >>> teacher = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> student = fxgrow.grow(teacher, {"0": 12}, torch.randn(2, 4))
        >>> print(fxgrow.summary(student, teacher=teacher).to_text(100))
        Sequential: 1 width grows; inputs float[2, 4]
        layer  type    width group  width    parameters  FLOPs       why it stays
        -----  ------  -----------  -------  ----------  ----------  ----------------------------
        0      Linear            0  8 -> 12  40 -> 60    128 -> 192
        2      Linear            2  2        18 -> 26     64 ->  96  it is an output of the model
        total                                58 -> 86    192 -> 288

    Source: torchinfo's table; torch.utils.flop_counter.
    """
    with reasons("summary", progress):
        steps = None if depth is None else as_int(depth)
        if depth is not None and (steps is None or steps < 1):
            raise GrowError(f"depth is a number of steps, 1 or more, not {depth!r:.60}")
        made = summarize(model, example_inputs, teacher=teacher)
        return replace(made, rows=select(made.rows, changed_only=changed_only, depth=steps))


@overload
def draw(
    model: Drawable,
    path: None = None,
    *,
    level: Level | None = None,
    example_inputs: ExampleInputs | None = None,
    data: Mapping[str, float] | None = None,
    height: int = HEIGHT,
    progress: bool | None = None,
) -> Inline: ...


@overload
def draw(
    model: Drawable,
    path: str | PathLike[str],
    *,
    level: Level | None = None,
    example_inputs: ExampleInputs | None = None,
    data: Mapping[str, float] | None = None,
    progress: bool | None = None,
) -> Path: ...


def draw(
    model: Drawable,
    path: str | PathLike[str] | None = None,
    *,
    level: Level | None = None,
    example_inputs: ExampleInputs | None = None,
    data: Mapping[str, float] | None = None,
    height: int = HEIGHT,
    progress: bool | None = None,
) -> Path | Inline:
    """A picture of the widths of a model, and of what a plan does to them.

    Args:
        model: A model, a student, what `widths` found, or a tuple of a model or widths and a plan, a report, or both.
            A plan alone shows the widths that it grows, at the level "groups".
        path: Where to write it. The suffix says what: ".html" (one file that shows every level, lays itself out in
            the browser and loads nothing), ".svg", ".png" and ".pdf" (by Graphviz: the extra `viz`, or a `dot` on the
            PATH), ".dot", ".mmd" (Mermaid) or ".txt". None: nowhere; what is returned shows itself in a notebook.
        level: "groups": a box for each width; "blocks": for each module, those that repeat as one; "layers": for each
            layer with its norm and activation; "ops": for each node of the graph. None: groups, or blocks where there
            are too many widths to take in.
        example_inputs: Of a model or a student, as for `trace`; None: the plan's, or guessed.
        data: Numbers to colour the page by, `{"layer3.0": 0.25}`, by the name of a module or a width. ".html" only.
        height: Of the page in a notebook, pixels.
        progress: As for `trace`.

    Returns:
        The path; without one the page of the ".html", as an object that a notebook shows. Where no page may run (a
        notebook that is not trusted, GitHub), its picture or its text is shown.

    Raises:
        DrawError: There is nothing to draw, no such level or suffix, no such layer in `data`, or no Graphviz.
        GrowError: The model cannot be traced, or the plan is another model's.
        FileNotFoundError: There is no such folder.

    Example:
        >>> import tempfile, torch, fxgrow
        >>> found = fxgrow.widths(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)))
        >>> path = fxgrow.draw((found, fxgrow.plan(found, 2.0)), tempfile.mkdtemp() + "/plan.txt")
        >>> print(path.read_text(encoding="utf-8").splitlines()[5].rstrip())
          0         8→16  2 layers  input of 0                             40→80
    """
    target = None if path is None else target_of(path)  # what is wrong with it shows before the work
    with reasons("draw", progress):
        if target is None:
            return inline(model, level, example_inputs, height, data)
        _, drawn = render(model, target.suffix.lower(), level, example_inputs, data)
    target.write_bytes(drawn)
    return target
