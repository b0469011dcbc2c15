"""How long growing takes and what it holds, as ratios within one run.

    OMP_NUM_THREADS=1 python benchmarks/grow_speed.py --markdown docs/speed.md

Ten questions, a table each:

- stages: each stage of `fxgrow.grow` against `copy.deepcopy` of the student and a forward pass of the teacher;
- calls: microseconds per ATen call in recording, inference and check, the trace against FX's own, and how often one
  growth walks through the modules and clones the tree (`call_costs.py`; the least of the repeats);
- pruning: against torch_pruning, which analyses the same dependencies in order to remove channels (skipped where
  it is not installed): `build_dependency` against trace + widths, and its pruner, which does that and takes a third of
  all widths away, against the whole of `grow` by 1.5;
- fill, floors: filling against a clone of the student, and the analysis against the steps that it cannot do without
  (`speed_floors.py`);
- nodes: milliseconds per node on generated chains, residual and dense nets;
- memory: the most that `fxgrow.apply` holds, from the allocations that torch's profiler reports;
- real: detectors and other models that decide by the numbers in tensors (`real_speed.py`; each once, and not with
  `--quick`);
- import: what `import fxgrow` takes beyond `import torch` (`import_speed.py`).

Seconds depend on the machine and on what else it does. So it is processor time on one thread, the things that are
compared take turns, and each is the median of its repeats.
"""

import argparse
import copy
import importlib.util
import itertools
import platform
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks.call_costs import call_costs
from benchmarks.checkpoint import Decoder
from benchmarks.import_speed import imports
from benchmarks.node_speed import Residual, looks, nodes
from benchmarks.page import Table, processor
from benchmarks.peers_measure import PEERS
from benchmarks.real_speed import real_speed
from benchmarks.speed_clock import Clock
from benchmarks.speed_findings import FINDINGS
from benchmarks.speed_floors import fill_costs, floors
from benchmarks.torchvision_shim import import_torchvision
from fxgrow.model.copies import named_tensors
from fxgrow.plans.examples import example_of

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/grow_speed.py --markdown docs/speed.md"
QUESTIONS = ("stages", "calls", "pruning", "fill", "floors", "nodes", "looks", "memory", "real", "import")
FACTOR = 1.5
STAGES = ("resnet50", "resnet152", "vit_b_16")
FILLED = ("resnet50", "vit_b_16")
CALLS = ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "densenet121", "vit_b_16")
PRUNED = (
    "alexnet", "vgg16_bn", "resnet18", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "densenet121",
    "densenet169", "googlenet", "inception_v3", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_v2_s",
    "regnet_x_800mf", "regnet_y_400mf", "convnext_tiny", "vit_b_16",
)  # fmt: skip
NODES = (300, 1000, 3000, 10000)


def built(name: str) -> tuple[nn.Module, Tensor]:
    """A torchvision model with random weights, in eval mode, and one image."""
    models = import_torchvision().models
    options = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, **options).eval()
    return model, torch.randn(1, 3, *(2 * [299 if name == "inception_v3" else 224]))


def named(name: str) -> tuple[str, nn.Module, Tensor]:
    """The same, with its name."""
    return name, *built(name)


# -- stages ----------------------------------------------------------------------------------------


def stages(names: Sequence[str], repeats: int) -> Table:
    """Each stage of growing against a copy of the student."""
    head = ("", *(f"{name} {unit}" for name in names for unit in ("ms", "/ copy")))
    columns = [_stages(name, repeats) for name in names]
    table = Table("Stages", head)
    for label in columns[0]:
        base = COLD_COPY if label.endswith(COLD) else COPY
        cells = [(f"{column[label] * 1e3:.0f}", f"{column[label] / column[base]:.2f}") for column in columns]
        table.rows.append((label, *(cell for pair in cells for cell in pair)))
    table.remarks.append(
        f"By {FACTOR}, batch of one at 224 x 224. Rewriting is `apply` without the tracing of the model: new tensors, "
        "literals, attributes, assembly. The last two rows: the allocator has given all free memory back to the system "
        "before, as in a process that grows its first student, and growing is compared with such a copy."
    )
    return table


COPY = "copy.deepcopy(student)"
COLD = ", cold heap"
COLD_COPY = COPY + COLD


