"""What every equality test stands on: randomised models, comparable runs, errors that cannot cancel.

Nothing here knows fxgrow; `benchmarks/zoo.py` uses the same functions.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
Mode = Literal["eval", "train", "eval after train"]
MODES: tuple[Mode, ...] = ("eval", "train", "eval after train")


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move in place whatever stands at its default: statistics, affine weights, biases, layer scales, slopes.

    A parameter whose entries are all equal has not been initialised at random: ones become 0.5 to 1.5, zeros
    become -0.5 to 0.5. Running means and variances get values around 0 and 1. The other weights stay.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform_(tensor: Tensor, low: float, high: float) -> None:
        values = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * (high - low) + low
        tensor.copy_(values)

    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point() and p.numel() and bool((p == p.flatten()[0]).all()):
                zero = bool((p == 0).all())
                uniform_(p, *((-0.5, 0.5) if zero else (0.5, 1.5)))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                uniform_(b, -0.5, 0.5)
            elif name.endswith("running_var"):
                uniform_(b, 0.5, 2.0)
            elif name.endswith("num_batches_tracked"):
                b.fill_(3)
    return model


class NoRandomness(TorchDispatchMode):
    """Dropout becomes the identity, and each Bernoulli variable its mean: stochastic depth is off as well."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is aten.native_dropout.default:
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        if func is aten.bernoulli.default:
            return args[0].clone()
        if func is aten.bernoulli.p:
            return torch.full_like(args[0], args[1])
        if func is aten.bernoulli_.float:
            return args[0].fill_(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
        if func is aten.bernoulli_.Tensor:
            return args[0].copy_(args[1])
        if func in (aten.rrelu_with_noise.default, aten.rrelu_with_noise_.default):
            return func(*args[:4], False)
        return func(*args, **kwargs)


def tensors(output: object) -> list[Tensor]:
    """All tensors of any nesting of sequences, mappings and dataclasses, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [t for value in output.values() for t in tensors(value)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [t for value in output for t in tensors(value)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [t for f in dataclasses.fields(output) for t in tensors(getattr(output, f.name))]
    return []


def cast(inputs: Inputs, like: torch.dtype | torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copies of the inputs as (args, kwargs); a dtype is given to floating tensors alone."""

    def one(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: one(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([one(entry) for entry in value])
        if not isinstance(value, Tensor):
            return value
        if isinstance(like, torch.dtype) and not value.is_floating_point():
            return value.clone()
        return value.detach().to(like, copy=True)

    if isinstance(inputs, Mapping):
        return (), {key: one(value) for key, value in inputs.items()}
    return tuple(one(v) for v in ((inputs,) if isinstance(inputs, Tensor) else inputs)), {}


def given(inputs: Inputs, like: torch.dtype | torch.device) -> Inputs:
    """Copies of the inputs in their own form: positional ones as a tuple, named ones as a dictionary."""
    args, kwargs = cast(inputs, like)
    return kwargs or args


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def _cloned_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers are replaced by clones inside; a buffer known under several names by one clone.

    `torch.func.functional_call` leaves its tensors behind where one module has two names.
    """
    before = [(m, key, b) for m in model.modules() for key, b in m._buffers.items() if b is not None]
    clones = {id(b): b.clone() for _, _, b in before}
    try:
        for module, key, buffer in before:
            module._buffers[key] = clones[id(buffer)]
        yield
    finally:
        for module, key, buffer in before:
            module._buffers[key] = buffer


@contextmanager
def _same_randomness(seed: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` takes .3 ms where no GPU is in use
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def run_all(model: nn.Module, inputs: Inputs, modes: Sequence[Mode], seed: int = 0) -> list[list[Tensor]]:
    """All output tensors in each mode; neither the model's buffers nor its modes nor the inputs change.

    "eval after train" runs once in train mode, so that the statistics move, then in eval mode. That run in train mode
    is what "train" gives, too.
    """
    reference = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), None)
    dtype = reference.dtype if reference is not None else torch.get_default_dtype()

    def outputs(steps: Sequence[str]) -> list[list[Tensor]]:
        found = []
        with torch.no_grad(), _same_randomness(seed), NoRandomness(), _cloned_buffers(model):
            for step in steps:
                args, kwargs = cast(inputs, dtype)
                with _mode(model, step == "train"):
                    found.append([t.clone() for t in tensors(model(*args, **kwargs))])
        return found

    by_mode: dict[str, list[Tensor]] = {}
    if "eval after train" in modes:
        by_mode["train"], by_mode["eval after train"] = outputs(["train", "eval"])
    for mode in modes:
        if mode not in by_mode:
            (by_mode[mode],) = outputs([mode])
    return [by_mode[mode] for mode in modes]


def run(model: nn.Module, inputs: Inputs, mode: Mode = "eval", seed: int = 0) -> list[Tensor]:
    """All output tensors in one mode, as `run_all` gives them."""
    return run_all(model, inputs, [mode], seed)[0]


def relative_error(a: Tensor | Sequence[Tensor], b: Tensor | Sequence[Tensor]) -> float:
    """max|a - b| / max|a|, the worst over all tensors.

    Infinite where shapes or counts differ, or where one side has a NaN or infinity that the other has not.
    """
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        a, b = tensors(a), tensors(b)
        if len(a) != len(b):
            return float("inf")
        return max((relative_error(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if a.shape != b.shape:
        return float("inf")
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    a, b = a.detach().to("cpu", wide), b.detach().to("cpu", wide)
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    if not bool((a.isfinite() & b.isfinite() | same).all()):
        return float("inf")
    scale = float(a[a.isfinite()].abs().max())
    return float((a - b)[~same].abs().max()) / scale if scale > 0 else float("inf")


def grown(teacher: nn.Module, student: nn.Module) -> set[str]:
    """The names of the parameters whose shape changed."""
    new = dict(student.named_parameters(remove_duplicate=False))
    old = dict(teacher.named_parameters(remove_duplicate=False))
    return {name for name, p in old.items() if name in new and new[name].shape != p.shape}


def ties(model: nn.Module) -> set[frozenset[str]]:
    """The sets of names under which one parameter or buffer is known."""
    names: dict[int, set[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), set()).add(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}


SIZES: dict[type[nn.Module], dict[str, tuple[str, int]]] = {
    nn.Linear: {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    nn.modules.batchnorm._NormBase: {"num_features": ("running_mean", 0)},
    nn.PReLU: {"num_parameters": ("weight", 0)},
    nn.GroupNorm: {"num_channels": ("weight", 0)},
    nn.Embedding: {"num_embeddings": ("weight", 0), "embedding_dim": ("weight", 1)},
    nn.MultiheadAttention: {"embed_dim": ("in_proj_weight", 1), "kdim": ("in_proj_weight", 1)},
    nn.GRU: {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)},
    nn.RNNCellBase: {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)},
}


def stale_sizes(model: nn.Module) -> list[str]:
    """Attributes that state another size than the weight beside them has."""
    stale = []
    for name, module in model.named_modules():
        stated: dict[str, tuple[int, int]] = {}
        for kind, sizes in SIZES.items():
            if isinstance(module, kind):
                for attribute, (key, dim) in sizes.items():
                    if (tensor := getattr(module, key, None)) is not None:
                        stated[attribute] = getattr(module, attribute), tensor.shape[dim]
        if isinstance(module, nn.modules.conv._ConvNd):
            out, inside = (1, 0) if module.transposed else (0, 1)
            shape, groups = module.weight.shape, module.groups
            stated["out_channels"] = module.out_channels, shape[out] * (groups if module.transposed else 1)
            stated["in_channels"] = module.in_channels, shape[inside] * (1 if module.transposed else groups)
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
            stale += [f"{name}.normalized_shape"] * (tuple(module.normalized_shape) != module.weight.shape)
        stale += [f"{name}.{key} is {a}, weight has {b}" for key, (a, b) in stated.items() if a != b]
    return stale


def assert_exact(
    teacher: nn.Module,
    student: nn.Module,
    inputs: Inputs,
    tol: float,
    *,
    modes: Sequence[Mode] = MODES,
    changed: bool = True,
) -> None:
    """The student computes what the teacher does, although something in it is of another size."""
    old, new = teacher.state_dict(), student.state_dict()
    if changed:
        assert any(k not in old or old[k].shape != new[k].shape for k in new), "no size changed"
    results = (run_all(model, inputs, modes) for model in (teacher, student))
    for mode, expected, found in zip(modes, *results, strict=True):
        assert expected, "the teacher gives out no tensor"
        assert any(bool(t.count_nonzero()) for t in expected), "the teacher's outputs are zero: nothing is tested"
        assert all(bool(t.isfinite().all()) for t in expected), "the teacher's outputs are not finite"
        assert [t.shape for t in expected] == [t.shape for t in found], f"{mode}: shapes differ"
        assert [t.dtype for t in expected] == [t.dtype for t in found], f"{mode}: dtypes differ"
        error = relative_error(expected, found)
        assert error <= tol, f"{mode}: relative error {error:.2e} > {tol:.0e}"
    assert set(old) <= set(new), f"lost from the state_dict: {sorted(set(old) - set(new))}"
    for name in old:
        assert old[name].dtype == new[name].dtype, name
        assert old[name].device == new[name].device, name
    assert ties(teacher) <= ties(student), f"untied: {ties(teacher) - ties(student)}"
    frozen = {n for n, p in teacher.named_parameters(remove_duplicate=False) if not p.requires_grad}
    still = {n for n, p in student.named_parameters(remove_duplicate=False) if not p.requires_grad}
    assert frozen <= still, f"thawed: {frozen - still}"
    assert not stale_sizes(student), stale_sizes(student)
