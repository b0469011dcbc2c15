"""The pages of documentation: their Python runs, their links and paths lead somewhere, and the index has them all."""

from __future__ import annotations

import importlib.util
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.torchvision_shim import import_torchvision

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SKIPPED = re.compile(r"<!-- not run: (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python: where it begins, what it says, and why it is not run ("": it is)."""

    line: int
    code: str
    skipped: str


def blocks(text: str) -> list[Block]:
    """The Python of a page, in order. A comment `<!-- not run: reason -->` on the line before it marks a sketch."""
    found = []
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text[: block.start()]
        mark = SKIPPED.fullmatch(before.rstrip("\n").rpartition("\n")[2])
        found.append(Block(before.count("\n") + 2, block[1], mark[1] if mark else ""))
    return found


def run(page: Path) -> dict[str, Any]:
    """The blocks of a page in one namespace; a traceback has the page's own lines."""
    namespace: dict[str, Any] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        if not block.skipped:
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)
    return namespace


WITH_CODE = [page for page in PAGES if blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails by what a block raises; the next test shows that it does."""
    if "import torchvision" in page.read_text(encoding="utf-8"):
        if importlib.util.find_spec("torchvision") is None:
            pytest.skip("torchvision is not installed")
        import_torchvision()
    monkeypatch.chdir(tmp_path)
    run(page)


def test_a_mistake_in_the_python_of_a_page_is_found_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n```python\na = 1\n```\n<!-- not run: wrong -->\n```python\n1 / 0\n```\n```python\na.b\n```\n")
    with pytest.raises(AttributeError) as raised:
        run(page)
    assert raised.traceback[-1].lineno == 9  # counted from 0
    assert [block.skipped for block in blocks(page.read_text())] == ["", "wrong", ""]


def test_pages_with_examples_have_python_that_runs() -> None:
    running = {page.name for page in WITH_CODE if any(not b.skipped for b in blocks(page.read_text(encoding="utf-8")))}
    assert {"README.md", "usage.md"} <= running


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        path, _, anchor = urllib.parse.unquote(link).partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name} links to {link}"


TOPS = {path.name for path in (ROOT / "fxgrow").iterdir()} | {"fxgrow", "tests", "docs", "benchmarks", "examples"}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Those in backticks that start with a folder of the project or a folder or file of the package."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`([\w./-]+(?:\.py|/))`", prose):
        if name.split("/")[0] in TOPS:
            assert (ROOT / name).exists() or (ROOT / "fxgrow" / name).exists(), f"{page.name} names {name}"
        else:
            assert "/" in name or name.startswith("."), f"{page.name} names {name} without its folder"


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a page, as cells of rows: neighbouring lines that begin with a bar, outside of fenced blocks."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = [match[0].splitlines() for match in re.finditer(r"(?:^ *\|.*\n)+", outside + "\n", re.MULTILINE)]
    return [[re.split(r"(?<!\\)\|", row.strip())[1:-1] for row in table] for table in found]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_table_is_one_table(page: Path) -> None:
    """A blank line among rows would end it, and what follows would be text; rows have as many cells as the head."""
    for table in tables(page.read_text(encoding="utf-8")):
        assert len(table) > 2, table
        assert all(re.fullmatch(r" *:?-+:? *", cell) for cell in table[1]), table[:2]
        assert {len(row) for row in table} == {len(table[0])}, table[0]


def test_a_table_that_falls_in_two_is_found() -> None:
    whole = "| a | b |\n| --- | --- |\n| 1 | `x \\| y` |\n"
    assert tables(whole) == [[[" a ", " b "], [" --- ", " --- "], [" 1 ", " `x \\| y` "]]]
    assert [len(table) for table in tables(whole + "\n| 3 | 4 |\n")] == [3, 1]


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"^- \[(\w+\.md)\]\(\1\)", index, re.MULTILINE)) == pages
