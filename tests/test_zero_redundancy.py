"""`ZeroRedundancyOptimizer` on two processes: grown in mid-training, it goes on as one process would."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import fxgrow
from tests.ranks import TOGETHER, in_processes
from tests.test_optimizers import batch, net, step

pytestmark = TOGETHER

SPEC = [fxgrow.Widen("0", 13), fxgrow.Widen("3", 1.5), fxgrow.Deepen("3")]


def grouped(model: nn.Module) -> list[dict[str, object]]:
    weights = [p for p in model.parameters() if p.ndim > 1]
    return [{"params": weights, "lr": 1e-3}, {"params": [p for p in model.parameters() if p.ndim == 1], "lr": 5e-4}]


def trained(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The parameters after three steps, a growth and three more."""
    for number in range(3):
        step(model, optimizer, number)
    student = fxgrow.grow(model, SPEC, batch(0)[0], optimizer=optimizer)
    for number in range(3):
        step(student, optimizer, number)
    return {name: p.detach().clone() for name, p in student.named_parameters()}


def one_rank(rank: int, number: int) -> dict[bool, tuple[dict[str, Tensor], int, int]]:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    found = {}
    for view in (False, True):
        model = net()
        optimizer = ZeroRedundancyOptimizer(grouped(model), torch.optim.AdamW, parameters_as_bucket_view=view, lr=1e-3)
        grown = trained(model, optimizer)
        held = sum(len(group["params"]) for group in optimizer.optim.param_groups)
        found[view] = (grown, held, len(optimizer.optim.state))
        optimizer.consolidate_state_dict(0)
        assert rank or len(optimizer.state_dict()["state"]) == len(grown)
    return found


def test_ranks_train_the_student_as_one_process_does(tmp_path: Path) -> None:
    """Also where the parameters lie in buckets (`parameters_as_bucket_view`)."""
    model = net()
    alone = trained(model, torch.optim.AdamW(grouped(model), 1e-3))
    found = in_processes(one_rank, tmp_path, 2)
    for view in (False, True):
        ranks = [of_rank[view] for of_rank in found]
        for grown, held, with_state in ranks:
            assert grown.keys() == alone.keys()
            assert all(torch.equal(grown[name], p) for name, p in alone.items())
            assert 0 < held < len(alone)
            assert with_state == held
        assert sum(held for _, held, _ in ranks) == len(alone)
