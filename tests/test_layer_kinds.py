"""The table of layers says what torch.nn does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from fxgrow.model import layer_kinds
from fxgrow.model.layer_kinds import (
    CONTAINERS,
    CONVOLUTIONS,
    EMBEDDING,
    LINEAR,
    LINEAR_MAPS,
    LayerKind,
    is_layer_class,
    layer_class,
    spatial_rank,
)

KINDS = {name: kind for name, kind in vars(layer_kinds).items() if isinstance(kind, LayerKind)}


@pytest.mark.parametrize("kind", [*LINEAR_MAPS, EMBEDDING], ids=lambda kind: kind.classes[0].__name__)
def test_attributes_state_the_sizes_of_the_weight(kind: LayerKind) -> None:
    for cls in kind.classes:
        layer: Any = cls(5, 7) if kind in (LINEAR, EMBEDDING) else cls(5, 7, 3)
        stated = {dim: getattr(layer, name) for name, dim in kind.weight_sizes.items()}
        assert stated == dict(enumerate(layer.weight.shape[:2]))
        assert set(stated.values()) == {5, 7}


@pytest.mark.parametrize("kind", CONVOLUTIONS, ids=lambda kind: kind.classes[0].__name__)
def test_the_classes_of_convolutions_are_in_the_order_of_their_ranks(kind: LayerKind) -> None:
    assert [spatial_rank(cls(1, 1, 1)) for cls in kind.classes] == [1, 2, 3]


def test_a_layer_of_each_rank_has_a_class() -> None:
    assert [layer_class(rank) for rank in range(4)] == [nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d]


@pytest.mark.parametrize("name", KINDS)
def test_no_class_or_function_is_of_two_kinds(name: str) -> None:
    mine = KINDS[name]
    for other in [kind for kind in KINDS.values() if kind is not mine]:
        assert not {*mine.classes, *mine.functions} & {*other.classes, *other.functions}


def test_a_container_of_torch_is_no_layer_whatever_class_torch_gives_it() -> None:
    layer, container = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    container.register_parameter("scale", nn.Parameter(torch.ones(2)))
    for module, name in ((layer, "weight"), (container, "scale")):
        parametrize.register_parametrization(module, name, nn.Identity())
    assert is_layer_class(type(layer))
    assert not is_layer_class(type(container))
    assert not any(map(is_layer_class, (nn.Module, *CONTAINERS)))
