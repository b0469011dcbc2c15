"""Settings of the process that a model's code asks for: a student answers by those of its own time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, get_default_dtype, nn

import fxgrow
from fxgrow.base.torch_settings import attributes, functions

BACKENDS: Any = torch.backends
X = torch.linspace(-1, 1, 6).view(2, 3)


@contextmanager
def set_to(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


@contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


Asked = tuple[Callable[[Tensor], bool], Callable[[], AbstractContextManager[Any]]]
SETTINGS: dict[str, Asked] = {
    "default dtype": (
        lambda x: torch.get_default_dtype() == torch.float32,
        lambda: set_to(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    ),
    "default dtype, imported by name": (
        lambda x: get_default_dtype() == torch.float32,
        lambda: set_to(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    ),
    "number of threads": (
        lambda x: torch.get_num_threads() == 1,
        lambda: set_to(torch.get_num_threads, torch.set_num_threads, 2),
    ),
    "precision of products": (
        lambda x: torch.get_float32_matmul_precision() == "highest",
        lambda: set_to(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "high"),
    ),
    "dtype of autocast": (
        lambda x: torch.get_autocast_dtype("cpu") == torch.bfloat16,
        lambda: set_to(
            lambda: torch.get_autocast_dtype("cpu"),
            lambda dtype: torch.set_autocast_dtype("cpu", dtype),
            torch.float16,
        ),
    ),
    "anomalies": (lambda x: torch.is_anomaly_enabled(), lambda: torch.autograd.set_detect_anomaly(True)),
    "warnings": (
        lambda x: torch.is_warn_always_enabled(),
        lambda: set_to(torch.is_warn_always_enabled, torch.set_warn_always, True),
    ),
    "attention": (
        lambda x: BACKENDS.cuda.math_sdp_enabled(),
        lambda: set_to(BACKENDS.cuda.math_sdp_enabled, BACKENDS.cuda.enable_math_sdp, False),
    ),
    "cudnn": (lambda x: BACKENDS.cudnn.deterministic, lambda: attribute(BACKENDS.cudnn, "deterministic", True)),
    "a variable of cudnn": (
        lambda x: BACKENDS.cudnn.benchmark_limit == 3,
        lambda: attribute(BACKENDS.cudnn, "benchmark_limit", 3),
    ),
    "an object in a module": (
        lambda x: BACKENDS.cuda.matmul.allow_tf32,
        lambda: attribute(BACKENDS.cuda.matmul, "allow_tf32", True),
    ),
    "sums in half precision": (
        lambda x: BACKENDS.cuda.matmul.allow_bf16_reduced_precision_reduction,
        lambda: attribute(BACKENDS.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    ),
    "precision of all backends": (
        lambda x: BACKENDS.fp32_precision == "ieee",
        lambda: attribute(BACKENDS, "fp32_precision", "ieee"),
    ),
    "precision of one layer": (
        lambda x: BACKENDS.mkldnn.conv.fp32_precision == "ieee",
        lambda: attribute(BACKENDS.mkldnn.conv, "fp32_precision", "ieee"),
    ),
    "einsum": (
        lambda x: BACKENDS.opt_einsum.strategy == "greedy",
        lambda: attribute(BACKENDS.opt_einsum, "strategy", "greedy"),
    ),
    "fast path": (
        lambda x: BACKENDS.mha.get_fastpath_enabled(),
        lambda: set_to(BACKENDS.mha.get_fastpath_enabled, BACKENDS.mha.set_fastpath_enabled, False),
    ),
    "quantized": (
        lambda x: BACKENDS.quantized.engine == "qnnpack",
        lambda: attribute(BACKENDS.quantized, "engine", "qnnpack"),
    ),
    "memory": (
        lambda x: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        lambda: attribute(torch.utils.deterministic, "fill_uninitialized_memory", False),
    ),
    "conversion of modules": (
        lambda x: torch.__future__.get_swap_module_params_on_conversion(),
        lambda: set_to(
            torch.__future__.get_swap_module_params_on_conversion,
            torch.__future__.set_swap_module_params_on_conversion,
            True,
        ),
    ),
    "seed": (
        lambda x: torch.initial_seed() == 4,
        lambda: set_to(torch.initial_seed, torch.manual_seed, 4),
    ),
}


class Net(nn.Module):
    """Doubles what it computes where a setting is this or that."""

    def __init__(self, ask: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.first, self.last, self.ask = nn.Linear(3, 8), nn.Linear(8, 4), ask

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h * 2 if self.ask(x) else h)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore:None of the inputs")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_student_answers_by_the_settings_of_its_own_time(output: Literal["graph", "module"], name: str) -> None:
    ask, other = SETTINGS[name]
    teacher = Net(ask).eval()
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    assert student.get_parameter("first.weight").shape[0] == 16
    was = teacher(X)
    torch.testing.assert_close(student(X), was)
    with other():
        x = X.clone()
        assert not torch.allclose(teacher(x), was)  # it does decide
        torch.testing.assert_close(student(x), teacher(x))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_tensor_that_is_asked_whether_gradients_are_recorded_takes_one_path(
    output: Literal["graph", "module"],
) -> None:
    for ask in (lambda x: x.is_inference(), lambda x: x.requires_grad, lambda x: torch.is_inference_mode_enabled()):
        with pytest.raises(fxgrow.TraceError, match="asks whether gradients are recorded"):
            fxgrow.grow(Net(ask), 2.0, X, output=output)


ASKED: dict[str, Callable[[], object]] = {
    "cudnn.conv": lambda: BACKENDS.cudnn.conv.fp32_precision,
    "cudnn.rnn": lambda: BACKENDS.cudnn.rnn.fp32_precision,
    "cudnn.depthwise_kernel": lambda: BACKENDS.cudnn.depthwise_kernel,
    "cudnn.is_acceptable": lambda: BACKENDS.cudnn.is_acceptable(X),
    "miopen": lambda: BACKENDS.miopen.immediate,
    "mkldnn": lambda: BACKENDS.mkldnn.enabled,
    "nnpack": lambda: BACKENDS.nnpack.set_flags(True),
    "opt_einsum": lambda: BACKENDS.opt_einsum.enabled,
    "sums in fp16": lambda: BACKENDS.cuda.fp16_bf16_reduction_math_sdp_allowed(),
    "linear algebra": lambda: BACKENDS.cuda.preferred_linalg_library(),
    "threads of autograd": lambda: torch.autograd.is_multithreading_enabled(),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_graph_freezes_no_setting(name: str) -> None:
    traced = fxgrow.trace(Net(lambda x: bool(ASKED[name]())), X)
    assert "asks for a setting" in str(traced.notes)


FACTS: dict[str, Callable[[], object]] = {
    "cuda": lambda: torch.backends.cuda.is_built(),
    "mps": lambda: torch.backends.mps.is_available(),
    "cpu": lambda: torch.backends.cpu.get_cpu_capability(),
    "mkldnn": lambda: torch.backends.mkldnn.is_available(),
    "engines": lambda: torch.backends.quantized.supported_engines,
}


@pytest.mark.parametrize("name", FACTS)
def test_what_a_machine_has_is_no_setting(name: str) -> None:
    traced = fxgrow.trace(Net(lambda x: bool(FACTS[name]())), X)
    assert "asks for a setting" not in str(traced.notes)


def test_settings_of_torch_are_found_and_left_as_they_are() -> None:
    held = [(owner, name, vars(owner).get(name)) for owner, name in (*functions(), *attributes())]
    assert len(held) > 50
    fxgrow.trace(Nested(), X)
    assert held == [(owner, name, vars(owner).get(name)) for owner, name in (*functions(), *attributes())]


HELPER = """
from torch import get_num_threads, is_grad_enabled

