"""Growth of models sharded by `fully_shard` (FSDP2): the bits of growing in memory, on any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fxgrow
from tests.ranks import TOGETHER, in_processes
from tests.sharded_nets import ALL, CASES, IDS, Case
from tests.thinned import THOROUGH

pytestmark = TOGETHER

MIB = 1 << 20
State = dict[str, dict[str, Tensor]]


def sharded(model: nn.Module, mesh: Any, case: Case) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    options = case.options(model)
    for path in case.units:
        fully_shard(model.get_submodule(path), mesh=mesh)
    fully_shard(model, mesh=mesh, **options)
    return model


def full(tensor: Any) -> Tensor:
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().clone()


def contents(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], State]:
    """All tensors of a model, and the states of its parameters, whole, by name."""
    tensors = {name: full(tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    states = {
        name: {key: full(value) for key, value in optimizer.state[p].items()} for name, p in model.named_parameters()
    }
    return tensors, states


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, example: Tensor, steps: int) -> None:
    for number in range(steps):
        optimizer.zero_grad()
        out = model(example.roll(number))
        (out["logits"] if isinstance(out, dict) else out).square().mean().backward()
        optimizer.step()


def inputs(case: Case, dtype: torch.dtype, *, larger: bool = False) -> Tensor:
    """The inputs of a case, or of its student, in the dtype of its network."""
    given = case.larger if larger and case.larger is not None else case.example
    return given.to(dtype) if given.is_floating_point() else given


def plain_twin(case: Case, dtype: torch.dtype, kind: str = "cpu") -> tuple[nn.Module, torch.optim.Optimizer]:
    """The teacher in one process, trained a little."""
    torch.manual_seed(0)
    model = case.make().to(kind, dtype)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    trained(model, optimizer, inputs(case, dtype).to(kind), 2)
    return model, optimizer


def both_ways(
    rank: int,
    number: int,
    names: list[str],
    method: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    kind: str = "cpu",
) -> Any:
    """For each case: what growing in memory gives, on the first process, and what growing shard by shard does."""
    axes = ("replicate", "shard")[-len(shape) :]
    mesh = dist.init_device_mesh(kind, shape, mesh_dim_names=axes)
    results = {}
    for name in names:
        case = ALL[name]
        alone, its_optimizer = plain_twin(case, dtype, kind)
        torch.manual_seed(0)
        model = sharded(case.make().to(kind, dtype), mesh, case)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        take_over(model, optimizer, alone, its_optimizer)
        before = contents(model, optimizer)[0]
        teacher_kind = type(model)
        example = inputs(case, dtype).to(kind)
        student = fxgrow.grow(model, case.spec, example, optimizer=optimizer, method=method, seed=3)
        expected = None
        if rank == 0:
            grown = fxgrow.grow(
                alone, case.spec, example, optimizer=its_optimizer, method=method, seed=3, output="module"
            )
            expected = contents(grown, its_optimizer)
        results[name] = {
            "expected": expected,
            "found": contents(student, optimizer),
            "placements": {n: str(getattr(p, "placements", "")) for n, p in student.named_parameters()},
            "kind": (type(student).__name__, teacher_kind.__name__, type(alone).__name__),
            "teacher is as before": all(torch.equal(full(t), before[n]) for n, t in model.named_parameters()),
        }
        trained(student, optimizer, inputs(case, dtype, larger=True).to(kind), 1)
        results[name]["trains"] = all(torch.isfinite(full(p)).all() for p in student.parameters())
    return results


@torch.no_grad()
def take_over(model: nn.Module, optimizer: Any, alone: nn.Module, its_optimizer: Any) -> None:
    """Give a sharded model and its optimizer the numbers of one that is not sharded."""
    from torch.distributed.tensor import distribute_tensor

    buffers = dict(alone.named_buffers())
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        placed: Any = p

        def part(whole: Tensor, placed: Any = placed) -> Tensor:
            if not hasattr(placed, "placements") or whole.ndim == 0:
                return whole.clone()
            return distribute_tensor(whole, placed.device_mesh, placed.placements)

        p.copy_(part(q))
        optimizer.state[p] = {key: part(value) for key, value in its_optimizer.state[q].items()}


RUNS = [
    pytest.param(2, (2,), "auto", torch.float32, marks=THOROUGH),
    pytest.param(4, (4,), "split", torch.float32, marks=THOROUGH),
    (4, (2, 2), "zero_out", torch.float32),
    pytest.param(3, (3,), "even", torch.bfloat16, marks=THOROUGH),
]


@pytest.mark.parametrize(("number", "mesh", "method", "dtype"), RUNS, ids=lambda value: str(value))
def test_a_sharded_model_grows_to_the_bits_of_growing_in_memory(
    number: int, mesh: tuple[int, ...], method: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Uneven shards, fewer rows than processes, HSDP, tied weights, buffers, columns; parameters and Adam's state."""
    names = [name for name in CASES if name != "columns" or mesh[-1] in (2, 4)]
    assert_bits_of_memory(in_processes(both_ways, tmp_path, number, names, method, mesh, dtype), names)


