"""Copies of module trees: what deepcopy makes, but sharing parameters and buffers."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
