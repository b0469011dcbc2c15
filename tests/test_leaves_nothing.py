"""Nothing of the process is another after a call of fxgrow, whether it returned, failed or was interrupted."""

import builtins
import contextlib
import functools
import gc
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch._dynamo  # which wraps functions of torch where it is first used
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import fxgrow
from fxgrow.base.isolation import RARELY, isolated
from fxgrow.base.replacing import replaced
from fxgrow.base.torch_private import TorchDispatchMode, depths_of_modes
from fxgrow.recording.tape import Tape
from tests.check import assert_exact, randomise
from tests.nets import NETS

X = torch.randn(2, 3, 6, 8)
LATER = (torch.cuda, torch.xpu)  # which take the seed of `torch.manual_seed` when they are first used
KINDS = (nn.Module, Tensor, torch.fx.Tracer, torch.fx.Graph, torch.fx.graph_module._WrappedCall)
PATCHED = [(torch, name) for name in vars(torch) if callable(getattr(torch, name))]
PATCHED += [(builtins, name) for name in vars(builtins)]
PATCHED += [(kind, name) for kind in KINDS for name in vars(kind)]
PATCHED += [(torch.nn.functional, name) for name in vars(torch.nn.functional)]


BACKENDS: Any = torch.backends
LEAST = 5e-324  # a denormal number


class Entry(NamedTuple):
    """A setting of the process: how to read it, to set it to another value, and to set it to what it was."""

    read: Callable[[], Any]
    other: Callable[[], object]
    put: Callable[[Any], object]


def _attribute(owner: Any, name: str, value: Any) -> Entry:
    put = functools.partial(setattr, owner, name)
    return Entry(functools.partial(getattr, owner, name), lambda: put(value), put)


def _pair(read: Callable[[], Any], put: Callable[[Any], object], value: Any) -> Entry:
    return Entry(read, lambda: put(value), put)