def assert_bits_of_memory(found_by_all: list[Any], names: list[str]) -> None:
    """What `both_ways` gives of each process."""
    for results in found_by_all:
        for name in names:
            one = results[name]
            (tensors, states), (found, of_found) = found_by_all[0][name]["expected"], one["found"]
            assert list(found) == list(tensors), name
            assert [n for n in tensors if not torch.equal(tensors[n], found[n])] == [], name
            assert [n for n in states if states[n].keys() != of_found[n].keys()] == [], name
            assert [(n, k) for n in states for k in states[n] if not torch.equal(states[n][k], of_found[n][k])] == []
            assert one["teacher is as before"]
            assert one["trains"]
            assert one["kind"][0] == one["kind"][1] == f"FSDP{one['kind'][2]}"


def halves(rank: int | None, number: int, step: int) -> Tensor:
    ids = torch.randint(0, 32, (4, 12), generator=torch.Generator().manual_seed(step))
    return ids if rank is None else ids.chunk(number)[rank]


def twenty_steps(rank: int | None, number: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """A decoder trained for 20 steps of Adam, grown after 10, on its part of each batch."""
    torch.manual_seed(0)
    model = CASES["decoder"].make().to(dtype)
    if rank is not None:
        model = sharded(model, dist.init_device_mesh("cpu", (number,)), CASES["decoder"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-6)  # attention's key bias has a gradient of zero
    for step in range(20):
        if step == 10:
            spec = CASES["decoder"].spec
            model = fxgrow.grow(model, spec, IDS, optimizer=optimizer, output="module", seed=1)
        optimizer.zero_grad()
        model(halves(rank, number, step))["logits"].square().mean().backward()
        optimizer.step()
    return {name: full(p) for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("number", "dtype", "close"), [(2, torch.float64, 1e-12), pytest.param(4, torch.float32, 1e-5, marks=THOROUGH)]
)
def test_twenty_steps_with_a_growth_in_the_middle_equal_one_process(
    number: int, dtype: torch.dtype, close: float, tmp_path: Path
) -> None:
    alone = twenty_steps(None, number, dtype)
    for parts in in_processes(twenty_steps, tmp_path, number, dtype):
        assert parts.keys() == alone.keys()
        for name, parameter in alone.items():
            torch.testing.assert_close(parts[name], parameter, rtol=close, atol=close)


class Largest(TorchDispatchMode):
    """Records the size in bytes of the largest tensor that an operator makes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if type(one) is Tensor and not one.is_meta:
                self.largest = max(self.largest, one.untyped_storage().nbytes())
        return result


LARGE: list[Any] = [
    ({"0": 4500, "2": 4100}, "auto"),
    ([{"0": 4500}, fxgrow.Outputs(4000, new="mean")], "noise"),
    ([{"2": 3600}, fxgrow.Deepen("2", kind="residual")], "auto"),
]


def measured(rank: int, number: int, spec: Any, method: str, outputs: int) -> tuple[int, int, list[int], int]:
    """Bytes: of the largest tensor made, of the largest new shard, received at each exchange, of all new shards."""
    model = nn.Sequential(nn.Linear(8, 3000), nn.ReLU(), nn.Linear(3000, 3000), nn.ReLU(), nn.Linear(3000, outputs))
    case = Case(lambda: model, torch.randn(2, 8), spec)
    mesh = dist.init_device_mesh("cpu", (number,))
    plan = fxgrow.plan(fxgrow.widths(model, case.example, output="module"), case.spec, method=method)
    sharded(model, mesh, case)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    trained(model, optimizer, case.example, 1)
    received: list[int] = []
    exchange = dist.all_to_all_single

    def counted(output: Tensor, *rest: Any, **options: Any) -> Any:
        received.append(output.nbytes)
        return exchange(output, *rest, **options)

    dist.all_to_all_single = counted
    largest = Largest()
    with largest:
        student = fxgrow.apply(plan, model, case.example, optimizer=optimizer, warmup=5)
    shards = [p.to_local().nbytes for p in student.parameters()]
    return largest.largest, max(shards), received, sum(shards)


@pytest.mark.parametrize(("spec", "method"), LARGE, ids=["widths", "outputs", "a new layer"])
def test_no_process_makes_a_large_tensor_or_receives_more_than_its_own(spec: Any, method: str, tmp_path: Path) -> None:
    """The largest weight has 74, 72 or 52 MB, its part on four processes a fourth of it."""
    outputs = 8 if method == "auto" else 3000
    for largest, shard, received, all_shards in in_processes(measured, tmp_path, 4, spec, method, outputs):
        assert largest <= 2 * shard + 16 * MIB
        assert max(received) <= shard
        assert sum(received) <= 3.25 * all_shards  # weights, both moments, and a byte for each that says what is new


Contents = tuple[dict[str, Tensor], State]


def releases(rank: int, number: int, plans: int) -> tuple[list[int], int, Contents, Contents]:
    """Bytes of the old parts as each new one is made, and at the end; what is made so, and otherwise."""
    from fxgrow.shards import growth

    given: list[Contents] = []
    held: list[int] = []
    made = growth._Parameters._new
    for release in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.ReLU())))
        case = Case(lambda model=model: model, torch.randn(2, 64), 1.5)
        chain = fxgrow.plan(fxgrow.widths(model, case.example, output="module"), case.spec)
        for _ in range(plans - 1):
            larger = fxgrow.apply(chain, model, case.example)
            chain = chain.then(fxgrow.plan(fxgrow.widths(larger, case.example, output="module"), case.spec))
        sharded(model, dist.init_device_mesh("cpu", (number,)), case)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        trained(model, optimizer, case.example, 1)
        states = [one for state in optimizer.state.values() for key, one in state.items() if key != "step"]
        old = [one.to_local().untyped_storage() for one in [*model.parameters(), *states]]

        def watched(*args: Any, old: Any = old) -> Tensor:
            held.append(sum(one.nbytes() for one in old))
            return made(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(growth._Parameters, "_new", watched)
            student = fxgrow.apply(chain, model, case.example, optimizer=optimizer, warmup=3, release=release)
        if not release:
            assert set(held) == {sum(one.nbytes() for one in old)}
            model(case.example)
            held.clear()
        trained(student, optimizer, case.example, 2)
        given.append(contents(student, optimizer))
    return held, sum(one.nbytes() for one in old), given[0], given[1]


@pytest.mark.parametrize("plans", [1, 2])
def test_the_teacher_s_parts_are_given_back_one_by_one_where_that_is_asked_for(plans: int, tmp_path: Path) -> None:
    for held, left, kept, released in in_processes(releases, tmp_path, 2, plans):
        assert held == sorted(held, reverse=True)
        assert held[0] - held[11] >= 11 / 12 * (
            held[0] / 3
        )  # of weights and two moments, all weights but the last bias
        assert left == 0
        torch.testing.assert_close(released, kept, rtol=0, atol=0)


def test_the_parts_of_a_model_that_is_not_sharded_are_not_given_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(fxgrow.GrowError, match="fully_shard, and this one is not"):
        fxgrow.grow(model, 2.0, torch.randn(2, 4), release=True)


def fails(student: nn.Module, plan: fxgrow.Plan) -> None:
    """A `resize=` that does."""
    raise ValueError("no such size")


class AllAtOnce(fxgrow.methods.Method):
    """A method of a user's own that says nothing of parts of tensors."""

    name, source = "all at once", "this test"
    preserves_function = replicas = True

    def contract(self, weight: Tensor, columns: fxgrow.methods.Columns, generator: torch.Generator) -> Tensor:
        return fxgrow.methods.divide(weight, columns, lambda _, parts: (torch.ones(()), 1 / parts))


def refusals(rank: int, number: int) -> list[str]:
    """What a process is told: of a specification that is wrong on one of them, of different ones, and of others."""

    fxgrow.methods.register(AllAtOnce)
    case = CASES["tied"]
    mesh = dist.init_device_mesh("cpu", (number,))
    model = sharded(case.make(), mesh, case)
    optimizer, stateless = (torch.optim.Adam(model.parameters(), 1e-3) for _ in range(2))
    trained(model, optimizer, IDS, 1)
    plan = fxgrow.plan(fxgrow.widths(model, IDS, output="module"), {"inner": 17})
    before = [id(p) for p in optimizer.param_groups[0]["params"]]
    tries: list[Callable[[], Any]] = [
        lambda: fxgrow.grow(model, {"inner": 17} if rank else {"nothing like it": 2.0}, IDS),
        lambda: fxgrow.grow(model, {"inner": 17 + rank}, IDS),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, method="all at once"),
        lambda: fxgrow.grow(distributed(mesh), {"inner": 17}, IDS),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=optimizer if rank else None),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=optimizer, reset=bool(rank)),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=stateless if rank else optimizer),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=optimizer, resize=fails if rank else None),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=optimizer, warmup=-1 if rank else 0),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS, optimizer=optimizer, warmup=2 + rank),
        lambda: fxgrow.apply("no plan" if rank else plan, model, IDS),  # type: ignore[arg-type]
        lambda: fxgrow.apply(plan, model, IDS, optimizer=optimizer, resize=fails if rank else None),
        lambda: fxgrow.grow(model, {"inner": 17}, IDS[: rank + 1], optimizer=optimizer),
    ]
    said = []
    for attempt in tries:
        try:
            attempt()
            said.append("grown")
        except fxgrow.GrowError as error:
            said.append(str(error))
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == before
    return said


