"""Copies of module trees: what deepcopy makes, but sharing parameters and buffers."""

import copy
from threading import Lock
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.model.copies import clone_shared


class Odd(nn.Module):
    """Attributes of all kinds: shared, nested, cyclic, plain tensors, modules that no one registered."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.LSTM(4, 5)
        self.again = self.a
        self.shared = [1, {"x": (2, [3])}]
        self.settings = {"list": self.shared, "parent": self, "module": self.a, "kinds": {1, 2}}
        self.hidden = [nn.Linear(2, 2)]
        self.constant = torch.ones(2)
        self.register_buffer("state", torch.zeros(2), persistent=False)
        self.register_parameter("none", None)
        self.a.register_forward_hook(_hook)


def _hook(module: nn.Module, args: Any, output: Tensor) -> None:
    pass


def test_copy_has_the_structure_of_a_deepcopy() -> None:
    model = Odd().eval()
    twin = clone_shared(model)
    assert isinstance(twin, Odd)
    assert [name for name, _ in twin.named_modules()] == [name for name, _ in copy.deepcopy(model).named_modules()]
    assert twin.again is twin.a is not model.a
    assert twin.a.weight is model.a.weight
    assert twin.state is model.state
    assert "state" in twin._non_persistent_buffers_set
    assert twin.constant is not model.constant
    assert twin.shared == model.shared
    assert twin.shared is twin.settings["list"] is not model.shared
    assert twin.shared[1]["x"][1] is not model.shared[1]["x"][1]
    assert twin.settings["parent"] is twin
    assert twin.settings["module"] is twin.a
    assert twin.settings["kinds"] is not model.settings["kinds"]
    assert twin.hidden[0] is not model.hidden[0]
    assert list(twin.a._forward_hooks.values()) == [_hook]
    assert twin.a._forward_hooks is not model.a._forward_hooks
    for ours, theirs in zip(twin.modules(), copy.deepcopy(model).modules(), strict=True):
        assert list(vars(ours)) == list(vars(theirs))
        assert {k: type(v) for k, v in vars(ours).items()} == {k: type(v) for k, v in vars(theirs).items()}
    x = torch.randn(3, 2, 4)
    assert torch.equal(twin.b(x)[0], model.b(x)[0])


class Counted(nn.Module):
    """Says itself how it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        twin = Counted()
        twin.copies = self.copies + 1
        return twin


class Refusing(nn.Module):
    """Cannot be pickled, and so not copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no copies of me")


def test_a_module_that_knows_how_to_copy_itself_is_asked() -> None:
    assert clone_shared(nn.Sequential(nn.Linear(2, 2), Counted())).get_submodule("1").copies == 1
    with pytest.raises(Exception, match="cannot be copied: TypeError: no copies of me"):
        clone_shared(nn.Sequential(Refusing()))


class Marked(nn.Module):
    """Parameters with attributes, as averages, frameworks and loaders of weights put them there."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        for p in self.parameters():
            p.mean, p.tags, p.lock = p.detach().clone(), {"seen": [1]}, Lock()  # type: ignore[attr-defined]
        self.a.weight.tied = self.b.weight  # type: ignore[attr-defined]
        self.b.weight.loader = self.load  # type: ignore[attr-defined]

    def load(self) -> nn.Module:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_what_users_put_on_parameters_is_the_students_own(output: Literal["graph", "module"]) -> None:
    teacher = Marked()
    student: Any = fxgrow.grow(teacher, {"a": 12}, torch.randn(2, 4), output=output)
    for name, old in teacher.named_parameters():
        new: Any = student.get_parameter(name)
        new.mean.add_(1.0)
        new.tags["seen"].append(2)
        assert torch.equal(cast("Any", old).mean, old)
        assert cast("Any", old).tags == {"seen": [1]}
        assert new.lock is cast("Any", old).lock  # what cannot be copied
    assert student.a.weight.tied is student.b.weight
    if output == "module":
        assert student.b.weight.loader() is student


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(torch.relu(x))


def test_what_users_put_on_parameters_is_each_clones_own() -> None:
    teacher = nn.Sequential(nn.Linear(4, 8), nn.Sequential(Residual()), nn.Linear(8, 2))
    for p in teacher.parameters():
        p.tags = [1]  # type: ignore[attr-defined]
    student: Any = fxgrow.grow(teacher, [fxgrow.Deepen("1", blocks=1)], torch.randn(2, 4), output="module")
    block, clone = student[1]
    clone.layer.weight.tags.append(2)
    assert block.layer.weight.tags == [1]
