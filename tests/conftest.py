"""One thread, fixed seeds, hypothesis profiles, and a sample of the cases that are many and slow."""

import gc
import os
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.thinned import split

torch.set_num_threads(1)

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", max_examples=40, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.register_profile("long", settings.get_profile("dev"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-minutes", type=float, default=0, help="how long to try random programs")
    parser.addoption("--thorough", action="store_true", help="run every case, not a sample (tests/thinned.py)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cases that are not in the sample are deselected, but for those that the command line names."""
    if config.getoption("--thorough") or any("[" in argument for argument in config.args):
        return
    items[:], left = split(items)
    if left:
        config.hook.pytest_deselected(items=left)


def pytest_collection_finish() -> None:
    """The garbage collector need not look at what was imported and collected: a million objects, which all stay."""
    gc.collect()
    gc.freeze()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """In a process of pytest-xdist, which tells the first one what ran and nothing else, they are counted."""
    output = getattr(items[0].config, "workeroutput", None) if items else None
    if output is not None:
        output["deselected"] = output.get("deselected", 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process of pytest-xdist deselects the same: the summary counts those of one."""
    reporter = node.config.pluginmanager.getplugin("terminalreporter")
    count = getattr(node, "workeroutput", {}).get("deselected", 0)
    if reporter is not None and count:
        reporter.stats["deselected"] = [SimpleNamespace() for _ in range(count)]


@pytest.fixture
def quick_collections() -> None:
    """For tests of code that calls `gc.collect()`: it need not look at what earlier tests keep, such as analyses."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` takes longer than many a test where no GPU is in use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    random.seed(0)
    np.random.seed(0)
