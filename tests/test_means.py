"""Widths that grow to no multiple of what they were, through layer norms: the rest carries the mean of the channels."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from benchmarks.grow_speed import MEANS, held, norms
from fxgrow import Widen
from fxgrow.layouts.layout import atoms
from fxgrow.ops import Sample, rules
from fxgrow.rewrite.lineage import plan_of
from tests.check import assert_exact, randomise, relative_error, run
from tests.nets.registry import Call
from tests.thinned import pairs, thinned


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


class Attention(nn.Module):
    """Two heads of three, whatever the width around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 18), nn.Linear(6, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 2, 3).permute(2, 0, 3, 1, 4)  # each (N, 2, T, 3)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, 6))


class Block(nn.Module):
    """A pre-norm block."""

    def __init__(self, width: int, attention: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-3)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 10), nn.GELU(), nn.Linear(10, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        more = self.attention(y, y, y, need_weights=False)[0] if self.own else self.attention(y)
        x = x + more
        return x + self.mlp(self.norm2(x))

    @property
    def own(self) -> bool:
        return isinstance(self.attention, nn.MultiheadAttention)


class TinyViT(nn.Module):
    """Patches, a class token, a table of positions, two blocks, a norm, a head."""

    def __init__(self, width: int, *, whole: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 2, stride=2)
        self.token, self.positions = _parameter(1, 1, width), _parameter(1, 7, width)
        attentions = [nn.MultiheadAttention(width, 2, batch_first=True) if whole else Attention(width) for _ in "ab"]
        self.blocks = nn.Sequential(*(Block(width, attention, 0.1) for attention in attentions))
        self.drop, self.norm, self.head = nn.Dropout(0.1), nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (N, 6, width)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = self.norm(self.blocks(self.drop(x)))
        return self.head(x[:, 0]) + self.head(x[:, 1:].mean(1))


class Words(nn.Module):
    """An embedding, a functional layer norm whose eps is a literal, one whose eps is the default, one used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.enter = nn.Embedding(11, 6), nn.Linear(7, 6)
        self.up, self.down, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 4)
        self.gain1, self.shift1, self.gain2 = _parameter(6), _parameter(6), _parameter(6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(torch.arange(5)) + 0.5 * self.enter(x) - 1
        y = self.down(torch.tanh(self.up(F.layer_norm(x, (6,), self.gain1, self.shift1, 0.1))))
        x = x + F.dropout(y, 0.2, self.training) / 2  # so that each mode has a graph of its own
        x = x + self.down(torch.tanh(self.up(self.norm(x))))
        x = x + self.down(torch.tanh(self.up(F.layer_norm(x, (6,), weight=self.gain2))))
        return self.head(self.norm(x))


class Gated(nn.Module):
    """A stream between two linear layers, something done to it, a norm, and a head; it is read from before, too."""

    def __init__(self, middle: Callable[[Tensor], Tensor] | nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.norm, self.read, self.head = nn.Linear(7, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.Linear(6, 4)
        self.middle, self.after = middle, after
        self.scale, self.rest = _parameter(6), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.stem(x))
        return self.rest(self.head(self.after(self.norm(x)))) + self.read(x)


def _plain(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, width), nn.LayerNorm(width), nn.Linear(width, 8), nn.LayerNorm(8), nn.Linear(8, 3)
    )


def _same(x: Tensor) -> Tensor:
    return x


IMAGE, TOKENS = (2, 3, 4, 6), (2, 5, 7)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, int | float]] = {
    "mlp 6 to 7": (lambda: _plain(6), TOKENS, "0", 7),
    "mlp 6 to 13": (lambda: _plain(6), TOKENS, "0", 13),
    "mlp 5 to 49": (lambda: _plain(5), TOKENS, "0", 49),
    "two widths": (lambda: _plain(6), TOKENS, "*", 1.5),
    "vit 8 to 12": (lambda: TinyViT(8), IMAGE, "*", 1.5),
    "vit 6 to 7": (lambda: TinyViT(6), IMAGE, "patch", 7),
    "vit 6 to 13": (lambda: TinyViT(6), IMAGE, "patch", 13),
    "vit with nn.MultiheadAttention": (lambda: TinyViT(8, whole=True), IMAGE, "*", 1.5),
    "functional": (Words, TOKENS, "enter", 8),
    "read beside the norm": (lambda: Gated(_same, _same), TOKENS, "stem", 10),
}


def _made(name: str) -> tuple[nn.Module, Tensor, Widen]:
    make, shape, pattern, width = CASES[name]
    torch.manual_seed(0)
    teacher = randomise(make().double())
    return teacher, torch.randn(shape, dtype=torch.float64), Widen(pattern, width, indivisible="average")


@pytest.mark.parametrize("name", CASES)
def test_the_width_is_as_asked_and_the_function_the_same(name: str) -> None:
    teacher, x, asked = _made(name)
    student = fxgrow.grow(teacher, asked, x)
    plan = plan_of(student)
    assert plan is not None
    carrying = [w for w in plan.grown_widths if w.mean_channels]
    assert len(carrying) == (2 if name == "two widths" else 1)
    assert all(w.new == (asked.width if isinstance(asked.width, int) else w.old * asked.width) for w in carrying)
    assert plan.preserves_function
    assert fxgrow.Plan.from_json(plan.to_json()) == plan
    assert_exact(teacher, student, x, 1e-10)
    report = fxgrow.verify(teacher, student, x).raise_if_different()
    assert report.nodes
    assert max(node.error for node in report.nodes) < 1e-10
    again = fxgrow.apply(fxgrow.Plan.from_json(plan.to_json()), teacher, x)
    for key, tensor in student.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


@pytest.mark.parametrize("name", CASES)
def test_both_sides_of_a_channel_that_carries_the_mean_are_trained(name: str) -> None:
    """A column of zeros has a gradient, because the channel has an activation; so the rows have one a step later."""
    teacher, x, asked = _made(name)
    student = fxgrow.grow(teacher, asked, x)
    plan = plan_of(student)
    assert plan is not None
    moved: dict[tuple[str, int], bool] = {}
    for _ in range(2):
        student.zero_grad()
        student(x).square().sum().backward()
        with torch.no_grad():
            for tensor in plan.tensors:
                gradient = student.get_parameter(tensor.name).grad
                assert gradient is not None
                for dim, part in enumerate(tensor.mean_fill):
                    if part:
                        number = plan.width(tensor.layouts[dim][0][0]).mean_channels
                        new = gradient.narrow(dim, gradient.shape[dim] - number, number)
                        each = new.transpose(0, dim).reshape(number, -1).abs().amax(1)
                        seen = bool((each > 1e-12).all())
                        moved[tensor.name, dim] = moved.get((tensor.name, dim), False) or seen
            for p in student.parameters():
                p -= 0 if p.grad is None else 0.01 * p.grad
    assert moved
    assert all(moved.values()), [key for key, found in moved.items() if not found]


@pytest.mark.parametrize("name", ["mlp 6 to 7", "vit 6 to 13", "functional"])
def test_a_student_whose_eps_stayed_would_be_noticed(name: str) -> None:
    teacher, x, asked = _made(name)
    student = fxgrow.grow(teacher, asked, x)
    norms = [m for m in student.modules() if isinstance(m, nn.LayerNorm)]
    before = dict(teacher.named_modules())
    changed = [key for key, m in student.named_modules() if isinstance(m, nn.LayerNorm) and m.eps != before[key].eps]
    assert changed
    assert norms
    for key in changed:
        student.get_submodule(key).eps = before[key].eps  # type: ignore[assignment]
    assert relative_error(run(teacher, x), run(student, x)) > 1e-8
    with pytest.raises(fxgrow.EquivalenceError):
        fxgrow.verify(teacher, student, x).raise_if_different()


def test_eps_changes_where_the_plan_says_so_and_nowhere_else() -> None:
    teacher, x, asked = _made("functional")
    student = fxgrow.grow(teacher, asked, x)
    assert "0.075" in str(student.code)  # 0.1 * 6 / 8
    assert student.get_submodule("norm").eps == 1e-5 * 6 / 8
    plan = plan_of(other := fxgrow.grow(*_made("mlp 6 to 7")[::2], x))
    assert plan is not None
    assert other.get_submodule("3").eps == 1e-5  # a norm over another width
    assert [(r.module, r.name) for r in plan.resizes if r.name == "eps"] == [("1", "eps")]


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "layer scale": (lambda: _Scaled(), TOKENS, "mul.* multiplies two tensors"),
    "batch norm": (
        lambda: Gated(_Tokens(nn.BatchNorm1d(6)), _same), TOKENS, "batch_norm.* does not commute with the mean"
    ),
    "gelu on the stream": (lambda: Gated(F.gelu, _same), TOKENS, "gelu.* does not commute with the mean"),
    "gelu behind the norm": (lambda: Gated(_same, F.gelu), TOKENS, "gelu.* does not commute with the mean"),
    "group norm": (lambda: Gated(_Tokens(nn.GroupNorm(1, 6)), _same), TOKENS, "group_norm.* does not commute"),
    "mean over channels": (lambda: Gated(lambda x: x - x.mean(-1, keepdim=True), _same), TOKENS, "mean does not keep"),
    "a gate": (lambda: Gated(lambda x: x * x, _same), TOKENS, "mul.* multiplies two tensors"),
    "softmax along tokens": (lambda: Gated(lambda x: x.softmax(1), _same), TOKENS, "softmax.* does not commute"),
    "depthwise": (lambda: Gated(_Tokens(nn.Conv1d(6, 6, 1, groups=6)), _same), TOKENS, "multiplies two tensors"),
    "a number after the norm": (lambda: Gated(_same, lambda x: x + 1), TOKENS, "adds a number to what a layer norm"),
    "post-norm": (lambda: _Post(), TOKENS, "brings what a layer norm gives together"),
    "one weight reads both": (lambda: _Both(), TOKENS, r"head\.weight plays draw and zero"),
    "no gain": (
        lambda: Gated(nn.LayerNorm(6, elementwise_affine=False), _same), TOKENS, "has no gain, which would have to"
    ),
    "a norm of a norm": (lambda: Gated(nn.LayerNorm(6), _same), TOKENS, "brings|has been normalised before"),
    "a gain that is used elsewhere": (lambda: _GainTwice(), TOKENS, "plays gain and mean"),
    "a weight that is scaled along it": (lambda: _ScaledRead(), TOKENS, r"multiplies head\.weight with another"),
}  # fmt: skip


class _Tokens(nn.Module):
    """A layer for (N, C, T) on (N, T, C)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class _Scaled(Gated):
    def __init__(self) -> None:
        super().__init__(_same, _same)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.scale * self.stem(x)))