def _stages(name: str, repeats: int) -> dict[str, float]:
    model, x = built(name)
    student = fxgrow.grow(model, FACTOR, x)
    clock = Clock()
    for _ in range(repeats):
        clock("copy", lambda: copy.deepcopy(student))
        clock("cold copy", lambda: copy.deepcopy(student), cold=True)
        with torch.no_grad():
            clock("forward", lambda: model(x))
        traced = clock("trace", lambda: fxgrow.trace(model, x))
        found = clock("widths", lambda traced=traced: fxgrow.widths(traced))
        plan = clock("plan", lambda found=found: fxgrow.plan(found, FACTOR))
        clock("apply", lambda plan=plan: fxgrow.apply(plan, model))
        clock("retrace", lambda plan=plan: tracing_of(plan, model))
        clock("grow", lambda: fxgrow.grow(model, FACTOR, x))
        clock("cold grow", lambda: fxgrow.grow(model, FACTOR, x), cold=True)
    return {
        COPY: clock.median("copy"),
        "forward pass of the teacher": clock.median("forward"),
        "trace": clock.median("trace"),
        "widths": clock.median("widths"),
        "plan, with its check on meta": clock.median("plan"),
        "apply": clock.median("apply"),
        "rewriting alone": clock.median("apply") - clock.median("retrace"),
        "grow": clock.median("grow"),
        COLD_COPY: clock.median("cold copy"),
        "grow" + COLD: clock.median("cold grow"),
    }


def tracing_of(plan: fxgrow.Plan, model: nn.Module) -> Any:
    """The part of `apply` that is tracing."""
    example = example_of(plan, named_tensors(model).values())
    return fxgrow.trace(model, example, leaf_modules=plan.leaf_modules, output=plan.output)


# -- calls -----------------------------------------------------------------------------------------


def calls(names: Sequence[str], repeats: int) -> Table:
    """What a call costs in each stage, of these models and of a small net."""
    small = ("a residual net of 39 nodes", Residual(40).eval(), torch.randn(1, 2, 2, 2))
    return call_costs(itertools.chain([small], ((name, *built(name)) for name in names)), FACTOR, repeats)


# -- pruning ---------------------------------------------------------------------------------------


def pruning(names: Sequence[str], repeats: int) -> Table | None:
    """Our analysis and the whole of growing against torch_pruning's."""
    if importlib.util.find_spec("torch_pruning") is None:
        return None
    head = (
        "model", "build_dependency ms", "trace + widths ms", "ratio", "pruner ms", "grow ms", "ratio", "cold copy ms",
        "cold grow / copy",
    )  # fmt: skip
    table = Table("Against torch_pruning", head)
    ratios: tuple[list[float], list[float]] = ([], [])
    of_copies: list[float] = []
    for name in names:
        clock, failure = _pruning(name, repeats)
        row = [name]
        for found, theirs, ours in ((ratios[0], ("build",), ("trace", "widths")), (ratios[1], ("prune",), ("grow",))):
            mine = clock.median(*ours)
            if all(part in clock.times for part in theirs):
                other = clock.median(*theirs)
                found.append(mine / other)
                row += [f"{other * 1e3:.0f}", f"{mine * 1e3:.0f}", f"{mine / other:.2f}"]
            else:
                row += [failure, f"{mine * 1e3:.0f}", ""]
        of_copies.append(clock.median("cold grow") / clock.median("cold copy"))
        row += [f"{clock.median('cold copy') * 1e3:.0f}", f"{of_copies[-1]:.2f}"]
        table.rows.append(tuple(row))
        print(" | ".join(row), file=sys.stderr, flush=True)
    table.remarks.append(
        f"A copy is `copy.deepcopy(student)`, with the heap cold for it and for growing; median ratio "
        f"{statistics.median(of_copies):.2f}."
    )
    if ratios[1]:
        table.remarks.append(
            f"Median ratio: {statistics.median(ratios[0]):.2f} for the analysis, {statistics.median(ratios[1]):.2f} "
            "for the whole (below one, fxgrow is faster). torch_pruning runs the model once, on the CPU, and prunes it "
            "in place; fxgrow runs it on the meta device, in train and eval mode, and makes a new model."
        )
    return table


def _pruning(name: str, repeats: int) -> tuple[Clock, str]:
    theirs = PEERS["torch_pruning"]
    model, x = built(name)
    clock, failure = Clock(), ""
    for _ in range(repeats):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for part, action in (("build", theirs.analyse), ("prune", theirs.grow)):
                    target = theirs.given(name, model, (x,))
                    clock(part, lambda action=action, target=target: action(target, (x,)))
            except Exception as error:  # noqa: BLE001 (whatever it may raise where it cannot prune)
                failure = f"fails: {type(error).__name__}"
        traced = clock("trace", lambda: fxgrow.trace(model, x))
        clock("widths", lambda traced=traced: fxgrow.widths(traced))
        student = clock("grow", lambda: fxgrow.grow(model, FACTOR, x))
        clock("cold grow", lambda: fxgrow.grow(model, FACTOR, x), cold=True)
        clock("cold copy", lambda student=student: copy.deepcopy(student), cold=True)
    return clock, failure


