"""How long `import fxgrow` takes beyond `import torch`: processor time in new processes, with cached bytecode.

    OMP_NUM_THREADS=1 python benchmarks/import_speed.py

A table of `grow_speed.py`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.page import Table

ROOT = Path(__file__).resolve().parent.parent
GROW = "fxgrow.grow(model, 1.5, torch.randn(2, 4))"
MODEL = "model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))"
STEPS = {
    "import torch": "import torch",
    "import fxgrow": "import fxgrow",
    "fxgrow.verify, the first time": "fxgrow.verify",
    "import torch._dynamo": "import torch._dynamo",
    "fxgrow.grow of two layers, the first time": f"{MODEL}; {GROW}",
    "the second time": GROW,
}


def imports(repeats: int) -> Table:
    """The least time of each step in new processes, and the least ratio to that of torch in the same process.

    One process alone shows that it runs, with the bytecode that is there.
    """
    if repeats == 1:
        runs = [_run({})]
    else:
        with tempfile.TemporaryDirectory() as cache:
            runs = [_run({"PYTHONPYCACHEPREFIX": cache}) for _ in range(1 + repeats)][1:]  # the first one writes it
    table = Table("Import", ("", "ms", "/ import torch"))
    for step in STEPS:
        least = min(run[step] for run in runs)
        ratio = min(run[step] / run["import torch"] for run in runs)
        table.rows.append((step, f"{least * 1e3:.0f}", f"{ratio:.3f}"))
    table.remarks.append(
        f"Each step beyond those before it, the best of {repeats} processes. `verify`, `summary` and `draw` are "
        "imported when one of them is first asked for. The first growth of a process imports `torch._dynamo`, unless "
        "the first optimizer or torchvision has: each of these does, too."
    )
    return table


def _run(bytecode: dict[str, str]) -> dict[str, float]:
    """The processor time of each step in a new process, in seconds."""
    steps = "".join(f"{code}\nclock({name!r})\n" for name, code in STEPS.items())
    program = f"""
import json, time
times, begun = {{}}, [time.process_time()]
def clock(name):
    times[name] = time.process_time() - begun[0]
    begun[0] = time.process_time()
{steps}
print(json.dumps(times))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {**bytecode, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(run.stdout)
    return times


if __name__ == "__main__":
    print("\n".join(imports(10).lines()))
