"""What rules claim of means (`linear`), shown on numbers for every call that a sample makes of their overloads."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxgrow.base.torch_private import pytree
from fxgrow.ops import Rule, rule_for, rules
from tests.check import NoRandomness
from tests.nets.registry import Call

Made = tuple[Any, tuple[Any, ...], dict[str, Any]]

CLAIMED = {id(rule.function): rule for rule in rules().values() if rule.linear}
MAKES_NO_NUMBERS = ("empty", "new_empty", "empty_like")  # what is in new memory is not known
PAIRS = 8  # one pair of arguments may agree with a false claim: both medians may lie at the same entry


class Calls(TorchDispatchMode):
    """Keeps the calls of overloads whose rule claims something, with copies of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Made] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = rule_for(func)
        if rule is not None and rule.linear:
            self.made.append((func, *_mapped((args, kwargs or {}), torch.clone)))
        return func(*args, **(kwargs or {}))


def _calls(rule: Rule) -> Iterator[Made]:
    for sample in rule.samples:
        torch.manual_seed(0)
        built = sample.build()
        middle = (built if isinstance(built, nn.Module) else Call(built)).double()
        with torch.no_grad(), NoRandomness(), Calls() as calls:
            middle(torch.randn(2, *sample.shape, dtype=torch.float64))
        yield from (made for made in calls.made if rule_for(made[0]).function is rule.function)


def _mapped(arguments: Any, function: Callable[[Tensor], Tensor]) -> Any:
    return pytree.tree_map(lambda a: function(a) if isinstance(a, Tensor) else a, arguments)


def _floating(arguments: Any) -> list[int]:
    """The numbers of the floating-point tensors among the arguments."""
    leaves = pytree.tree_leaves(arguments)
    return [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _results(made: Made, changed: dict[int, Tensor]) -> list[Tensor]:
    """The floating-point results of a call with other tensors in the places of some."""
    op, *arguments = made
    leaves, form = pytree.tree_flatten(tuple(arguments))
    given = [changed.get(i, leaf) for i, leaf in enumerate(leaves)]
    args, kwargs = _mapped(pytree.tree_unflatten(given, form), torch.clone)
    with torch.no_grad(), NoRandomness():
        out = op(*args, **kwargs)
    return [t for t in pytree.tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()]


def _is_affine(made: Made, places: list[int], *, through_zero: bool) -> bool:
    """Whether f(a + b) + f(0) = f(a) + f(b), and f(0) = 0 where the function is to be linear."""
    leaves = pytree.tree_leaves(tuple(made[1:]))
    shapes = {i: leaves[i] for i in places}
    generator = torch.Generator().manual_seed(0)  # of each call: the order of the tests changes nothing

    def drawn() -> dict[int, Tensor]:
        return {i: torch.randn(t.shape, generator=generator, dtype=t.dtype) for i, t in shapes.items()}

    zero = {i: torch.zeros_like(t) for i, t in shapes.items()}
    for a, b in ((drawn(), drawn()) for _ in range(PAIRS)):
        both = {i: a[i] + b[i] for i in places}
        for f_both, f_zero, f_a, f_b in zip(*(_results(made, given) for given in (both, zero, a, b)), strict=True):
            if not torch.allclose(f_both + f_zero, f_a + f_b, 1e-9, 1e-9) or (through_zero and f_zero.any()):
                return False
    return True


def _is_constant(made: Made, places: list[int]) -> bool:
    """Whether all entries of a result are equal if those of each argument are."""
    leaves = pytree.tree_leaves(tuple(made[1:]))
    alike = {i: torch.full_like(leaves[i], 0.25 * (i + 1)) for i in places}
    return all(bool((out == out.flatten()[0]).all()) for out in _results(made, alike) if out.numel())


def _holds(made: Made, linear: str) -> bool:
    places = _floating(tuple(made[1:]))
    if linear in ("each", "spread"):
        return _is_affine(made, places, through_zero=True)
    if linear == "sum":
        return _is_affine(made, places, through_zero=False)
    if linear == "divide":
        return _is_affine(made, places[:1], through_zero=True)
    if linear == "scale":
        return all(_is_affine(made, [place], through_zero=True) for place in places)
    if linear in ("product", "filter"):
        return all(_is_affine(made, [place], through_zero=False) for place in places)
    return _is_constant(made, places)  # fresh, alike


@pytest.mark.parametrize("found", CLAIMED.values(), ids=lambda rule: rule.function.__name__)
def test_every_call_of_a_sample_does_what_its_rule_claims_of_means(found: Rule) -> None:
    if found.linear == "norm":
        pytest.skip("what a layer norm does to means is tested in test_means.py")
    tried = 0
    for made in _calls(found):
        op = made[0]
        name = op._schema.name.partition("::")[2]
        takes_numbers = bool(_floating(tuple(made[1:]))) or found.linear == "fresh"
        if name in MAKES_NO_NUMBERS or not takes_numbers or not _results(made, {}):
            continue
        tried += 1
        assert _holds(made, found.linear), f"{op} is not {found.linear!r} in {made[1:]}"
    assert tried, "no sample makes such a call"


@pytest.mark.parametrize(
    ("function", "linear"),
    [
        (lambda x: torch.ops.aten.logsumexp.default(x, [1]), "each"),
        (lambda x: torch.ops.aten.linalg_vector_norm.default(x), "each"),
        (lambda x: torch.ops.aten.prod.dim_int(x, 1), "each"),
        (lambda x: torch.ops.aten.median.default(x), "each"),
        (lambda x: torch.ops.aten.add.Scalar(x, 1), "each"),
        (lambda x: torch.ops.aten.pow.Tensor_Scalar(x, 2), "sum"),
        (lambda x: torch.ops.aten.exp.default(x), "scale"),
        (lambda x: torch.ops.aten.reciprocal.default(x), "divide"),
        (lambda x: torch.ops.aten.cumsum.default(x, 1), "alike"),
    ],
)
def test_a_false_claim_is_found(function: Callable[[Tensor], Tensor], linear: str) -> None:
    class Last(TorchDispatchMode):
        made: Made | None = None

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.made = (func, args, kwargs or {})
            return func(*args, **(kwargs or {}))

    with Last() as last:
        function(torch.randn(2, 3, dtype=torch.float64))
    assert last.made is not None
    assert not _holds(last.made, linear)