cuda, future = BACKENDS.cuda, torch.__future__
SET: dict[str, Entry] = {
    "cudnn.benchmark": _attribute(BACKENDS.cudnn, "benchmark", True),
    "cudnn.benchmark_limit": _attribute(BACKENDS.cudnn, "benchmark_limit", 3),
    "cudnn.deterministic": _attribute(BACKENDS.cudnn, "deterministic", True),
    "cudnn.enabled": _attribute(BACKENDS.cudnn, "enabled", False),
    "mkldnn.enabled": _attribute(BACKENDS.mkldnn, "enabled", False),
    "mkldnn.deterministic": _attribute(BACKENDS.mkldnn, "deterministic", True),
    "cudnn.allow_tf32": _attribute(BACKENDS.cudnn, "allow_tf32", False),
    "precision of products": _pair(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "high"),
    "precision of rnn": _attribute(BACKENDS.cudnn.rnn, "fp32_precision", "ieee"),
    "precision of all": _attribute(BACKENDS, "fp32_precision", "ieee"),
    "precision of mkldnn": _attribute(BACKENDS.mkldnn, "fp32_precision", "bf16"),
    "precision of conv": _attribute(BACKENDS.mkldnn.conv, "fp32_precision", "ieee"),
    "sums in bf16": _attribute(cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    "sums of attention": _pair(
        cuda.fp16_bf16_reduction_math_sdp_allowed, cuda.allow_fp16_bf16_reduction_math_sdp, True
    ),
    "flash": _pair(cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
    "memory efficient": _pair(cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
    "math": _pair(cuda.math_sdp_enabled, cuda.enable_math_sdp, False),
    "attention of cudnn": _pair(cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
    "fast path": _pair(BACKENDS.mha.get_fastpath_enabled, BACKENDS.mha.set_fastpath_enabled, False),
    "einsum": _attribute(BACKENDS.opt_einsum, "strategy", "greedy"),
    "quantized": _attribute(BACKENDS.quantized, "engine", "qnnpack"),
    "filled memory": _attribute(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "denormal numbers": _pair(lambda: LEAST * 1.0 == 0, torch.set_flush_denormal, True),
    "warnings of torch": _pair(torch.is_warn_always_enabled, torch.set_warn_always, True),
    "threads of autograd": _pair(
        torch.autograd.is_multithreading_enabled,
        torch.autograd.set_multithreading_enabled,
        False,
    ),
    "conversion": _pair(future.get_swap_module_params_on_conversion, future.set_swap_module_params_on_conversion, True),
    "printing": Entry(
        lambda: dict(vars(torch._tensor_str.PRINT_OPTS)),
        lambda: torch.set_printoptions(precision=8, profile="full"),
        vars(torch._tensor_str.PRINT_OPTS).update,
    ),
    "recursion": _pair(sys.getrecursionlimit, sys.setrecursionlimit, sys.getrecursionlimit() + 99),
    "logging": _pair(lambda: logging.root.manager.disable, logging.disable, 50),
    "numpy": Entry(np.geterr, lambda: np.seterr(all="ignore"), lambda kinds: np.seterr(**kinds)),
    "default device of the process": Entry(
        lambda: vars(torch._GLOBAL_DEVICE_CONTEXT).get("device_context") is not None,
        lambda: torch.set_default_device("cpu"),
        lambda _: torch.set_default_device(None),
    ),
}  # in an order in which they can be put back one after another


def process_state() -> dict[str, Any]:
    """Everything that code in one place can change for code in another."""
    keys, *rest = np.random.get_state()[1:]
    state: dict[str, Any] = {
        f"hooks.{name}": list(table.items())
        for name, table in vars(hooks).items()
        if name.startswith("_global") and isinstance(table, dict)
    }
    state |= {f"{owner.__name__}.{name}": id(vars(owner).get(name)) for owner, name in PATCHED}
    state |= {
        "training of nn.Module": "training" in vars(nn.Module),
        "backward hooks": hooks._global_is_full_backward_hook,
        "Function.apply": id(vars(torch.autograd.Function)["apply"]),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")],
        "autocast cache": torch.is_autocast_cache_enabled(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "anomalies": torch.is_anomaly_enabled(),
        "torch rng": torch.get_rng_state().numpy().tobytes(),
        "seeds of accelerators not in use yet": [list(kind._lazy_seed_tracker.get_calls()) for kind in LATER],
        "python rng": random.getstate(),
        "numpy rng": (keys.tobytes(), *rest),
        "dispatch modes": len(_get_current_dispatch_mode_stack()),
        "function modes": len(_get_current_function_mode_stack()),
        "warnings": (id(warnings.filters), list(warnings.filters), warnings.showwarning),
        "gc": (gc.isenabled(), gc.get_threshold()),
        "threads": torch.get_num_threads(),
        "tracing": torch.fx._symbolic_trace.is_fx_symbolic_tracing(),
    }
    return state | {name: entry.read() for name, entry in SET.items()}


def changed_by(call: Callable[[], object]) -> list[str]:
    """What a call leaves behind; its exception is caught."""
    before = process_state()
    with contextlib.suppress(fxgrow.GrowError, KeyboardInterrupt):
        call()
    after = process_state()
    return [name for name in before if before[name] != after[name]]


def _plan(model: nn.Module) -> fxgrow.Plan:
    return fxgrow.plan(fxgrow.widths(model, X), 2.0)


def _draw(model: nn.Module) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return fxgrow.draw(model, Path(folder) / "net.html", example_inputs=X)


CALLS: dict[str, Callable[[nn.Module], object]] = {
    "trace": lambda model: fxgrow.trace(model, X),
    "widths": lambda model: fxgrow.widths(model, X),
    "plan": _plan,
    "apply": lambda model: fxgrow.apply(_plan(model), model, X),
    "grow": lambda model: fxgrow.grow(model, 2.0, X),
    "grow deeper": lambda model: fxgrow.grow(model, [fxgrow.Deepen("*")], X),
    "grow as a module": lambda model: fxgrow.grow(model, 2.0, X, output="module"),
    "verify": lambda model: fxgrow.verify(model, model, X),
    "summary": lambda model: fxgrow.summary(model, X),
    "draw": _draw,
    "read a plan": lambda model: fxgrow.Plan.from_json("{}"),
}


class Sets(nn.Module):
    """Sets what it can for the whole process, calls what only a part may, then ends in an exception or not."""

    def __init__(self, end: BaseException | None, inside: str) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
        self.end, self.inside = end, inside

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x))
        if self.inside == "no_grad":
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                return self._ended(h)
        if self.inside == "settings":
            torch.set_default_dtype(torch.float64)
            torch.use_deterministic_algorithms(True)
            torch.set_grad_enabled(False)
            torch.set_autocast_enabled("cpu", False)
            torch.set_num_threads(torch.get_num_threads() + 1)
            warnings.simplefilter("error")
            torch.manual_seed(3), random.seed(3), np.random.seed(3)
        if self.inside in SET:
            SET[self.inside].other()
        if self.inside == "hooks":
            hooks.register_module_forward_hook(lambda *_: None, with_kwargs=True, always_call=True)
            hooks.register_module_full_backward_hook(lambda *_: None)
            hooks.register_module_buffer_registration_hook(lambda *_: None)
        return self._ended(h)

    def _ended(self, h: Tensor) -> Tensor:
        if self.end is not None:
            raise self.end
        return self.b(h)


ENDS = {"returns": None, "fails": RuntimeError("no forward today"), "is interrupted": KeyboardInterrupt()}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_leaves_nothing_behind(call: str) -> None:
    teacher = randomise(NETS["res_net"].make())
    assert not changed_by(lambda: CALLS[call](teacher))


@pytest.mark.parametrize("inside", ["nothing", "no_grad", "settings"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_leaves_nothing_behind_whatever_forward_does(call: str, end: str, inside: str) -> None:
    teacher = Sets(ENDS[end], inside)
    assert not changed_by(lambda: CALLS[call](teacher))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("inside", [*SET, "hooks"])
def test_what_forward_sets_for_the_process_is_put_back(inside: str, output: Any, end: str) -> None:
    before, teacher = {name: entry.read() for name, entry in SET.items()}, Sets(ENDS[end], inside)
    try:
        assert not changed_by(lambda: fxgrow.grow(teacher, 2.0, X, output=output))
    finally:
        for name, entry in SET.items():
            if entry.read() != before[name]:
                entry.put(before[name])


class SetsDefaultDtype(nn.Module):
    """Sets a setting that decides what a later call, or a later line, computes."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.a, self.b, self.first = nn.Linear(3, 8), nn.Linear(8, 4), first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            torch.set_default_dtype(torch.float64)
        h = self.b(self.a(x)) + torch.ones(4)
        torch.set_default_dtype(torch.float64)
        return h


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_run_that_sets_something_changes_no_later_one(output: Any, first: bool) -> None:
    teacher, x = SetsDefaultDtype(first=first), torch.randn(2, 3)
    student = fxgrow.grow(teacher, 2.0, x, output=output)
    results = []
    try:
        for model in (teacher, student):
            torch.set_default_dtype(torch.float32)
            results.append(model(x))
    finally:
        torch.set_default_dtype(torch.float32)
    assert results[0].dtype == (torch.float64 if first else torch.float32)
    torch.testing.assert_close(results[1], results[0])


class InterruptedLater(nn.Module):
    """Is interrupted in the middle of its n-th run: while it is recorded, traced, inferred or checked."""

    def __init__(self, runs: list[int]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)
        self.count = runs.pop  # a method of a list outside of the model counts over all copies

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        try:
            self.count()
        except IndexError:
            raise KeyboardInterrupt from None
        return self.b(h)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("output", ["graph", "module"])
def test_an_interrupt_in_any_run_leaves_nothing_behind(output: Any, number: int) -> None:
    model = InterruptedLater([0] * number)
    assert not changed_by(lambda: fxgrow.grow(model, 2.0, X, output=output))


def test_a_model_compiles_without_warnings_after_growth() -> None:
    fxgrow.grow(NETS["res_net"].make(), 2.0, X)
    assert not hooks._has_any_global_hook()


@pytest.mark.parametrize("output", ["graph", "module"])
def test_what_hooks_of_all_modules_do_is_no_part_of_a_student(output: Any) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x).relu()  # type: ignore[no-any-return]

    def doubling(module: nn.Module, args: Any, result: Any) -> Any:
        calls.append(module)
        return result * 2 if isinstance(module, Block) else None

    calls: list[nn.Module] = []
    teacher, x = nn.Sequential(Block(), nn.Linear(8, 3)).double(), torch.randn(5, 4, dtype=torch.float64)
    handle = hooks.register_module_forward_hook(doubling)
    try:
        student = fxgrow.grow(teacher, 2.0, x, output=output)
        assert not calls
        teacher(x)
        assert calls
    finally:
        handle.remove()
    assert not hooks._has_any_global_hook()
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-10, atol=1e-10)


IMPORTED_LATE = """
import sys, types, torch, fxgrow

class Late(torch.nn.Linear):
    def forward(self, x):
        import late_module
        return super().forward(x + late_module.arange(1))

model = Late(3, 4)
fxgrow.grow(torch.nn.Sequential(model, torch.nn.Linear(4, 2)), 2.0, torch.randn(2, 3))

def found(owner):
    for name, value in list(vars(owner).items()):
        yield name, value
        if type(value) in (dict, list, tuple, set, frozenset):
            yield from ((name, entry) for entry in list(value))
        if type(value) is dict:
            yield from ((name, entry) for entry in list(value.values()))
        if type(value) is type and value.__module__ == owner.__name__:
            yield from vars(value).items()

ALLOWED = ("_side_effectful_functions",)  # of `torch.fx`, where the guards of graphs are registered
for name, module in list(sys.modules.items()):
    if module is not None and name.split(".")[0] not in ("fxgrow", "__main__"):
        for own, value in found(module):
            ours = isinstance(value, types.FunctionType) and "fxgrow/" in value.__code__.co_filename
            if ours and own not in ALLOWED:
                print(name, own, value)
import late_module
assert late_module.arange is torch.arange and late_module.Own.text is torch.Tensor.__repr__
print("looked at", len(sys.modules) > 500, "torch._dynamo.variables.tensor" in sys.modules)
"""


def test_modules_that_are_imported_in_a_run_keep_nothing_of_it(tmp_path: Path) -> None:
    """`torch._dynamo` is one: its first use copies all methods of `Tensor`."""
    late = "import torch\nfrom torch import arange\n\nclass Own:\n    text = torch.Tensor.__repr__\n"
    (tmp_path / "late_module.py").write_text(late, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])}
    words = [sys.executable, "-W", "ignore", "-c", IMPORTED_LATE]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.returncode) == ("looked at True True\n", 0), done.stdout + done.stderr


KEPT: dict[str, Any] = {}  # what a cache outside the model keeps of torch
CALLED: dict[str, tuple[object, str, Callable[[Any, Tensor], object]]] = {
    **{name: (torch, name, lambda ask, _: ask()) for name in ("is_grad_enabled", "is_autocast_enabled")},
    **{name: (torch, name, lambda make, x: make(x.tolist())) for name in ("tensor", "as_tensor")},
    **{name: (torch, name, lambda make, x: make(len(x)).tolist()) for name in ("zeros", "arange", "eye")},
    **{name: (Tensor, name, lambda read, x: read(x)) for name in ("tolist", "numpy", "__repr__", "type", "get_device")},
    "__getitem__": (Tensor, "__getitem__", lambda read, x: read(x, [0, 1])),
    "apply_": (Tensor, "apply_", lambda write, x: write(x, lambda number: 2 * number)),
    "data_ptr": (Tensor, "data_ptr", lambda ask, x: ask(x) == x.untyped_storage().data_ptr()),
    "register_hook": (Tensor, "register_hook", lambda hook, x: hook(x.clone().requires_grad_(), abs).id >= 0),
    "__enter__": (torch.no_grad, "__enter__", lambda enter, _: enter(torch.no_grad())),
    "__exit__": (torch.no_grad, "__exit__", lambda leave, _: leave(_entered(), None, None, None)),
    "get_fastpath_enabled": (torch.backends.mha, "get_fastpath_enabled", lambda ask, _: ask()),
    "len": (builtins, "len", lambda ask, x: ask(x)),
    "isinstance": (builtins, "isinstance", lambda ask, x: ask(x, Tensor)),
}  # (owner, name, a call)


def _entered() -> torch.no_grad:
    context = torch.no_grad()
    context.__enter__()
    return context


def called() -> dict[str, str]:
    """What the functions that were kept give."""
    given: dict[str, str] = {}
    for name, (_, _, call) in CALLED.items():
        with torch.enable_grad():
            given[name] = str(call(KEPT[name], X[0, 0, 0].clone()))
    return given


class KeepsFunctions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for name, (owner, attribute, _) in CALLED.items():
            KEPT.setdefault(name, getattr(owner, attribute))
        return self.b(self.a(x).relu())


@pytest.mark.parametrize("output", ["graph", "module"])
def test_functions_of_torch_that_code_keeps_from_a_run_do_afterwards_what_torch_s_do(output: Any) -> None:
    model = KeepsFunctions().eval()
    KEPT.clear()
    model(X)
    expected = called()
    KEPT.clear()
    fxgrow.grow(model, 2.0, X, output=output)
    assert called() == expected


class DecidesByNumbers(nn.Module):
    """Runs on real tensors, whose activations take memory; its code mixes sizes of the input with widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = x + 1
        h = self.first(x).relu().flatten(2)
        h = self.second(h.view(len(x), -1, *x.shape[2:]))
        return self.last(torch.cat([h, h], 1).chunk(2, 1)[0].mean((2, 3)))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_recordings_of_runs_are_freed_without_the_garbage_collector(output: Any) -> None:
    """Cycles would keep all activations of all runs of a large model, which are few objects and much memory."""
    model = DecidesByNumbers()
    fxgrow.grow(model, 2.0, X, output=output)  # torch keeps some of its first call
    gc.collect()
    gc.disable()
    try:
        before = tapes()
        student = fxgrow.grow(model, 2.0, X, output=output)
        assert tapes() == before
    finally:
        gc.enable()
    assert student.get_parameter("first.weight").shape[0] == 16


class SeesCollector(DecidesByNumbers):
    """Notes the thresholds of the garbage collector, and sets them."""

    def forward(self, x: Tensor) -> Tensor:
        SEEN.add(gc.get_threshold())
        gc.set_threshold(500, 5, 5)
        return super().forward(x)


SEEN: set[tuple[int, ...]] = set()


def test_full_collections_wait_until_a_call_is_over() -> None:
    """Each of them would look through all objects of an analysis that stay."""
    SEEN.clear()
    before = gc.get_threshold()
    gc.set_threshold(600, 7, 8)
    try:
        fxgrow.grow(SeesCollector(), 2.0, X)
        assert gc.get_threshold() == (600, 7, 8)
    finally:
        gc.set_threshold(*before)
    assert (600, 7, RARELY) in SEEN


def tapes() -> int:
    return sum(issubclass(type(one), Tape) for one in gc.get_objects())


@pytest.mark.parametrize("output", ["graph", "module"])
def test_the_default_device_of_the_process_is_the_models_code_s(output: Any) -> None:
    """`torch.set_default_device("cuda")` is common; "meta" stands for it, as it is in every build."""
    model, x = (
        randomise(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()),
        torch.randn(3, 4).double(),
    )
    with torch.device("meta"):
        for spec in (2.0, fxgrow.Widen("0", 12, method="split"), fxgrow.Deepen("0"), fxgrow.Outputs(5)):
            student = fxgrow.grow(model, spec, x, output=output)
            again = fxgrow.apply(fxgrow.Plan.from_json(fxgrow.plan_of(student).to_json()), model, x)
            assert fxgrow.verify(model, again, x).exact
            assert {tensor.device.type for tensor in student.state_dict().values()} == {"cpu"}
        assert torch.get_default_device().type == "meta"


@pytest.mark.parametrize("inside", ["cpu", None])
@pytest.mark.parametrize("output", ["graph", "module"])
def test_a_default_device_that_forward_sets_is_put_back(output: Any, inside: str | None) -> None:
    class SetsDevice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            torch.set_default_device(inside)
            return self.b(self.a(x))  # type: ignore[no-any-return]

    model, x = SetsDevice(), torch.randn(3, 4)
    torch.set_default_device("meta")
    try:
        assert not changed_by(lambda: fxgrow.grow(model, 2.0, x, output=output))
        assert torch.ones(1).is_meta
    finally:
        torch.set_default_device(None)
    assert torch.ones(1).is_cpu
    assert not _get_current_function_mode_stack()


FIRST_DEVICE = """
import torch, fxgrow

class Net(torch.nn.Linear):
    def forward(self, x):
        with torch.device("cpu"):
            return super().forward(x) + torch.ones(1)

fxgrow.grow(torch.nn.Sequential(Net(3, 4), torch.nn.Linear(4, 2)), 2.0, torch.randn(2, 3))
with torch.device("meta"):
    assert torch.ones(1).is_meta and torch.eye(2).is_meta
"""


def test_a_device_that_is_first_entered_in_a_run_keeps_nothing_of_it() -> None:
    """Then torch keeps a table of its functions that make tensors."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST_DEVICE], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_no_thread_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has threads warns when it forks, as the workers of a loader do."""
    bar = vars(torch.hub)["tqdm"]
    if hasattr(bar, "monitor"):
        monkeypatch.setattr(bar, "monitor", None)
    before = set(threading.enumerate())
    fxgrow.grow(NETS["conv2d"].make(), 2.0, NETS["conv2d"].inputs())
    assert set(threading.enumerate()) == before


def test_calls_in_several_threads_take_turns() -> None:
    """Each is given its own student, and functions of torch are torch's afterwards."""
    nets, x = [randomise(NETS["conv2d"].make()) for _ in range(8)], NETS["conv2d"].inputs()
    fxgrow.grow(nets[0], 2.0, x)  # torch imports what it needs
    before, often = process_state(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            students = list(threads.map(lambda net: fxgrow.grow(net, 2.0, x), nets))
    finally:
        sys.setswitchinterval(often)
    assert process_state() == before
    for net, student in zip(nets, students, strict=True):
        assert_exact(net, student, x, 1e-10)


class _Interrupted:
    """Ctrl-C comes while its attributes are put back."""

    def __init__(self) -> None:
        self.a, self.b, self.left = "own a", "own b", 2

    def __setattr__(self, name: str, value: object) -> None:
        if name == "b" and value == "own b" and vars(self).get("left"):
            vars(self)["left"] -= 1
            raise KeyboardInterrupt
        vars(self)[name] = value


def test_ctrl_c_while_functions_are_put_back_leaves_none_of_them_replaced() -> None:
    owner = _Interrupted()
    with pytest.raises(KeyboardInterrupt), replaced([(owner, "b", 1), (owner, "a", 2), (owner, "new", 3)]):
        assert (owner.b, owner.a) == (1, 2)
    assert vars(owner) == {"a": "own a", "b": "own b", "left": 0}


class _Sees(TorchDispatchMode):
    """A mode for operators that does nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _enter_and_fail() -> None:
    _Sees().__enter__()
    torch.device("cpu").__enter__()
    raise KeyboardInterrupt


def test_ctrl_c_where_a_mode_was_entered_leaves_none_and_those_of_the_user() -> None:
    with torch.device("meta"), _Sees():
        before = depths_of_modes()
        with pytest.raises(KeyboardInterrupt), isolated():
            _enter_and_fail()
        assert depths_of_modes() == before
        assert torch.empty(1).is_meta


class Heads(nn.Module):
    """States its heads and their width, which trial runs find out."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.qkv, self.o, self.f = nn.Linear(5, 16), nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.e(x)
        q, k, v = self.qkv(x).view(x.shape[0], x.shape[1], 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.f(x + self.o(y.transpose(1, 2).reshape(x.shape)))


class Inside(nn.Module):
    """Calls another model, first on what that may refuse."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.a, self.b = inner, nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        with contextlib.suppress(RuntimeError):
            self.inner(x[..., :2])
        return self.b(self.a(self.inner(x)).relu())


GRAPHS: dict[str, Callable[[], nn.Module]] = {
    "a graph": lambda: torch.fx.symbolic_trace(Heads()),
    "a student": lambda: fxgrow.grow(Heads(), 2.0, torch.randn(2, 6, 5)),
    "a graph in a model": lambda: Inside(torch.fx.symbolic_trace(Heads())),
    "a student in a model": lambda: Inside(fxgrow.grow(Heads(), 2.0, torch.randn(2, 6, 5))),
}


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("kind", GRAPHS)
def test_nothing_is_printed_where_trial_runs_of_graphs_fail(
    kind: str, output: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    model = GRAPHS[kind]()
    with contextlib.suppress(fxgrow.PlanError):
        fxgrow.grow(model, 2.0, torch.randn(2, 6, 5), output=output)
    assert capfd.readouterr() == ("", "")


class Reshaped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(3)


def test_graphs_that_fail_outside_of_a_call_print_why_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with pytest.raises(RuntimeError):
            graph(torch.ones(2, 2))

    graph = torch.fx.symbolic_trace(Reshaped())
    with isolated():
        with isolated():
            fail()
        fail()
        assert capsys.readouterr().err == ""
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert "Call using an FX-traced Module" in capsys.readouterr().err
    fail()
    assert "Call using an FX-traced Module" in capsys.readouterr().err
