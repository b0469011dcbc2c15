"""The ways of filling new channels that benchmarks/methods.py compares: those of fxgrow, and four others.

The others are made from fxgrow's plan of the same growth, which says of every tensor which of its dimensions grow, what
each new entry copies, and whether it is made or summed over there:

- scalar split: a replica has one random share of each consumer, y_o = sum_i W_oi sum_j s_ij x_i with sum_j s_ij = 1,
  where "split" has shares s_oij per weight; both draw from 0.2 to 1.8 times 1/k;
- even + noise (PyTorch): equal shares, then noise of 5 % of a producer's standard deviation on all its weights, as the
  function of a public PyTorch notebook adds it;
- PyTorch notebook: that function with its default options: new rows and columns random with variance 2/n, where n is
  kernel size x out channels (of a linear layer: inputs x outputs), biases and norms copied, then that noise
  (that filters are normalised, another default, touches only what copies are made from, and random rows copy nothing);
- scratch: a new network of the student's shape.

"even + noise (Keras)" is fxgrow's "noise", and "random pad" its "random_pad": what a public Keras notebook does.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.rng import named_generator
from fxgrow.methods import Columns, divide

DEFAULT = "zero_out"  # what fxgrow's default chooses for every width of the net that is measured
NOISE = 5e-2  # of the standard deviation of a producer's weight
Grown = Callable[[nn.Module, Tensor, float, int], nn.Module]  # of teacher, example, factor and seed


@dataclass(frozen=True, slots=True)
class Way:
    """One way of filling.

    Attributes:
        name: In the record.
        label: In tables and figures.
        grown: The student of a teacher.
        exact: Whether it claims to be the same function.
        replicas: Whether new channels begin as copies.
    """

    name: str
    label: str
    grown: Grown
    exact: bool = False
    replicas: bool = False


def by_method(name: str) -> Grown:
    """A method of fxgrow."""
    return lambda teacher, example, factor, seed: fxgrow.grow(teacher, factor, example, seed=seed, method=name)


@torch.no_grad()
def scalar_split(teacher: nn.Module, example: Tensor, factor: float, seed: int) -> nn.Module:
    """A random share for each replica, the same for all weights of a consumer's column."""
    student = by_method("even")(teacher, example, factor, seed)
    for name, columns in grown_dimensions(fxgrow.plan_of(student), "contract"):
        draws = named_generator(seed, f"{name}[{columns.dim}] scalar")
        weight = student.get_parameter(name)
        index = columns.index.to(weight.device)
        shape = [*weight.shape]
        shape[columns.dim] = int(index.max()) + 1
        old = weight.new_zeros(shape).index_add_(columns.dim, index, weight)  # replicas sum to the teacher's

        def share(
            shape: torch.Size, parts: int, dim: int = columns.dim, draws: torch.Generator = draws
        ) -> tuple[Tensor, float]:
            ones = [shape[i] if i == dim else 1 for i in range(len(shape))]
            return 0.2 + 1.6 * torch.rand(ones, generator=draws), 1 / parts

        weight.copy_(divide(old.index_select(columns.dim, index), columns, share))
    return student


@torch.no_grad()
def even_with_noise(teacher: nn.Module, example: Tensor, factor: float, seed: int) -> nn.Module:
    """Equal shares, and noise on producers."""
    student = by_method("even")(teacher, example, factor, seed)
    add_noise(student, seed)
    return student


@torch.no_grad()
def pytorch_notebook(teacher: nn.Module, example: Tensor, factor: float, seed: int) -> nn.Module:
    """Random rows and columns, and noise on producers."""
    student = by_method("zero_out")(teacher, example, factor, seed)  # old columns and all biases as it has them
    plan = fxgrow.plan_of(student)
    for role in ("contract", "carry"):  # the producer's new rows are drawn last, as its own call comes last
        for name, columns in grown_dimensions(plan, role):
            weight, old = student.get_parameter(name), teacher.get_parameter(name)
            n = old.shape[0] * math.prod(old.shape[2:]) * (old.shape[1] if old.ndim == 2 else 1)
            part = weight.index_select(columns.dim, columns.new.to(weight.device))
            drawn = torch.randn(part.shape, generator=named_generator(seed, f"{name}[{columns.dim}] notebook"))
            weight.index_copy_(columns.dim, columns.new.to(weight.device), (drawn * math.sqrt(2 / n)).to(weight))
    add_noise(student, seed)
    return student


def add_noise(student: nn.Module, seed: int) -> None:
    """On all weights of each layer that makes new channels."""
    for name, _ in grown_dimensions(fxgrow.plan_of(student), "carry"):
        weight = student.get_parameter(name)
        noise = torch.randn(weight.shape, generator=named_generator(seed, f"{name} noise")).to(weight)
        weight.add_(noise * (NOISE * weight.std(correction=0)))


def grown_dimensions(plan: fxgrow.Plan, role: str) -> Iterator[tuple[str, Columns]]:
    """The grown dimensions of weights in one role: "contract" (consumers) or "carry" (producers)."""
    for found in plan.tensors:
        if "contract" not in found.roles:  # a norm or a bias
            continue
        for dim, layout in enumerate(found.layouts):
            if found.roles[dim] == role and plan.grows(layout):
                yield found.name, Columns(dim, *plan.index(layout))


def scratch(teacher: nn.Module, example: Tensor, factor: float, seed: int) -> nn.Module:
    """The student's shape with torch's own initialisation."""
    student = by_method("random_init")(teacher, example, factor, seed)
    torch.manual_seed(seed + 10_000)  # another than the teacher's
    for module in student.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return student


WAYS = (
    Way("split", "split", by_method("split"), exact=True, replicas=True),
    Way("scalar", "scalar split", scalar_split, exact=True, replicas=True),
    Way("even", "even", by_method("even"), exact=True, replicas=True),
    Way("zero_out", "zero out (default)", by_method("zero_out"), exact=True),
    Way("noise_keras", "even + noise (Keras)", by_method("noise"), replicas=True),
    Way("noise_pytorch", "even + noise (PyTorch)", even_with_noise, replicas=True),
    Way("notebook", "PyTorch notebook", pytorch_notebook),
    Way("random_pad", "random pad", by_method("random_pad")),
    Way("random_init", "random init", by_method("random_init")),
    Way("scratch", "scratch", scratch),
)