class _Post(Gated):
    def __init__(self) -> None:
        super().__init__(_same, _same)
        self.more = nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x)) + self.more(x))


class _Both(Gated):
    def __init__(self) -> None:
        super().__init__(_same, _same)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x) + self.head(self.norm(x))


class _ScaledRead(Gated):
    """Reads the stream with a weight times a parameter of the width."""

    def __init__(self) -> None:
        super().__init__(_same, _same)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.norm(x)) + F.linear(x, self.head.weight * self.scale)


class _GainTwice(Gated):
    def __init__(self) -> None:
        super().__init__(_same, _same)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(x) + self.norm.weight))


BLANKET = Widen("*", 1.5, indivisible="average")


def _under_a_blanket(teacher: nn.Module, x: Tensor) -> nn.Module | None:
    """The student of a factor for every width; None where no width can grow, which is refused."""
    try:
        return fxgrow.grow(teacher, BLANKET, x)
    except fxgrow.PlanError as error:
        if "would grow" not in str(error):
            raise
        return None


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_commute_with_the_mean_is_refused_by_name_and_left_under_a_blanket(name: str) -> None:
    make, shape, reason = REFUSED[name]
    torch.manual_seed(0)
    teacher, x = randomise(make().double()), torch.randn(shape, dtype=torch.float64)
    with pytest.raises(fxgrow.PlanError, match=reason):
        fxgrow.grow(teacher, Widen("stem", 9, indivisible="average"), x)
    student = _under_a_blanket(teacher, x)
    if student is not None:
        plan = plan_of(student)
        assert plan is not None
        assert not any(w.mean_channels for w in plan.groups)
        assert_exact(teacher, student, x, 1e-10, changed=False)


