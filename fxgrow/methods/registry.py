"""The base class of methods, and the table of them.

Growing a dimension first gathers it by its mapping g, so new channels start as replicas. A method then sets
the new entries, in each of the two roles of the dimension: produced by the weight, or contracted (summed over).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeVar

from torch import Generator, Tensor

from ..errors import PlanError
from .arithmetic import silence
from .columns import Columns

Part = Literal["contract", "produce", "bias", "carry"]  # the function of a method that fills a tensor


class Method(ABC):
    """How new channels are filled.

    Attributes:
        name: The name in specs and plans.
        preserves_function: Whether the student computes the same function as the teacher.
        replicas: Whether new channels are replicas of old ones, as means, norms and maxima over channels require.
        separable: Whether it fills each index of the other dimensions, and each new index of its own, independently of
            the others, so that a weight can be filled block by block. Models that are sharded need it.
        overwrites: Whether it writes new entries without reading them, where it contracts, and where it is not for
            replicas also where it produces; they are then not gathered before.
        moments: Whether it needs the mean and the standard deviation of the teacher's tensor (`Columns.mean`, `.std`).
        zero_columns: Whether all new entries are zero where it contracts.
        zero_rows: Whether all new entries are zero where it produces.
        carries: Whether it also fills tensors that only carry the width (parameters of a norm); if not, these stay
            gathered.
        offered: Whether users can request it by name.
        source: The paper or code that it is taken from.
    """

    name: str
    preserves_function: bool
    replicas: bool
    separable: bool = False
    overwrites: bool = False
    moments: bool = False
    zero_columns: bool = False
    zero_rows: bool = False
    carries: bool = False
    offered: bool = True
    source: str

    def chosen(self, *, replicas: bool, zero_rows: bool = False) -> str:
        """The name of the method that a plan records for a width.

        Args:
            replicas: Whether the new channels of the width must be replicas.
            zero_rows: Whether the new rows of the weights that make it must be zero.
        """
        return self.name

    @abstractmethod
    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """Fill a gathered weight whose grown dimension is summed over, so that replicas sum to the original entry.

        Args:
            weight: The gathered weight, any floating dtype; may be changed in place.
            columns: The grown dimension.
            generator: A CPU generator, the only source of randomness.

        Returns:
            The filled weight, of the same shape and dtype.
        """

    def produce(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """Fill a gathered weight that produces the grown dimension (norms do not); arguments as for `contract`."""
        return weight

    def bias(self, bias: Tensor, columns: Columns, generator: Generator) -> Tensor:
        """Fill the gathered bias of a weight that produces the grown dimension; arguments as for `contract`."""
        return bias

    def carry(self, tensor: Tensor, columns: Columns, generator: Generator, *, shift: bool) -> Tensor:
        """Fill a gathered tensor that only carries the grown dimension: a parameter or statistic of a norm.

        Args:
            tensor: The gathered tensor, of any dtype; may be changed in place.
            columns: The grown dimension.
            generator: A CPU generator, the only source of randomness.
            shift: Whether the tensor is known to be added or subtracted, as a bias or a running mean is.

        Returns:
            The filled tensor, of the same shape and dtype.
        """
        return tensor

    def begins_as_mean(self, part: Part, *, shift: bool = False) -> bool:
        """Whether each new entry is gathered as the mean of all old ones along the dimension, not as a copy of one.

        Args:
            part: Which function fills the tensor; never "contract".
            shift: As for `carry`.
        """
        return False


class NewRows(Method):
    """Base of methods for new model outputs (`Outputs`): rows that are no replicas, with zero columns in consumers."""

    preserves_function = True
    replicas = False
    separable = True
    carries = True
    offered = False
    zero_columns = True

    def contract(self, weight: Tensor, columns: Columns, generator: Generator) -> Tensor:
        return silence(weight, columns)


_METHODS: dict[str, Method] = {}


MethodType = TypeVar("MethodType", bound=type[Method])


def register(cls: MethodType) -> MethodType:
    """Class decorator: adds a method under its `name`, which `method=` of `fxgrow.grow` then accepts.

    Raises:
        ValueError: The class lacks an attribute that a method must have, or its name is taken.
    """
    missing = [name for name in ("name", "preserves_function", "replicas", "source") if not hasattr(cls, name)]
    if missing:
        raise ValueError(f"the method {cls.__name__} does not state its {', '.join(missing)}")
    if cls.name in _METHODS:
        raise ValueError(f"the method name {cls.name!r} is already registered")
    _METHODS[cls.name] = cls()
    return cls


def method(name: str) -> Method:
    """The method with a name, also one that users cannot request.

    Raises:
        PlanError: No method has the name.
    """
    if not isinstance(name, str) or name not in _METHODS:
        raise PlanError(f"no method {name!r}; choose one of {', '.join(names())}")
    return _METHODS[name]


def chosen(how: Method, *, replicas: bool, zero_rows: bool) -> str:
    """The name of the method that a plan records for a width; arguments as for `Method.chosen`."""
    return how.chosen(replicas=replicas, zero_rows=True) if zero_rows else how.chosen(replicas=replicas)


def offered(name: str) -> Method:
    """The method with a name from a spec.

    Raises:
        PlanError: No method has the name, or users cannot request it.
    """
    if isinstance(name, str) and name in _METHODS and not _METHODS[name].offered:
        choosing = [other for other in names() if name in _choices(_METHODS[other])]
        if choosing:
            raise PlanError(
                f"method {name!r} is what {' and '.join(choosing)} choose where a width needs it; ask for these"
            )
        raise PlanError(
            f"method {name!r} is only for the new channels of Outputs; for other widths use {', '.join(names())}"
        )
    return method(name)


def _choices(how: Method) -> set[str]:
    """The methods that one may choose."""
    return {chosen(how, replicas=replicas, zero_rows=zero) for replicas in (True, False) for zero in (True, False)}


def names() -> tuple[str, ...]:
    """The names of all methods that users can request, sorted."""
    return tuple(sorted(name for name, how in _METHODS.items() if how.offered))
