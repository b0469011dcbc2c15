"""Folders are stages: imports go down one list, and no module is called like a public function."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import fxgrow

PACKAGE = Path(__file__).parent.parent / "fxgrow"

# From the ground up: a file imports from folders before its own, and from files of its own folder.
STAGES = (
    "errors", "base", "layouts", "model", "methods", "spec", "ops", "recording", "plans", "capture", "infer", "costs",
    "solver", "depth", "rewrite", "state", "checkpoints", "shards", "validate", "report", "drawing", "api", "matching",
    "scoring", "checkpoint", "training", "examine", "__init__", "cli", "__main__",
)  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def _module(path: Path) -> str:
    """The dotted name below the package: "infer.groups", "infer" for its `__init__`, "__init__" for the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in FILES}


def _imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports."""
    folder = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            origin = ".".join(filter(None, base))
            inside = [f"{origin}.{alias.name}".lstrip(".") for alias in node.names]
            yield from ([name for name in inside if name in MODULES] or [origin or "__init__"])


def test_each_folder_is_a_stage_of_the_list() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert folders | files == set(STAGES)
    assert len(list(PACKAGE.glob("*.py"))) <= 6


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_down_the_list(path: Path) -> None:
    mine = _module(path).partition(".")[0]
    for name in _imports(path):
        theirs = name.partition(".")[0]
        assert theirs == mine or STAGES.index(theirs) < STAGES.index(mine), f"{mine} imports {name}, a later stage"


def test_modules_import_one_another_in_no_circle() -> None:
    pending = {name: set(_imports(path)) - {name} for name, path in MODULES.items()}
    while free := {name for name, needs in pending.items() if not needs & pending.keys()}:
        pending = {name: needs for name, needs in pending.items() if name not in free}
    assert not pending, f"a circle among {sorted(pending)}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES} - {PACKAGE}), ids=lambda path: path.name)
def test_each_folder_says_what_goes_in_and_what_comes_out(folder: Path) -> None:
    contract = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    assert len(contract.split()) >= 25, f"{folder.name}/__init__.py needs a paragraph"


def test_no_module_bears_the_name_of_a_public_function() -> None:
    public = {name for name in fxgrow.__all__ if callable(getattr(fxgrow, name))}
    assert not public & {part for name in MODULES for part in name.split(".")}


# What the other files may import. In ops, they share what is known of functions; in methods, the data of a grown
# dimension and arithmetic on it.
SHARED = {
    "ops": ("registry", "env", "functions"),
    "methods": ("registry", "columns", "arithmetic"),
}


@pytest.mark.parametrize("folder", SHARED)
def test_inside_a_registry_files_know_only_the_registry(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        if path.stem not in ("__init__", "page"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level == 1:
                    assert node.module in SHARED[folder], f"{path.name} imports {node.module}"


OUTPUTS = ("dot", "html", "image", "mermaid", "text")


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_of_drawings_knows_only_what_is_drawn(name: str) -> None:
    for node in ast.walk(ast.parse((PACKAGE / "drawing" / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            assert node.module in ("registry", "view", "colours", "source", "overview", "spine")


def _private_names_of_torch(source: str) -> list[str]:
    """The names of torch with a leading underscore that code imports, or reaches by dots from a module of torch."""
    tree = ast.parse(source)
    modules = {"torch", "nn", "fx", "F"}
    named: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            named += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if dotted.partition(".")[0] in modules and not dotted.startswith("torch.ops."):
                named.append(f"torch.{dotted}")
    private = [name for name in named if any(re.match(r"_[^_]", part) for part in name.split("."))]
    return [name for name in private if name.partition(".")[0] == "torch"]


def test_private_names_of_torch_stand_in_one_file() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in FILES}
    assert _private_names_of_torch(sources.pop("base/torch_private.py"))
    assert not {name: private for name, source in sources.items() if (private := _private_names_of_torch(source))}


@pytest.mark.parametrize(
    "mutant",
    [
        "import torch._dynamo",
        "from torch._ops import OpOverload",
        "from torch.utils import _pytree as pytree",
        "isinstance(norm, nn.modules.batchnorm._BatchNorm)",
        "torch._C._nn.gelu(x)",
    ],
)
def test_a_private_name_of_torch_is_seen(mutant: str) -> None:
    assert _private_names_of_torch(mutant)


def test_what_a_layer_is_stands_in_one_file() -> None:
    general = {"nn.Module", "nn.Parameter", "nn.Buffer"}
    for path in FILES:
        if path.stem != "layer_kinds":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            asked = [call.args[1] for call in calls if ast.unparse(call.func) in ("isinstance", "issubclass")]
            names = {ast.unparse(n) for kinds in asked for n in ast.walk(kinds) if isinstance(n, ast.Attribute)}
            layers = {name for name in names if name.startswith("nn.")} - general
            assert not layers, f"{path.name} asks for {sorted(layers)}: give them a kind in model/layer_kinds.py"


LAYERS = re.compile(r"nn\.\w*(Conv|Pool|Dropout|Embedding)\w*")


def _layers_named(source: str, *, called: bool) -> list[str]:
    """The convolutions, pools, dropouts and embeddings that code names; with `called` also those that it makes."""
    tree = ast.parse(source)
    made = set() if called else {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in made]
    return [name for node in named if LAYERS.fullmatch(name := ast.unparse(node))]


def test_classes_of_layers_are_listed_in_one_file() -> None:
    """The samples of rules make layers."""
    for path in FILES:
        if path.stem != "layer_kinds":
            named = _layers_named(path.read_text(), called=path.parent.name != "ops")
            assert not named, f"{path.name} names {sorted(set(named))}: give them a kind in model/layer_kinds.py"


@pytest.mark.parametrize("mutant", ["A = (nn.Conv2d, nn.ReLU)", "kinds = nn.LPPool1d", "x: nn.AlphaDropout"])
def test_a_list_of_layers_is_seen(mutant: str) -> None:
    assert _layers_named(mutant, called=False)


def test_what_a_module_lists_is_all_that_others_import_of_it() -> None:
    """Besides modules of a folder."""
    imported: dict[str, set[str]] = {}
    for path in FILES:
        folder = path.relative_to(PACKAGE).parent.parts
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
                imported.setdefault(".".join(filter(None, base)), set()).update(alias.name for alias in node.names)
    for name, path in MODULES.items():
        listed = next((value for target, value in _assigned(path) if target == "__all__"), None)
        if listed is not None:
            others = {other for other in imported.get(name, ()) if f"{name}.{other}" not in MODULES}
            assert others <= set(ast.literal_eval(listed)), name


def test_an_operator_in_place_is_told_by_one_underscore() -> None:
    """`__and__` is none, and all of an end of characters is more than the last one."""
    assert not [path.name for path in FILES if 'rstrip("_")' in path.read_text()]


LATE = {
    "import networkx as nx",  # takes as long as all of fxgrow, and only drawings and `why` use it
    "import torch._dynamo",  # takes a second, and only runs need it
    "from torch._subclasses.fake_tensor import FakeTensorMode",  # only files of torch.save need it
    "from torch.utils.flop_counter import flop_registry",  # they import triton with builds for CUDA, .2 s
    "from torch.utils.flop_counter import FlopCounterMode",
}


def _assigned(path: Path) -> Iterator[tuple[str, str]]:
    """The names that the top level of a file gives a value, each with it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    yield ast.unparse(name), ast.unparse(node.value)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_name_of_a_module_has_one_value(path: Path) -> None:
    """No rule of ruff sees it: of two constants of one name, the second would be meant everywhere."""
    counts = Counter(name for name, _ in _assigned(path))
    assert not [name for name, count in counts.items() if count > 1]


