"""Parts of torch that take long to import, and that only those need who use them already."""

from __future__ import annotations

import sys
from typing import Any


def dtensors() -> Any:
    """`torch.distributed.tensor`; None where nobody has imported it, so that nobody has a DTensor."""
    return sys.modules.get("torch.distributed.tensor")


def fsdp() -> Any:
    """`torch.distributed.fsdp`; None where nobody has imported it, so that no module is sharded by it."""
    return sys.modules.get("torch.distributed.fsdp")