def doubled(x):
    return x * 2 if get_num_threads() == 1 else x

def doubled_by_gradients(x):
    return x * 2 if is_grad_enabled() else x
"""


class Calls(nn.Module):
    """Calls a function of another source file, which holds no module."""

    def __init__(self, name: str, *, late: bool) -> None:
        super().__init__()
        self.first, self.last, self.name = nn.Linear(3, 8), nn.Linear(8, 4), name
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        helper = importlib.import_module("helper_of_settings") if self.late else sys.modules["helper_of_settings"]
        result: Tensor = self.last(getattr(helper, self.name)(self.first(x)))
        return result


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A source file that can be imported."""
    (tmp_path / "helper_of_settings.py").write_text(HELPER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("helper_of_settings", None)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.usefixtures("helper")
def test_names_in_a_file_without_modules_are_found(output: Literal["graph", "module"], late: bool) -> None:
    if not late:
        importlib.import_module("helper_of_settings")
    teacher = Calls("doubled", late=late).eval()
    student = fxgrow.grow(teacher, 2.0, X, output=output)
    with set_to(torch.get_num_threads, torch.set_num_threads, 2):
        torch.testing.assert_close(student(X), teacher(X))
    assert sys.modules["helper_of_settings"].__dict__["get_num_threads"] is torch.get_num_threads


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.usefixtures("helper")
def test_a_question_for_gradients_in_a_file_without_modules_is_seen(output: Literal["graph", "module"]) -> None:
    importlib.import_module("helper_of_settings")
    with pytest.raises(fxgrow.GrowError, match="asks whether gradients are recorded"):
        fxgrow.grow(Calls("doubled_by_gradients", late=False), 2.0, X, output=output)


@pytest.mark.usefixtures("helper")
def test_a_name_that_a_file_gets_later_is_found() -> None:
    space = vars(importlib.import_module("helper_of_settings"))
    space["later"] = torch.relu
    fxgrow.trace(Calls("later", late=False), X)
    exec("from torch import get_num_interop_threads\ndef later(x): return x * get_num_interop_threads()", space)
    assert "asks for a setting" in str(fxgrow.trace(Calls("later", late=False), X).notes)


class Nested(nn.Module):
    """Asks in one of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.asking, self.after = Net(SETTINGS["number of threads"][0]), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.after(self.asking(x))
        return result


def test_only_the_module_that_asks_stays_a_call() -> None:
    student = fxgrow.grow(Nested().eval(), 2.0, X)
    assert isinstance(student, torch.fx.GraphModule)
    assert [str(node.target) for node in student.graph.nodes if node.op == "call_module"] == [
        "asking", "after.0", "after.1",
    ]  # fmt: skip
    assert any("asks for a setting (get_num_threads)" in note for note in fxgrow.plan_of(student).notes)
