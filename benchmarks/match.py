"""Which public models `fxgrow.match` turns into a larger one of their family, and why not the others.

Each pair: the plan; the student's `state_dict` loaded strictly into the large model; outputs of the small model and of
the large one compared, in eval mode, on one batch of random images. Weights are random, with the statistics of batch
norms drawn, and what the builders set to zero or to one drawn, too, so that a wrong student shows.

    OMP_NUM_THREADS=1 python benchmarks/match.py --markdown docs/match.md
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fxgrow
from benchmarks.match_pairs import PAIRS, Pair
from benchmarks.page import Table, command_of, wrapped
from benchmarks.runs import Record
from benchmarks.torchvision_shim import import_torchvision

EXACT = 1e-4  # of the largest output: 100 layers in float32


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the pairs that the record lacks, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pairs whose names contain this")
    parser.add_argument("--record", type=Path, default=Path("runs/match.json"))
    parser.add_argument("--markdown", type=Path, help="write the page there")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    record = Record(options.record, {"exact": EXACT}, f"{platform.machine()}, torch {torch.__version__}")
    for pair in PAIRS:
        name = name_of(pair)
        if options.only in name and name not in record.runs:
            record.add(name, measured(pair))
            print(f"{name}: {record.runs[name]}", flush=True)
    lines = page(record, command_of("match.py", argv))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        print("\n".join(lines))


def name_of(pair: Pair) -> str:
    """The name of a pair in the record."""
    return f"{pair.zoo} {pair.small} -> {pair.large}"


def built(zoo: str, name: str) -> nn.Module:
    """A model of a zoo, with random weights."""
    builder, _, option = name.partition(":")
    kwargs = {key: float(value) for key, _, value in [option.partition("=")]} if option else {}
    if zoo == "torchvision":
        model: nn.Module = getattr(import_torchvision().models, builder)(**kwargs)
    else:
        import_torchvision()
        import timm

        model = timm.create_model(builder, **kwargs)
    return model


def measured(pair: Pair) -> dict[str, Any]:
    """Whether a pair is planned, loads and computes the same; else the first reasons."""
    small, large = built(pair.zoo, pair.small), built(pair.zoo, pair.large)
    draw_all(small)
    x = torch.randn(2, 3, pair.size, pair.size)
    start = time.process_time()
    try:
        plan = fxgrow.match(small, large, x)
    except fxgrow.GrowError as error:
        return {"planned": False, "seconds": round(time.process_time() - start, 1), "why": f"{error}"[:2000]}
    seconds = round(time.process_time() - start, 1)
    student = fxgrow.apply(plan, small, x)
    large.load_state_dict(student.state_dict())
    small.eval(), large.eval()
    with torch.no_grad():
        old, new = small(x), large(x)
    error = float((old - new[..., : old.shape[-1]]).abs().max() / old.abs().max())
    return {"planned": True, "seconds": seconds, "loads": True, "error": error, "output": plan.output,
            "widths": len(plan.grown_widths), "changes": len(plan.changes)}  # fmt: skip


def draw_all(model: nn.Module) -> None:
    """Random numbers where builders have constants: zeros in last norms and scales would hide errors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
                noise = torch.rand(tensor.shape, generator=generator) * 0.2
                tensor.copy_(noise + 0.9 if name.endswith(("weight", "var", "gamma", "scale")) else noise)


def page(record: Record, command: str) -> list[str]:
    """The page."""
    known = [(pair, record.runs[name_of(pair)]) for pair in PAIRS if name_of(pair) in record.runs]
    reachable = [run for pair, run in known if not pair.why]
    right = [run for run in reachable if run["planned"] and run["error"] <= EXACT]
    wrong = [run for _, run in known if run["planned"] and run["error"] > EXACT]
    table = Table("Pairs", ("small", "large", "planned", "error", "widths", "depth", "s", "why not"))
    table.rows += [_row(pair, run) for pair, run in known]
    share = f"{len(right)} of {len(reachable)} pairs that growth can bridge are planned, load strictly and compute the "
    share += f"same ({len(right) / max(len(reachable), 1):.0%}); {len(wrong)} planned ones compute something else. "
    share += f"{len(known) - len(reachable)} pairs were known not to be reachable before."
    return [
        "# One model into the shape of another",
        "",
        *wrapped(f"`fxgrow.match` on pairs of public models. {share}"),
        "",
        *wrapped(__doc__.partition("\n\n")[2].partition("\n\n")[0]),
        "",
        f"Made by `{command}` on {record.machine}.",
        "",
        *table.lines(),
    ]


def _row(pair: Pair, run: dict[str, Any]) -> tuple[str, ...]:
    seconds = f"{run['seconds']:.0f}"
    if run["planned"]:
        error = f"{run['error']:.1e}"
        return (pair.small, pair.large, "yes", error, str(run["widths"]), str(run["changes"]), seconds, "")
    return (pair.small, pair.large, "no", "", "", "", seconds, " ".join(_reasons(pair, run)))


def _reasons(pair: Pair, run: dict[str, Any]) -> Iterator[str]:
    """What was known before, and what the first line of the refusal says."""
    if pair.why:
        yield f"{pair.why}:"
    lines = [line.strip() for line in run["why"].splitlines()]
    yield (lines[1] if len(lines) > 1 else lines[0])[:160].replace("|", "/")


if __name__ == "__main__":
    main()