def distributed(mesh: Any) -> nn.Module:
    """A model of DTensors that was not given to `fully_shard`."""
    from torch.distributed.tensor import distribute_module

    return distribute_module(CASES["tied"].make(), mesh)


def test_what_one_process_cannot_grow_none_does_and_each_says_why(tmp_path: Path) -> None:
    first, second = in_processes(refusals, tmp_path, 2)
    assert "nothing like it" in first[0]
    assert "process 0 cannot grow the model" in second[0]
    assert "nothing like it" in second[0]
    assert "different plans" in first[1]
    assert "different plans" in second[1]
    for said in (first, second):
        assert "method 'all at once' does not say that it fills parts of tensors" in said[2]
        assert "fully_shard" in said[3]
        for one in said[4:7]:
            assert "different optimizers" in one
        assert "no such size" in said[7]
        assert "warmup" in said[8]
        assert "the same reset and warmup" in said[9]
        assert "takes a Plan" in said[10]
        assert "no such size" in said[11]
        assert "inputs of the same shapes" in said[12]


class Branch(nn.Module):
    """A block of a residual network with a tensor that is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.signs = nn.Linear(8, 12), nn.Linear(12, 8), torch.ones(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


def settings_of_clones(rank: int, number: int) -> list[Any]:
    """How a clone of a block is sharded that has columns, a parameter that was left out, and settings of its own."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    mesh, x = dist.init_device_mesh("cpu", (number,)), torch.linspace(-1, 1, 16).view(2, 8)
    model: Any = nn.Sequential(nn.Sequential(Branch(), Branch()), nn.Linear(8, 3))
    for block in model[0]:
        left = {block.down.bias}
        fully_shard(block, mesh=mesh, ignored_params=left, shard_placement_fn=lambda p: Shard(p.ndim - 1))
        block.set_reshard_after_backward(False)
    fully_shard(model, mesh=mesh, ignored_params={block.down.bias for block in model[0]})
    expected = model(x)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    student: Any = fxgrow.grow(model, fxgrow.Deepen("0.1", blocks=1), x, optimizer=optimizer)
    same = torch.equal(student(x), expected)
    trained(student, optimizer, x, 1)
    student[0][2].reshard()
    placed = [str(getattr(p, "placements", "whole")) for p in student[0][2].parameters()]
    group = student[0][2]._get_fsdp_state()._fsdp_param_group
    return [
        same,
        placed == [str(getattr(p, "placements", "whole")) for p in model[0][1].parameters()],
        *placed[-1:],
        group.reshard_after_backward,
        student[0][2].signs is not model[0][1].signs,
    ]


