"""docs/extending.md: what users register from outside the package works, and all that is public there is described."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fxgrow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["method", "rule"])
def test_an_example_prints_what_the_page_says(name: str, tmp_path: Path) -> None:
    """In a process and a folder of its own: what it registers must not reach the other tests."""
    (section,) = re.findall(f"<!-- example:{name} -->\n(.*?)<!-- /example:{name} -->", PAGE, re.DOTALL)
    (code,), (text,) = (re.findall(f"```{language}\n(.*?)```", section, re.DOTALL) for language in ("python", "text"))
    (tmp_path / "extension.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "error", "extension.py"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stdout == text, done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("folder", ["methods", "ops"])
def test_what_is_public_of_a_registry_is_described(folder: str) -> None:
    package = getattr(fxgrow, folder)
    assert [name for name in package.__all__ if not re.search(rf"\b{folder}\.{name}\b", PAGE)] == []
    assert all(hasattr(package, name) for name in package.__all__)
