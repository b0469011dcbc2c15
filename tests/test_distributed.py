"""Growing where several processes train one model: each makes the same student, inside of its wrapper and outside."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import fxgrow
from tests.ranks import TOGETHER, in_processes

pytestmark = TOGETHER

STEPS, GROWN_AT = 6, 3
SPEC = [fxgrow.Widen("0", 1.5), fxgrow.Deepen("2")]
OPTIONS: dict[str, Any] = {"find_unused_parameters": True, "gradient_as_bucket_view": True, "bucket_cap_mb": 3}


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 4)).double()


def batch(number: int, rank: int | None) -> Tensor:
    """The batch of a step; of one of two processes, its half."""
    whole = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return whole if rank is None else whole[4 * rank : 4 * rank + 4]


def trained(rank: int | None, output: Any, *, inside: bool) -> dict[str, Tensor]:
    """The parameters of a student that was grown in the middle, inside of its wrapper or outside."""
    model = net()
    wrapped: nn.Module = model if rank is None else DistributedDataParallel(model, **OPTIONS)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for number in range(STEPS):
        if number == GROWN_AT and inside:
            wrapped = fxgrow.grow(wrapped, SPEC, batch(0, rank), optimizer=optimizer, output=output)
            assert isinstance(wrapped, DistributedDataParallel)
            model = wrapped.module
        elif number == GROWN_AT:
            model = fxgrow.grow(model, SPEC, batch(0, rank), optimizer=optimizer, output=output)
            wrapped = model if rank is None else DistributedDataParallel(model)
        optimizer.zero_grad()
        wrapped(batch(number, rank)).square().mean().backward()
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def calibrated(rank: int) -> bool:
    """Whether a replica is calibrated as a model alone is."""
    norm, batches = fxgrow.Deepen("0", norm="batch", calibrated=True), [batch(1, None), batch(2, None)]
    wrapped = DistributedDataParallel(net())
    fxgrow.grow(wrapped, 1.5, batch(0, 0), calibration=batches if rank else None)  # which nothing takes
    student: Any = fxgrow.grow(wrapped, norm, batch(0, 0), calibration=batches)
    alone = fxgrow.grow(net(), norm, batch(0, 0), calibration=batches).state_dict()
    return all(torch.equal(t, alone[name]) for name, t in student.module.state_dict().items())


def kept() -> list[bool]:
    """Whether a student's wrapper has the options, the mode and the hook of its teacher's, and a plan is applied so."""
    wrapped = DistributedDataParallel(net(), **OPTIONS).eval()
    wrapped.module[2].train()
    wrapped.register_comm_hook(None, allreduce_hook)
    student: Any = fxgrow.grow(wrapped, 1.5, batch(0, 0), output="module")
    plan = fxgrow.plan_of(student.module)
    assert plan is not None
    again: Any = fxgrow.apply(plan, wrapped)
    pairs = zip(student.state_dict().values(), again.state_dict().values(), strict=True)
    return [
        student.find_unused_parameters,
        student.gradient_as_bucket_view,
        student.bucket_bytes_cap == wrapped.bucket_bytes_cap,
        student.process_group is wrapped.process_group,
        [module.training for module in student.modules()] == [module.training for module in wrapped.modules()],
        [hook for hook, _ in student._comm_hooks] == [allreduce_hook],
        all(torch.equal(one, other) for one, other in pairs),
    ]


def refused(rank: int) -> list[str]:
    """What a process is told where one has a wrong specification, another seed, or looks at the wrapper."""
    wrapped = DistributedDataParallel(net())
    optimizer = torch.optim.Adam(wrapped.parameters())
    before = [id(p) for p in optimizer.param_groups[0]["params"]]
    said = []
    for spec, seed in (({"nothing like it": 2.0} if rank else {"0": 12}, 0), ({"0": 12}, rank)):
        with pytest.raises(fxgrow.GrowError) as caught:
            fxgrow.grow(wrapped, spec, batch(0, 0), optimizer=optimizer, seed=seed)
        said.append(str(caught.value))
    for options in ({"warmup": rank}, {"reset": bool(rank)}):
        with pytest.raises(fxgrow.GrowError, match="the same reset and warmup"):
            fxgrow.grow(wrapped, {"0": 12}, batch(0, 0), optimizer=optimizer, **options)  # type: ignore[arg-type]
    with pytest.raises(fxgrow.GrowError, match="different optimizers"):
        fxgrow.grow(wrapped, {"0": 12}, batch(0, 0), optimizer=optimizer if rank else None)
    norm = fxgrow.Deepen("0", norm="batch", calibrated=True)
    with pytest.raises(fxgrow.GrowError) as of_batches:
        fxgrow.grow(wrapped, norm, batch(0, 0), optimizer=optimizer, calibration=[batch(1, rank), batch(2, 0)])
    said.append(str(of_batches.value))
    with pytest.raises(fxgrow.GrowError) as caught:
        fxgrow.widths(wrapped, batch(0, 0))
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == before
    return [*said, str(caught.value)]


def one_rank(rank: int, number: int) -> tuple[Any, ...]:
    students = [trained(rank, "module", inside=False)]
    students += [trained(rank, output, inside=True) for output in ("graph", "module")]
    return students, [*kept(), calibrated(rank)], refused(rank)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two processes found."""
    return in_processes(one_rank, tmp_path_factory.mktemp("ranks"), 2)


def test_two_processes_grow_the_same_and_train_on_as_one(ranks: list[Any]) -> None:
    """Each makes the same bits: outside of the wrapper without a word between them, and inside of it."""
    alone = trained(None, "module", inside=False)
    for first, second in zip(ranks[0][0], ranks[1][0], strict=True):
        assert first.keys() == second.keys() == alone.keys()
        for name, parameter in alone.items():
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], parameter, rtol=1e-9, atol=1e-12)


def test_a_students_wrapper_has_the_options_of_its_teachers(ranks: list[Any]) -> None:
    assert ranks[0][1] == ranks[1][1] == [True] * 8


def test_what_one_of_two_replicas_cannot_grow_none_does(ranks: list[Any]) -> None:
    (good, of_seeds, of_batches, looked), (bad, _, of_its_batches, _) = (refusals for _, _, refusals in ranks)
    assert "process 1 cannot grow the model" in good
    assert "nothing like it" in good
    assert "nothing like it" in bad
    assert "different plans" in of_seeds
    assert "different batches of calibration" in of_batches
    assert "different batches of calibration" in of_its_batches
    assert "grow model.module on every process" in looked