def test_a_clone_is_sharded_as_its_block_with_what_was_left_out_and_set(tmp_path: Path) -> None:
    assert in_processes(settings_of_clones, tmp_path, 2) == [[True, True, "whole", False, True]] * 2


def looked_at(rank: int, number: int) -> tuple[list[str], list[str], str, str]:
    """The widths of a sharded model, those of a plain one, the text of a plan, and what `verify` says."""
    case = CASES["decoder"]
    plain = case.make()
    before = [group.name for group in fxgrow.widths(plain, IDS, output="module").groups]
    model = sharded(plain, dist.init_device_mesh("cpu", (number,)), case)
    model(IDS)
    found = fxgrow.widths(model, IDS, output="module")
    with pytest.raises(fxgrow.GrowError) as caught:
        fxgrow.verify(model, fxgrow.grow(model, 1.5, IDS, output="module"), IDS)
    return [group.name for group in found.groups], before, str(fxgrow.plan(found, 1.5)), str(caught.value)


def test_the_widths_of_a_sharded_model_are_those_of_the_model(tmp_path: Path) -> None:
    found, before, plan, of_verify = in_processes(looked_at, tmp_path, 1)[0]
    assert found == before
    assert "compare what teacher and student return" in of_verify
    assert "FSDP" not in plan


