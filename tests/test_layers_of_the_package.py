"""Each file imports only from layers above it, and torch types stay out of the lowest ones."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fxgrow"

# From the bottom up; a file may import from any earlier line. Folders count as one layer.
LAYERS = (
    "errors", "seeds", "table", "activations", "wishes", "layout", "unify", "copies", "inputs", "whole", "sites",
    "grown", "changes", "meta", "leaves", "aten", "tape", "interpret", "record", "stated", "refuse", "proxy",
    "patches", "retrace", "tracer", "traced", "trial", "trace", "ops", "literals", "attributes", "findings",
    "language", "infer", "groups", "balance", "widths", "named", "spec", "ends", "means", "targets", "methods",
    "planned", "plan", "padding", "planning", "places", "blocks", "deepening", "fill", "newborn", "insertion",
    "calibration", "rewrite", "check", "changed", "settle", "report", "flops", "verify", "costs", "draw", "summary",
    "summarise", "api", "__init__", "arguments", "commands", "cli", "__main__",
)  # fmt: skip


def _layer(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _imports(path: Path) -> set[str]:
    """The layers that a file imports from, its own excepted."""
    inside = len(path.relative_to(PACKAGE).parts) > 1
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        if node.level == 1 and inside:
            continue
        names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        found.update(names)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_file_imports_only_from_lower_layers(path: Path) -> None:
    mine = LAYERS.index(_layer(path))
    for other in _imports(path):
        assert LAYERS.index(other) < mine, f"{path.name} imports {other}, which stands above it"


@pytest.mark.parametrize("folder", ["ops", "methods"])
def test_inside_a_folder_files_know_only_its_registry(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        if path.stem == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert node.module == "registry", f"{path.name} imports {node.module}"


DRAWING = (  # from the bottom up
    "view", "colours", "source", "alone", "given", "registry", "folding", "additions", "graph",
)  # fmt: skip
OUTPUTS = ("dot", "html", "image", "mermaid", "text")


@pytest.mark.parametrize("path", sorted((PACKAGE / "draw").glob("*.py")), ids=lambda path: path.stem)
def test_a_file_of_drawings_imports_from_lower_ones_and_an_output_only_what_is_drawn(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and path.stem != "__init__":
            if path.stem in OUTPUTS:
                assert node.module in ("registry", "view", "colours", "source")
            elif path.stem in DRAWING:
                assert DRAWING.index(str(node.module)) < DRAWING.index(path.stem)
            else:
                assert node.module in DRAWING


def test_no_import_is_hidden_in_a_function() -> None:
    for path in FILES:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                hidden = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not hidden, f"{path.name}:{function.lineno} imports inside {function.name}"