# -- floors ----------------------------------------------------------------------------------------


def decoder(*, quick: bool) -> tuple[str, nn.Module, Tensor]:
    """A decoder of half a billion parameters in bfloat16, whose student has a billion."""
    model = Decoder(64, 2) if quick else Decoder(1024, 32)
    return "decoder, bfloat16", model.to(torch.bfloat16).eval(), torch.zeros(1, 8, dtype=torch.int64)


# -- memory ----------------------------------------------------------------------------------------


def memory(names: Sequence[str], *, decoders: bool) -> Table:
    """The most that `apply` holds beside the teacher, of models of torchvision and, if asked for, a decoder."""
    head = ("model", "student MB", "largest tensor MB", "most held MB", "beyond the student, in largest tensors")
    table = Table("Memory", head)
    models = ((name, *built(name)) for name in names)
    more = [decoder(quick=False)] if decoders else []
    asked = [(*made, FACTOR) for made in itertools.chain(models, more)]
    name, model, x = norms(4096 if decoders else 1024)
    asked += [(f"{name}, {what}", model, x, spec) for what, spec in MEANS.items()]
    for name, model, x, spec in asked:
        plan = fxgrow.plan(fxgrow.widths(model, x), spec)
        student, most = held(lambda plan=plan, model=model: fxgrow.apply(plan, model))
        sizes = [tensor.numel() * tensor.element_size() for tensor in student.state_dict().values()]
        cells = [f"{size / 1e6:.1f}" for size in (sum(sizes), max(sizes), most)]
        table.rows.append((name, *cells, f"{(most - sum(sizes)) / max(sizes):.2f}"))
    table.remarks.append(
        "`apply` alone; the sum of all that torch's allocator gave and got back, by its profiler, at its highest."
    )
    return table


MEANS: dict[str, Any] = {
    "rest of averages": fxgrow.Widen("*", 1.3, indivisible="average"),
    "outputs that are means": fxgrow.Outputs(4200, new="mean"),
}


def norms(width: int) -> tuple[str, nn.Module, Tensor]:
    """A residual stream with layer norms, as in transformers, of so many channels."""

    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.up, self.down = nn.Linear(64, width), nn.Linear(width, 8192), nn.Linear(8192, width)
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4096)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(self.norm(x + self.down(self.up(x).relu())))

    return "linear layers and norms", Norms(), torch.randn(2, 64)


def held(action: Callable[[], Any]) -> tuple[Any, int]:
    """What an action returns, and the most bytes of tensors that were alive at once of those it made."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:  # 2.11 warns
        result = action()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return result, most


# -- the page --------------------------------------------------------------------------------------


def write_markdown(path: Path, tables: Sequence[Table]) -> None:
    """The page of documentation."""
    text = [
        "# How fast it grows",
        "",
        "Made by a script, not by hand:",
        "",
        f"    {COMMAND}",
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()} ({processor()}), one",
        "thread, processor time. What is compared took turns in one run, and each is the median of its repeats;",
        "other jobs ran on the machine, so only the ratios mean anything.",
    ]
    for table in tables:
        text += ["", *table.lines()]
    text += ["", *FINDINGS.splitlines()]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small models, once: shows that it runs, measures nothing")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    options = arguments(argv)
    torch.set_num_threads(1)
    repeats = 1 if options.quick else options.repeats
    small = ("squeezenet1_1",)
    questions: dict[str, Callable[[], Table | None]] = {
        "stages": lambda: stages(small if options.quick else STAGES, repeats),
        "calls": lambda: calls(() if options.quick else CALLS, repeats),
        "pruning": lambda: pruning(small if options.quick else PRUNED, repeats),
        "fill": lambda: fill_costs(
            [*map(named, small if options.quick else FILLED), decoder(quick=options.quick)], FACTOR, repeats
        ),
        "floors": lambda: floors(map(named, small if options.quick else CALLS), repeats),
        "nodes": lambda: nodes((20, 40) if options.quick else NODES, repeats),
        "looks": lambda: looks((20, 40) if options.quick else NODES),
        "memory": lambda: memory(small if options.quick else STAGES, decoders=not options.quick),
        "real": lambda: real_speed([] if options.quick else None, FACTOR),
        "import": lambda: imports(1 if options.quick else 10),
    }
    fxgrow.grow(Residual(20), FACTOR, torch.randn(1, 2, 2, 2))  # what is imported or cached at the first call
    found = [ask() for name, ask in questions.items() if options.only is None or name in options.only]
    tables = [table for table in found if table is not None]
    for table in tables:
        print("\n".join(table.lines()), end="\n\n", flush=True)
    if options.markdown:
        write_markdown(options.markdown, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