def test_a_method_that_makes_no_replicas_is_refused() -> None:
    teacher, x, _ = _made("mlp 6 to 7")
    with pytest.raises(fxgrow.PlanError, match="needs a method that makes replicas, which 'zero_out' is not"):
        fxgrow.grow(teacher, Widen("0", 7, indivisible="average", method="zero_out"), x)
    student = fxgrow.grow(teacher, Widen("0", 13, indivisible="average", method="even"), x)
    assert_exact(teacher, student, x, 1e-10)


def test_a_whole_multiple_needs_no_means() -> None:
    teacher, x, _ = _made("mlp 6 to 7")
    one = fxgrow.grow(teacher, Widen("0", 12, indivisible="average"), x)
    other = fxgrow.grow(teacher, Widen("0", 12), x)
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_other_dtypes(dtype: torch.dtype) -> None:
    teacher, x, asked = _made("vit 8 to 12")
    teacher, x = teacher.to(dtype), x.to(dtype)
    assert fxgrow.verify(teacher, fxgrow.grow(teacher, asked, x), x).exact


@pytest.mark.parametrize("name", ["two widths", "vit 6 to 13"])
def test_made_by_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, x, asked = _made(name)
    monkeypatch.setattr("fxgrow.rewrite.fill.PART", 16)
    assert_exact(teacher, fxgrow.grow(teacher, asked, x), x, 1e-10)


