"""Writes docs/depth.md, what new layers keep exact and when, from what the tests measure.

Usage:
    PYTHONPATH=. python docs/depth.py           # write it
    PYTHONPATH=. python docs/depth.py --check   # exit 1 if it is not what is measured
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.depth_cases import ACTIVATIONS, EXACT, REQUESTS, Outcome, outcome

PAGE = Path(__file__).with_name("depth.md")

HEAD = f"""\
# Depth: what is exact when

<!-- Written by docs/depth.py from what tests/test_deepen.py measures; do not edit. -->

A convolution, its batch norm, a max-pooling and an activation get a new layer by `Deepen("a", ...)`. Teacher and
student are compared in float64. A cell says which kind the new layer is, whether it comes after or before the
activation, and in which modes the largest relative error is at most {EXACT:g}. All of it is measured. The tests check
that the plan (`change.exact_modes`) says the same.

- **identity** returns its input (Net2DeeperNet). It can only have an activation of its own where the activation is
  idempotent (ReLU of ReLU is ReLU). Elsewhere it comes before the activation.
- **residual** adds a branch whose last layer is zero, so it is exact everywhere, in both modes.
- **parametric**: (1 - a) f(x) + a x after an identity layer, where a starts at 1.
- A **batch norm** after an identity layer is an identity in eval mode, with mean 0 and variance 1, or calibrated on
  batches. In train mode it takes its statistics from the batch.
- **random** is the baseline: torch.nn's own initialisation.
"""


def page() -> str:
    """The text of docs/depth.md."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for activation in sorted(ACTIVATIONS):
        cells = tuple(_cell(outcome(request, activation)) for request in REQUESTS)
        rows.setdefault(cells, []).append(activation)
    lines = [HEAD, f"| activation | {' | '.join(REQUESTS)} |", "| --- |" + " --- |" * len(REQUESTS)]
    lines += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in rows.items()]
    return "\n".join([*lines, ""])


def _cell(found: Outcome) -> str:
    exact = {0: "neither", 2: "both"}.get(len(found.measured), " ".join(found.measured))
    return f"{found.kind}, {found.where}: {exact}"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    text = page()
    if check:
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
        sys.stderr.write("docs/depth.md is stale: run python docs/depth.py\n" * stale)
        return int(stale)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