def test_a_limit_stands_in_one_file() -> None:
    limits = Counter(one for path in FILES for one in _assigned(path) if re.match("_?MOST_", one[0]))
    assert not [limit for limit, count in limits.items() if count > 1]


def test_no_import_is_hidden_in_a_function() -> None:
    for path in FILES:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                imports = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
                hidden = [n for n in imports if ast.unparse(n) not in LATE]
                assert not hidden, f"{path.name}:{function.lineno} imports inside {function.name}"


def _naming(path: Path, kinds: set[str]) -> bool:
    return any(isinstance(node, ast.Name) and node.id in kinds for node in ast.walk(ast.parse(path.read_text())))


@pytest.mark.parametrize("folder", ["validate", "report"])
def test_checks_and_tables_know_no_kind_of_structural_request(folder: str) -> None:
    """So that a new kind does not open their files (CONTRIBUTING.md)."""
    assert not [path for path in (PACKAGE / folder).glob("*.py") if _naming(path, {"Deepen", "Kernel"})]


def test_kinds_of_structural_changes_are_known_to_what_contributors_are_told_to_open() -> None:
    """The depth stage makes them; of new layers alone (`Insert`), some files ask for what only these have."""
    told = re.findall(r"`fxgrow/([a-z_/]+\.py)`", (PACKAGE.parent / "CONTRIBUTING.md").read_text())
    knowing = [path for path in FILES if _naming(path, {"Repeat", "Enlarge"}) and path.parent.name != "depth"]
    assert {str(path.relative_to(PACKAGE)) for path in knowing} <= set(told)
    assert "depth/insert.py" in told