def test_channels_that_carry_means_are_told_apart_by_the_norms_readers() -> None:
    teacher, x, asked = _made("mlp 5 to 49")
    columns = fxgrow.grow(teacher, asked, x).get_parameter("2.weight").detach()[:, 45:]
    sizes = columns.abs().amax(1, keepdim=True)
    assert columns.unique().numel() == columns.numel()
    assert 0 < float(sizes.min()) <= float(sizes.max()) < float(teacher.get_parameter("2.weight").detach().abs().max())


def test_the_module_form_grows_alike() -> None:
    teacher, x, asked = _made("mlp 6 to 7")
    student = fxgrow.grow(teacher, asked, x, output="module")
    assert_exact(teacher, student, x, 1e-10)


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    teacher, x, asked = _made("mlp 6 to 7")
    text = fxgrow.plan(fxgrow.widths(teacher, x), asked).to_json()
    for before, after in (('"mean_channels": 1', '"mean_channels": 9'), ('"gain"', '""'), ('"shift"', '"nonsense"')):
        assert before in text
        with pytest.raises(fxgrow.PlanError):
            fxgrow.Plan.from_json(text.replace(before, after, 1))


def test_rules_are_not_linear_unless_they_say_so() -> None:
    aten = torch.ops.aten
    assert not rules()[aten.hardswish.default].linear
    assert {
        rules()[op].linear for op in (aten.native_batch_norm.default, aten.amax.default, aten._softmax.default)
    } == {""}


class Sampled(nn.Module):
    """A sample of a rule, on a stream or on what a layer norm gives; the stream goes through another norm, too."""

    def __init__(self, sample: Sample, *, normed: bool) -> None:
        super().__init__()
        width = sample.shape[sample.dim - 1]
        self.dim, self.normed = sample.dim, normed
        self.stem, self.norm1, self.norm2 = nn.Linear(3, width), nn.LayerNorm(width), nn.LayerNorm(width)
        made = sample.build()
        self.middle = made if isinstance(made, nn.Module) else Call(made)
        out = self.middle(torch.zeros(2, *sample.shape))
        self.fits = isinstance(out, Tensor) and out.ndim > sample.dim and out.shape[sample.dim] == width
        self.head1, self.head2 = nn.Linear(width, 3), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, *rest, width)
        y = self.norm1(x) if self.normed else x
        y = self.middle(y.movedim(-1, self.dim)).movedim(self.dim, -1)
        return self.head1(y).mean() + self.head2(self.norm2(x)).mean()


FUNCTIONS = {rule.function.__name__: rule for rule in rules().values()}
LINEAR = ("each", "sum", "scale", "divide")
SAMPLES = [
    (name, number)
    for name, rule in FUNCTIONS.items()
    for number, sample in enumerate(rule.samples)
    if Sampled(sample, normed=False).fits
]


