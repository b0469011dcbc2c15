"""On a CUDA device: the same plan, the same errors, everything stays on the device."""

import pytest
import torch

import fxgrow
from tests.check import assert_exact, cast, given, randomise
from tests.nets import NETS, Net
from tests.untouched import assert_untouched

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

# cuDNN has no deterministic or no float64 form of some operators; what is compared here is growth.
SOME = (
    "res_net",
    "dense_net",
    "inception",
    "shuffle_chain",
    "convnext",
    "tied_convolutions",
    "inverted_residuals",
    "resnext_with_se",
    "unet",
    "autoencoder",
    "stochastic_depth",
    "depthwise2d_multiplier2",
    "layernorm_on_tokens",
    "position_tables",
)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("net", [NETS[name] for name in SOME], ids=SOME)
def test_growth_is_exact_on_cuda(net: Net, dtype: torch.dtype, tol: float) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    teacher = randomise(net.make().to("cuda", dtype))
    args, kwargs = cast(given(net.inputs(), dtype), torch.device("cuda"))
    inputs = kwargs or args
    with assert_untouched(teacher):
        student = fxgrow.grow(teacher, 2.0, inputs)
    assert_exact(teacher, student, inputs, tol)
    assert all(t.is_cuda for t in (*student.parameters(), *student.buffers()))


@pytest.mark.parametrize("net", [NETS[name] for name in SOME], ids=SOME)
def test_cuda_and_cpu_have_one_plan(net: Net) -> None:
    teacher = net.make()
    here = fxgrow.grow(teacher, 1.5, net.inputs())
    args, kwargs = cast(net.inputs(), torch.device("cuda"))
    there = fxgrow.grow(teacher.to("cuda"), 1.5, kwargs or args)
    assert here.meta["fxgrow"].to_json() == there.meta["fxgrow"].to_json()
    for key, value in here.state_dict().items():
        torch.testing.assert_close(value, there.state_dict()[key].cpu(), rtol=1e-6, atol=1e-6)


def test_mixed_precision_on_cuda() -> None:
    net = NETS["res_net"]
    teacher = randomise(net.make()).cuda()
    (x,) = net.inputs()
    student = fxgrow.grow(teacher, 2.0, x.cuda())
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert_exact(teacher, student, x.cuda(), 5e-2)
