"""`fully_shard` (FSDP2) on two processes: a student that is sharded by its blocks trains as one process would."""

from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import fxgrow
from fxgrow.model.tree import Output
from tests.decoders import Config, Decoder
from tests.ranks import TOGETHER, in_processes

pytestmark = TOGETHER

IDS = torch.arange(24).view(2, 12) % 32
STEPS = 3


class Dropping(nn.Module):
    """Code whose graph differs between the modes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(torch.relu(self.stem(x.float())), 0.5, self.training))


def deeper() -> nn.Module:
    """A decoder of five layers, grown from one of three, in its own class."""
    torch.manual_seed(0)
    return fxgrow.grow(Decoder(Config()), [1.5, fxgrow.Deepen("layers.1", blocks=2)], IDS, output="module")


def wider(output: Output) -> nn.Module:
    torch.manual_seed(0)
    return fxgrow.grow(Dropping(), 1.5, IDS, output=output)


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters after some steps."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for number in range(STEPS):
        optimizer.zero_grad()
        model(IDS.roll(number), use_cache=False)["logits"].square().mean().backward()
        optimizer.step()
    return {name: p.full_tensor() if hasattr(p, "full_tensor") else p for name, p in model.named_parameters()}


def one_rank(rank: int, number: int) -> tuple[dict[str, Tensor], Counter[int]]:
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (2,))
    model = deeper()
    layers = model.get_submodule("layers")
    assert isinstance(layers, nn.ModuleList)
    called = Counter[int]()
    for number, layer in enumerate(layers):
        fully_shard(layer, mesh=mesh)
        layer.register_forward_hook(lambda *_, number=number: called.update([number]))
    fully_shard(model, mesh=mesh)
    found = trained(model)
    stochastic = []
    for output in ("graph", "module"):
        student = fully_shard(wider(output), mesh=mesh)
        for training in (True, False, True):
            student.train(training)
            with torch.no_grad():
                stochastic.append(not torch.equal(student(IDS), student(IDS)))
    assert stochastic == 2 * [True, False, True]
    return found, called


def test_a_deepened_student_sharded_by_its_blocks_trains_as_one_process_does(tmp_path: Path) -> None:
    """Also the mode of a sharded student, whose class torch has swapped, can be changed."""
    alone = trained(deeper())
    for sharded, called in in_processes(one_rank, tmp_path, 2):
        assert called == Counter(dict.fromkeys(range(5), STEPS))
        assert sharded.keys() == alone.keys()
        for name, parameter in alone.items():
            torch.testing.assert_close(sharded[name], parameter, rtol=1e-4, atol=1e-6)


def test_the_blocks_of_a_deepened_student_can_be_checkpointed() -> None:
    plain, saving = deeper(), deeper()
    layers = saving.get_submodule("layers")
    assert isinstance(layers, nn.ModuleList)
    for number, layer in enumerate(layers):
        layers[number] = checkpoint_wrapper(layer)
    expected, found = trained(plain), trained(saving)
    assert [name.replace("_checkpoint_wrapped_module.", "") for name in found] == [*expected]
    assert all(torch.equal(a, b) for a, b in zip(expected.values(), found.values(), strict=True))