@thinned("means through rules")
@pytest.mark.parametrize(
    ("sample", "normed"),
    pairs(
        {f"{name}-{number}": FUNCTIONS[name].samples[number] for name, number in SAMPLES},
        {"stream": False, "normed": True},
    ),
)
def test_every_rule_is_exact_or_a_reason_against_means(sample: Sample, normed: bool) -> None:
    torch.manual_seed(0)
    teacher = randomise(Sampled(sample, normed=normed).double())
    rest = [n for d, n in enumerate(sample.shape) if d != sample.dim - 1]
    x = torch.randn(2, *rest, 3, dtype=torch.float64)
    student = _under_a_blanket(teacher, x)
    if student is not None:
        assert_exact(teacher, student, x, 1e-10, changed=False)


LET_THROUGH = [op for op, rule in rules().items() if rule.linear in LINEAR and op.namespace == "aten"]
NOT_SHOWN = {
    "aten.mean.default": "it averages over the width, too",
    "aten.sum.default": "it sums over the width, too",
}


def _lets_through(sample: Sample) -> set[object]:
    """The overloads that a width whose new channels carry means goes through in a sample."""
    teacher = Sampled(sample, normed=False)
    rest = [n for d, n in enumerate(sample.shape) if d != sample.dim - 1]
    x = torch.randn(2, *rest, 3)
    graph = fxgrow.widths(teacher, x)
    try:
        means = {w.name for w in fxgrow.plan(graph, BLANKET).grown_widths if w.mean_channels}
    except fxgrow.PlanError as error:
        if "would grow" not in str(error):
            raise
        return set()
    return {
        call.op
        for mode, calls in graph.calls.items()
        for call, prediction in zip(calls, graph.predictions[mode], strict=True)
        for _, value in prediction.flow.outs
        if means & {name for layout in value.layouts for name in atoms(layout)}
    }


def test_every_overload_that_says_how_means_go_through_lets_some_through() -> None:
    functions = {id(rule.function): rule for op, rule in rules().items() if op in LET_THROUGH}
    samples = [sample for rule in functions.values() for sample in rule.samples]
    seen = {op for sample in samples if Sampled(sample, normed=False).fits for op in _lets_through(sample)}
    assert {str(op) for op in LET_THROUGH if op not in seen} == set(NOT_SHOWN)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: torch.logsumexp(h, 1),
        lambda h: torch.linalg.vector_norm(h, dim=1),
        lambda h: torch.linalg.vector_norm(h, 1, dim=1),
        lambda h: torch.norm(h, dim=1),
        lambda h: torch.prod(h, 1),
        lambda h: h.count_nonzero(1).to(h.dtype),
        lambda h: h.argmin(1).to(h.dtype),
        lambda h: h.nansum(1),
        lambda h: h.amax(1),
        lambda h: h.std(1),
        lambda h: h.var(1),
        lambda h: h.median(1)[0],
        lambda h: h.cumprod(1)[:, -1],
        lambda h: h.logcumsumexp(1)[:, -1],
        lambda h: h.softmax(1)[:, 0],
    ],
)
def test_a_reduction_over_tokens_that_is_not_linear_lets_no_means_through(
    function: Callable[[Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    teacher, x = randomise(Gated(function, _same).double()), torch.randn(2, 5, 7, dtype=torch.float64)
    with pytest.raises(fxgrow.PlanError, match="does not commute with the mean over channels"):
        fxgrow.grow(teacher, Widen("stem", 9, indivisible="average"), x)


@pytest.mark.parametrize("function", [lambda h: h.sum(1), lambda h: h.mean(1), lambda h: h.sum(1, keepdim=True)])
def test_a_sum_over_tokens_lets_means_through(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    teacher, x = randomise(Gated(function, _same).double()), torch.randn(2, 5, 7, dtype=torch.float64)
    assert_exact(teacher, fxgrow.grow(teacher, Widen("stem", 9, indivisible="average"), x), x, 1e-10)


@pytest.mark.parametrize("what", MEANS)
def test_means_need_no_copy_of_the_tensor_that_they_extend(what: str) -> None:
    _, teacher, x = norms(1024)
    plan = fxgrow.plan(fxgrow.widths(teacher, x), MEANS[what])
    assert any(width.mean_channels for width in plan.grown_widths) or plan.io_dims
    student, most = held(lambda: fxgrow.apply(plan, teacher))
    tensors = student.state_dict().values()
    beyond = most - sum(t.numel() * t.element_size() for t in tensors)
    assert beyond < max(t.numel() * t.element_size() for t in teacher.state_dict().values()) / 4  # before: over once