def chains(rank: int, number: int) -> list[bool]:
    """Whether a chain of two plans gives the bits of applying it in memory, and growing twice does."""
    case = CASES["decoder"]
    torch.manual_seed(0)
    plain = case.make()
    once = fxgrow.grow(plain, 1.5, IDS, output="module")
    twice = fxgrow.grow(once, [1.25, fxgrow.Deepen("layers.2", blocks=1)], IDS, output="module")
    chain = fxgrow.plan_of(twice)
    assert chain is not None
    expected = {name: t.detach().clone() for name, t in twice.state_dict().items()}
    mesh = dist.init_device_mesh("cpu", (number,))
    applied = fxgrow.apply(fxgrow.Plan.from_json(chain.to_json()), sharded(plain, mesh, case))
    again = fxgrow.grow(
        fxgrow.grow(sharded(case.make(), mesh, case), 1.5, IDS), [1.25, fxgrow.Deepen("layers.2", blocks=1)], IDS
    )
    same = [torch.equal(full(t), expected[name]) for name, t in applied.state_dict().items()]
    kept = fxgrow.plan_of(again)
    return [all(same), len(same) == len(expected), kept is not None and len(kept.steps) == 2]


def test_chains_of_plans_are_applied_to_sharded_models(tmp_path: Path) -> None:
    assert in_processes(chains, tmp_path, 2) == [[True, True, True]] * 2
