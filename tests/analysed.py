"""One analysis of each net of the registry, for all tests that only read it.

The tests of a net have one group, so that they run one after another in one process.
"""

import functools
from typing import Literal

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.rewrite.student import student_of
from tests.check import Inputs, given, randomise
from tests.left import or_left
from tests.nets import NETS, Net

Output = Literal["graph", "module"]
EACH = [pytest.param(net, id=name, marks=pytest.mark.xdist_group(name)) for name, net in NETS.items()]


def teacher_and_inputs(net: Net) -> tuple[nn.Module, Inputs]:
    """A model of float64 with random statistics, made anew, and its inputs."""
    return randomise(net.make().double()), given(net.inputs(), torch.float64)


@functools.lru_cache(maxsize=4)
def analysed(name: str, output: Output = "graph") -> fxgrow.WidthGraph:
    """The widths of a net, given in train mode: the mode in which a teacher is given must not matter."""
    teacher, inputs = teacher_and_inputs(NETS[name])
    return fxgrow.widths(teacher.train(), inputs, output=output)


@functools.lru_cache(maxsize=8)
def planned(name: str, output: Output, factor: float) -> fxgrow.Plan:
    """The plan of a net for a factor; where nothing would grow by it, for the factor 1."""
    found = analysed(name, output)
    return or_left(lambda asked: fxgrow.plan(found, asked), factor)


def student_by(factor: float, net: Net, teacher: nn.Module, output: Output = "graph") -> nn.Module:
    """As `fxgrow.grow` makes it; where nothing would grow by the factor, by the factor 1."""
    return student_of(analysed(net.name, output).traced, planned(net.name, output, factor), teacher)
