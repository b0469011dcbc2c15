"""Growth where a model may have nothing that can grow."""

from typing import Any

from torch import nn

import fxgrow


def grown_or_left(teacher: nn.Module, spec: Any, inputs: Any, **how: Any) -> nn.Module:
    """The student of a request; where nothing would grow by it, which is refused, that of the factor 1."""
    try:
        return fxgrow.grow(teacher, spec, inputs, **how)
    except fxgrow.PlanError as error:
        if "would grow" not in str(error):
            raise
        return fxgrow.grow(teacher, 1.0, inputs, **how)
