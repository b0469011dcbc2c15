"""Contexts in which no network can be grown, and the names by which users know them."""

from __future__ import annotations

from ..errors import GrowError
from .torch_private import is_faking, is_transforming


def check_surroundings(function: str) -> None:
    """Check that no context is active in which tensors have no numbers or stand for others.

    Args:
        function: What was called.

    Raises:
        GrowError: One is, which the message names.
    """
    if is_faking():
        raise GrowError(
            f"{function} was called inside of FakeTensorMode, where no tensor has numbers; call it outside. A model "
            "without weights is grown on the meta device: build it under `with torch.device('meta')`"
        )
    if is_transforming():
        raise GrowError(
            f"{function} was called inside of a transform of torch.func (vmap, grad), where tensors stand for others; "
            "grow the model outside, and transform the student"
        )
