"""What other tools do with a student: compilers, exporters, frameworks, quantisation and pruning.

    python benchmarks/interop.py --markdown docs/interop.md

A row for each check, a column for each of six nets, grown by 1.5 (a transformer by whole multiples, 2.0). Where a check
fails, it is tried on the teacher: a failure that the teacher shares is marked as such. What is not installed is said.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks.interop_nets import NETS
from benchmarks.page import Table
from benchmarks.torchvision_shim import import_torchvision

Check = Callable[[nn.Module, Tensor], None]
CHECKS: dict[str, tuple[Check, tuple[str, ...]]] = {}


def check(name: str, *needs: str) -> Callable[[Check], Check]:
    """Register a check, which raises where something is wrong, and the packages that it needs."""

    def register(function: Check) -> Check:
        CHECKS[name] = function, needs
        return function

    return register


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    scale = float(expected.detach().abs().max())
    assert float((actual - expected).detach().abs().max()) <= tolerance * scale, "other results"


def trained(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A step of training changes every parameter that takes a gradient."""
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(2):  # zero columns let gradients through from the second step on
        optimizer.zero_grad()
        run(x).square().mean().backward()
        optimizer.step()
    used = [p.grad is not None for p in model.parameters()]
    changed = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert any(used), "no gradient"
    assert all(moved or not grad for moved, grad in zip(changed, used, strict=True)), "a parameter does not train"


def _compiled(backend: str) -> Check:
    def run(model: nn.Module, x: Tensor) -> None:
        torch.compiler.reset()
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        model.eval()
        close(compiled(x), model(x))
        model.train()
        trained(model, compiled, x)

    return run


check("torch.compile, fullgraph, aot_eager")(_compiled("aot_eager"))
check("torch.compile, fullgraph, inductor")(_compiled("inductor"))


@check("torch.export, strict")
def exported_strictly(model: nn.Module, x: Tensor) -> None:
    close(torch.export.export(model.eval(), (x,), strict=True).module()(x), model(x))


@check("torch.export")
def exported(model: nn.Module, x: Tensor) -> None:
    close(torch.export.export(model.eval(), (x,)).module()(x), model(x))


@check("torch.jit.trace")
def jit_traced(model: nn.Module, x: Tensor) -> None:
    close(torch.jit.trace(model.eval(), x)(x), model(x))


@check("ONNX, onnxruntime", "onnx", "onnxscript", "onnxruntime")
def onnx(model: nn.Module, x: Tensor) -> None:
    model.eval()
    file = io.BytesIO()
    torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(file)
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    close(torch.from_numpy(result), model(x))


@check("autocast, bfloat16")
def autocast(model: nn.Module, x: Tensor) -> None:
    def run(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(inputs).float()

    trained(model, run, x)


@check("checkpointing of the whole model")
def checkpointed(model: nn.Module, x: Tensor) -> None:
    inputs = x.requires_grad_() if x.is_floating_point() else x
    trained(model, lambda given: torch.utils.checkpoint.checkpoint(model, given, use_reentrant=False), inputs)


@check("channels_last")
def channels_last(model: nn.Module, x: Tensor) -> None:
    expected = model.eval()(x)
    model.to(memory_format=torch.channels_last)
    close(model(x.to(memory_format=torch.channels_last) if x.ndim == 4 else x), expected)


@check("functional_call, vmap over models")
def ensembled(model: nn.Module, x: Tensor) -> None:
    model.eval()  # stack_module_state wants one class, and each GraphModule has its own: stacked by hand
    states = [
        dict(model.state_dict()),
        {n: t * 1.01 if t.is_floating_point() else t for n, t in model.state_dict().items()},
    ]
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    results = torch.func.vmap(lambda state: torch.func.functional_call(model, state, (x,)))(stacked)
    close(results[1], torch.func.functional_call(model, states[1], (x,)))


@check("AveragedModel")
def averaged(model: nn.Module, x: Tensor) -> None:
    average = torch.optim.swa_utils.AveragedModel(model)
    trained(model, model, x)
    average.update_parameters(model)
    close(average.eval()(x), model.eval()(x))


@check("SyncBatchNorm, converted")
def synchronised(model: nn.Module, x: Tensor) -> None:
    had = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model).eval())
    assert had == any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()), "nothing converted"
    if not had:
        close(converted(x), model.eval()(x))


@check("deepcopy, pickle")
def copied(model: nn.Module, x: Tensor) -> None:
    file = io.BytesIO()
    torch.save(model.eval(), file)
    file.seek(0)
    close(torch.load(file, weights_only=False)(x), model(x), 0)
    close(copy.deepcopy(model)(x), model(x), 0)


@check("Lightning", "pytorch_lightning")
def lightning(model: nn.Module, x: Tensor) -> None:
    pl: Any = importlib.import_module("pytorch_lightning")

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def training_step(self, batch: Any, _: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-3)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(len(x))), batch_size=2)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=2, accelerator="cpu", default_root_dir=folder, enable_checkpointing=False, **quiet
        )
        trainer.fit(Module(), loader, loader)
    assert all(module.training for module in model.modules()), "left in eval mode"


