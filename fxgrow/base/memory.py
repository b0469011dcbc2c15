"""How much memory a device has left, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

import torch

MEMORY = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # what a control group without a limit states, or more


def free_memory(device: torch.device) -> int | None:
    """The bytes that can still be taken on a device; None where that is not known, or has no bound."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type != "cpu":
        return None
    known = [free for free in (_of_machine(), _of_group()) if free is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    """What Linux can give without taking it from another process, with the swap."""
    numbers = _numbers(MEMORY)
    available = numbers.get("MemAvailable")
    return None if available is None else (available + numbers.get("SwapFree", 0)) * 1024


def _of_group() -> int | None:
    """What the limit of a container leaves; pages of files that are not in use count as free."""
    for limit, used, pages in (
        (GROUPS / "memory.max", GROUPS / "memory.current", "inactive_file"),
        (GROUPS / "memory/memory.limit_in_bytes", GROUPS / "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(limit), _number(used)
        if most is not None and now is not None and most < NO_LIMIT:
            return max(most - now + _numbers(limit.parent / "memory.stat").get(pages, 0), 0)
    return None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _numbers(path: Path) -> dict[str, int]:
    """The numbers of a file with lines such as `MemAvailable: 1024 kB`."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
