"""Python as people write it inside `forward`: what a graph has to follow, and what stays code."""

import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.nets.registry import IMAGE, Grows, add


class Body(nn.Module):
    """Three convolutions with two widths to grow between them; `forward` is whatever is to be tried."""

    def __init__(self, run: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)
        self.run = run

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.b(torch.tanh(self.a(x))))

    def forward(self, x: Tensor) -> Any:
        assert self.run is not None
        return self.run(self, x)


# -- shapes --------------------------------------------------------------------------------------------


def odd_width(m: Body, x: Tensor) -> Tensor:
    if x.shape[-1] % 2:
        x = F.pad(x, (0, 1))
    return m.c(m.features(x)[..., ::2])


def loop_over_sizes(m: Body, x: Tensor) -> Tensor:
    x = m.features(x)
    total = 0
    for s in x.shape[2:]:
        total += s
    return m.c(x / total)


def pads_by_comprehension(m: Body, x: Tensor) -> Tensor:
    pads = [(-s) % 4 for s in reversed(x.shape[2:])]
    return m.c(m.features(F.pad(x, [p for pad in pads for p in (pad // 2, pad - pad // 2)])))


def half_rounded_up(m: Body, x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    return m.c(F.interpolate(m.features(x), size=(math.ceil(h / 2), int(w * 0.5))))


def largest_side(m: Body, x: Tensor) -> Tensor:
    return m.c(F.adaptive_avg_pool2d(m.features(x), max(x.shape[2], x.shape[3]) // 2))


def length_of_batch(m: Body, x: Tensor) -> Tensor:
    return m.c(m.features(x)) * len(x) / x.shape[0]


def batch_in_a_loop(m: Body, x: Tensor) -> Tensor:
    return torch.cat([m.c(m.features(x[i : i + 1])) for i in range(len(x))])


def batch_iterated(m: Body, x: Tensor) -> Tensor:
    return torch.stack([m.c(m.features(image[None]))[0] for image in x])


def batch_unpacked(m: Body, x: Tensor) -> Tensor:
    first, *others = m.features(x)
    return m.c(torch.stack([first, *others]))


def range_of_inputs(m: Body, x: Tensor) -> Tensor:
    shifted = [x[:, i] * (i + 1) for i in range(x.shape[1])]
    return m.c(m.features(torch.stack(shifted, 1)))


def rows_in_a_loop(m: Body, x: Tensor) -> Tensor:
    x = m.features(x)
    state = x.new_zeros(x.size(0), x.size(1), x.size(3))
    outs = []
    for i in range(x.size(2)):
        state = torch.tanh(state + x[:, :, i])
        outs.append(state)
    return m.c(torch.stack(outs, dim=2))


def positions(m: Body, x: Tensor) -> Tensor:
    h, w = x.shape[2:]
    ys, xs = torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype, device=x.device)
    grid = torch.stack(torch.meshgrid(ys / h, xs / w, indexing="ij"))
    return m.c(m.features(x + torch.cat([grid, grid[:1]])))


def new_tensors(m: Body, x: Tensor) -> Tensor:
    x = m.features(x)
    y = x.new_zeros(x.shape) + x.new_full((x.size(0), 1, 1, 1), 0.5) + torch.ones_like(x) + x.new_tensor([0.25])
    return m.c(x * y)


def sizes_asserted(m: Body, x: Tensor) -> Tensor:
    assert x.dim() == 4 and x.shape[1] == 3, f"images, please, not {tuple(x.shape)}"  # noqa: PT018
    torch._assert(x.shape[2] % 2 == 0, f"an even height, please, not {x.shape[2]}")
    return m.c(m.features(x))


def named_by_size(m: Body, x: Tensor) -> dict[str, Tensor]:
    x = m.features(x)
    return {f"level_{x.shape[2]}x{x.shape[3]}": m.c(x), "half": m.c(F.avg_pool2d(x, 2))}


def refused_sizes(m: Body, x: Tensor) -> Tensor:
    if x.size(2) < 4:
        raise ValueError(f"too small: {x.size()}")
    return m.c(m.features(x))


def sizes_tried(m: Body, x: Tensor) -> Tensor:
    try:
        if x.shape[2] == 6:
            raise ValueError
        y = F.avg_pool2d(x, 3)
    except ValueError:
        y = F.avg_pool2d(x, 2)
    finally:
        x = x * 2
    return m.c(m.features(y))


def sizes_compared(m: Body, x: Tensor) -> Tensor:
    y = F.max_pool2d(m.features(x), 2)
    if y.shape[2:] != x.shape[2:]:
        y = F.interpolate(y, x.shape[2:])
    if x.shape[-2:] == torch.Size([6, 8]):
        y = y * 2
    return m.c(y)


def size_in_a_table(m: Body, x: Tensor) -> Tensor:
    return m.c(m.features(x)) * {6: 2.0, 7: 3.0}.get(int(x.shape[2]), 1.0)


def size_in_a_set(m: Body, x: Tensor) -> Tensor:
    return m.c(m.features(x)) * (2.0 if x.shape[2] in (6, 12) else 3.0)


def size_is_true(m: Body, x: Tensor) -> Tensor:
    odd = x.shape[2] % 2 or x.shape[3] % 4
    return m.c(m.features(x)) * (1.0 if not odd else 2.0)


def steps_while(m: Body, x: Tensor) -> Tensor:
    x = m.features(x)
    while min(x.shape[2:]) > 3:
        x = F.max_pool2d(x, 2, ceil_mode=True)
    return m.c(x)


def scaled_by_sizes(m: Body, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    return m.c(m.features(x)) / math.sqrt(h * w) + float(h) / w + n**0.5


def anchors(m: Body, x: Tensor) -> tuple[Tensor, Tensor]:
    x = m.c(m.features(x))
    places = [(i + 0.5) / x.shape[3] for i in range(x.shape[3])]
    return x, torch.tensor(places, dtype=x.dtype)


def bytes_and_kinds(m: Body, x: Tensor) -> Tensor:
    if isinstance(x, Tensor) and hasattr(x, "shape") and x.is_floating_point() and not x.is_cuda:
        x = x * 2
    if x.dtype == torch.float16 or x.device.type == "cuda":
        x = x.float()
    return m.c(m.features(x.to(m.a.weight.dtype)))


def rearranged(m: Body, x: Tensor) -> Tensor:
    """einops: "b c (h p) (w q) -> b (p q) c h w", summed, with the sizes in a dictionary."""
    x = m.features(x)
    sizes = dict(zip("bchw", x.shape, strict=True))
    axes = {"p": 2, "q": 2, "h": sizes["h"] // 2, "w": sizes["w"] // 2}
    x = x.reshape([sizes["b"], sizes["c"], axes["h"], axes["p"], axes["w"], axes["q"]])
    x = x.permute(0, 3, 5, 1, 2, 4).reshape(sizes["b"], axes["p"] * axes["q"], sizes["c"], axes["h"], axes["w"])
    return m.c(x.sum(1))


def written_in_place(m: Body, x: Tensor) -> Tensor:
    x = m.features(x)
    y = torch.zeros(x.shape, dtype=x.dtype)
    y[:, :, : x.shape[2] // 2] = x[:, :, : x.shape[2] // 2]
    y[:, :, -1] += 1
    for i in range(len(y)):
        y[i] = y[i] * (i + 1)
    return m.c(y)


# -- Python --------------------------------------------------------------------------------------------


def generators(m: Body, x: Tensor) -> Tensor:
    def stages() -> Iterator[nn.Module]:
        yield m.a
        yield m.b

    for stage in stages():
        x = torch.tanh(stage(x))
    return sum(m.c(y) for y in (x, x * 2)) + max(i for i in range(3))


def lambdas(m: Body, x: Tensor) -> Tensor:
    act = lambda y, *, scale=2.0: torch.tanh(y) * scale  # noqa: E731
    return m.c(functools.reduce(lambda y, f: act(f(y)), [m.a, m.b], x))


def dictionaries(m: Body, x: Tensor) -> dict[str, Tensor]:
    found = {"x": m.features(x)}
    found.update(y=found["x"] * 2, z=found["x"].exp())
    if "w" not in found and found.get("w") is None:
        found.setdefault("w", found.pop("z"))
    return {f"{key}_out": m.c(value) for key, value in sorted(found.items())}


def ordered(m: Body, x: Tensor) -> OrderedDict[str, Tensor]:
    out: OrderedDict[str, Tensor] = OrderedDict()
    for name, child in m.named_children():
        x = child(x)
        if name == "c":
            out["out"] = x
    out["aux"] = out["out"] * 2
    return out


def nested(m: Body, x: Tensor) -> dict[str, Any]:
    x = m.features(x)
    return {"a": [m.c(x), (m.c(x * 2), {"deep": m.c(x.exp()), "none": None})], "size": tuple(x.shape[2:]), "k": 3}


@dataclass
class Found:
    """A dataclass with a default and a method."""

    logits: Tensor
    hidden: tuple[Tensor, ...] | None = None
    size: int = 0

    def total(self) -> Tensor:
        return self.logits.sum()


class Pair(NamedTuple):
    """A named tuple with a default."""

    logits: Tensor
    other: Tensor | None = None


def dataclasses(m: Body, x: Tensor) -> Found:
    x = m.features(x)
    found = Found(m.c(x), size=x.shape[2])
    found.hidden = (found.logits * 2, found.logits + found.total())
    return found


def named_tuples(m: Body, x: Tensor) -> Pair:
    pair = Pair(m.features(x))
    pair = pair._replace(other=pair.logits * 2)
    return Pair(m.c(pair.logits), m.c(pair.other))


def partials(m: Body, x: Tensor) -> Tensor:
    conv = functools.partial(F.conv2d, weight=m.b.weight, bias=m.b.bias)
    return m.c(torch.tanh(conv(torch.tanh(m.a(x)))))


def by_mode(m: Body, x: Tensor) -> Any:
    x = F.dropout(m.features(x), 0.3, m.training)
    return (m.c(x), m.c(x * 2)) if m.training else m.c(x)


def checkpointed(m: Body, x: Tensor) -> Tensor:
    return m.c(checkpoint(m.features, x, use_reentrant=False))


def methods_of_submodules(m: Body, x: Tensor) -> Tensor:
    x = m.a._conv_forward(x, m.a.weight, m.a.bias)
    return m.c.forward(torch.tanh(m.b.__call__(torch.tanh(x))))


def attributes_by_name(m: Body, x: Tensor) -> Tensor:
    for name in "abc":
        x = torch.tanh(getattr(m, name)(x))
    return x


def read_weights(m: Body, x: Tensor) -> Tensor:
    w = dict(m.named_parameters())
    x = torch.tanh(F.conv2d(x, w["a.weight"], w["a.bias"], padding=1))
    return m.c(torch.tanh(m.b(x)))


IDIOMS: tuple[Callable[[Body, Tensor], Any], ...] = (
    odd_width, loop_over_sizes, pads_by_comprehension, half_rounded_up, largest_side, length_of_batch,
    batch_in_a_loop, batch_iterated, batch_unpacked, range_of_inputs, rows_in_a_loop, positions, new_tensors,
    sizes_asserted, named_by_size, refused_sizes, sizes_tried, sizes_compared, size_in_a_table, size_in_a_set,
    size_is_true, steps_while, scaled_by_sizes, anchors, bytes_and_kinds, rearranged, written_in_place,
    generators, lambdas, dictionaries, ordered, nested, dataclasses, named_tuples, partials, by_mode, checkpointed,
    methods_of_submodules, attributes_by_name, read_weights,
)  # fmt: skip
for _run in IDIOMS:
    # What is written into a constant must stay.
    _grows: Grows = ("a.weight", "b.weight") if _run is written_in_place else "all"
    add(f"idiom_{_run.__name__}", lambda run=_run: Body(run), IMAGE, grows=_grows)


# -- what asks for the numbers -------------------------------------------------------------------------


def brightest(x: Tensor) -> Tensor:
    return x * (2.0 if x.abs().max().item() > 0.01 else 3.0)


def where_positive(x: Tensor) -> Tensor:
    places = (x[:, 0] > -100).nonzero()
    return x * len(places) / places.shape[0]


def masked(x: Tensor) -> Tensor:
    y = x.clone()
    y[y > 0.1] = 0.1
    rows = x[x[:, 0, 0, 0] > -100]
    return y + rows.mean()


def unrolled(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row, keep in zip(x, [True] * x.shape[0], strict=True) if keep])


def listed(x: Tensor) -> Tensor:
    sizes = torch.tensor(x.shape[2:]).tolist()
    return F.interpolate(x, size=[s + 1 for s in sizes])


class Asking(nn.Module):
    """A submodule whose code asks for the numbers in a tensor; its convolution grows."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask, self.conv = ask, nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.ask(torch.tanh(self.conv(x)))


for _ask in (brightest, where_positive, unrolled, listed):
    add(
        f"numbers_{_ask.__name__}",
        lambda ask=_ask: nn.Sequential(nn.Conv2d(3, 6, 3), Asking(ask), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)),
        IMAGE,
        grows=("2.weight",),
    )
# A mean over rows that were chosen by their numbers: what it is of is not followed.
add(
    "numbers_masked",
    lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Asking(masked), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 4, 1)),
    IMAGE,
    grows=("2.weight", "3.weight"),
)