@check("Trainer of transformers", "transformers", "accelerate")
def trainer(model: nn.Module, x: Tensor) -> None:
    transformers: Any = importlib.import_module("transformers")

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.net(inputs)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    rows = [{"inputs": entry, "labels": number} for number, entry in enumerate(x)]
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            output_dir=folder, max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
            disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )  # fmt: skip
        transformers.Trainer(Wrapped(), options, train_dataset=rows).train()


@check("Accelerate", "accelerate")
def accelerated(model: nn.Module, x: Tensor) -> None:
    accelerator: Any = importlib.import_module("accelerate").Accelerator(cpu=True)
    prepared, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), 1e-3))
    accelerator.backward(prepared(x).square().mean())
    optimizer.step()
    close(accelerator.unwrap_model(prepared).eval()(x), model.eval()(x))


@check("torchao, int8 weights", "torchao")
def quantised(model: nn.Module, x: Tensor) -> None:
    ao: Any = importlib.import_module("torchao.quantization")
    expected = model.eval()(x)
    ao.quantize_(model, ao.Int8WeightOnlyConfig())
    close(model(x), expected, 0.1)


@check("Torch-Pruning, back to the size before", "torch_pruning")
def pruned(model: nn.Module, x: Tensor) -> None:
    tp: Any = importlib.import_module("torch_pruning")
    size = sum(p.numel() for p in model.parameters())
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 5]
    how = {"importance": tp.importance.MagnitudeImportance(), "pruning_ratio": 1 / 3, "ignored_layers": heads}
    tp.pruner.MetaPruner(model.eval(), x, **how).step()
    model(x)
    assert sum(p.numel() for p in model.parameters()) < size, "nothing is pruned"


def missing(needs: tuple[str, ...]) -> str:
    return next((name for name in needs if importlib.util.find_spec(name) is None), "")


def outcome(run: Check, make: Callable[[], tuple[nn.Module, Tensor]]) -> str:
    """What becomes of one check with the student of one net: "yes", or the reason."""
    reasons = []
    for grown in (True, False):
        torch.manual_seed(0)
        model, x = make()
        if grown:
            model = fxgrow.grow(model, 2.0 if any(isinstance(m, nn.LayerNorm) for m in model.modules()) else 1.5, x)
        try:
            run(model, x.clone())
        except Exception as error:  # noqa: BLE001 - a table of what fails is what this makes
            reasons.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:90])
        else:
            return "yes" if grown else f"no: {reasons[0]}"
    return f"teacher fails, too ({reasons[1].partition(':')[0]})"


def table(checks: list[str], nets: list[str]) -> Table:
    made = Table("What other tools do with a student", ("", *nets))
    notes: dict[str, str] = {}
    for name in checks:
        run, needs = CHECKS[name]
        cells = []
        for net in nets:
            result = f"{lacking} is not installed" if (lacking := missing(needs)) else outcome(run, NETS[net])
            if result.startswith("no: "):
                notes.setdefault(result[4:], str(len(notes) + 1))
                result = f"no ({notes[result[4:]]})"
            cells.append(result)
        print(f"{name:<45} {cells}", file=sys.stderr, flush=True)
        made.rows.append((name, *cells))
    made.remarks += [f"({number}) {reason}" for reason, number in notes.items()]
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description="What other tools do with a student.")
    parser.add_argument("--checks", nargs="*", default=list(CHECKS), choices=list(CHECKS), metavar="CHECK")
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS), metavar="NET")
    parser.add_argument("--markdown", type=Path, help="the page to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import_torchvision()
    found = table(args.checks, args.nets)
    lines = found.lines()
    if args.markdown:
        args.markdown.write_text("\n".join([HEAD, *lines, "", TAIL]), encoding="utf-8")
    print("\n".join(lines))
    return 0


HEAD = f"""# Students and other tools

`python benchmarks/interop.py --markdown docs/interop.md` wrote this page, with torch {torch.__version__} on the CPU.

Six small nets are grown as graphs, by 1.5 (the transformer by 2.0, whole multiples). "yes": the tool takes the student,
the results are the same as without it, and where there is training, every parameter with a gradient changes. A check
that fails is tried on the teacher as well.
"""

TAIL = """## In one sentence each

- `torch.compile(model)` makes a wrapper, which is refused, so grow first and compile the student; `model.compile()`
  works in place, and such a model grows: a student of `output="module"` is compiled as well, a graph is not.
- `torch.jit.script` reads source code, and the code of a graph is generated: use `torch.jit.trace` or `torch.export`.
- A graph calls layers, not blocks: per-block sharding, checkpointing and hooks need `output="module"`
  ([training.md](training.md#hooks-and-wrappers-on-blocks)).
"""


if __name__ == "__main__":
    sys.exit(main())
