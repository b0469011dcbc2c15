"""Names in a request mean what a user means by them: layers, containers, parts of a kind, and widths as printed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.base.rng import named_generator
from fxgrow.drawing.html import data_of
from fxgrow.infer.groups import can_grow
from fxgrow.infer.names import part_name
from fxgrow.infer.renamed import in_names_of, renamed
from fxgrow.infer.width_graph import WidthGraph
from tests.check import assert_exact, randomise
from tests.nets import NETS

Grown = Mapping[str, tuple[int, ...]]
OUTPUTS: tuple[Literal["graph", "module"], ...] = ("graph", "module")
PRINTED = (
    "embedding",
    "grouped_after_grouped",
    "depthwise2d_multiplier2",
    "pixel_shuffles",
    "embedding_bag_mean",
    "recurrent_lstm",
    "groupnorm_2_of_8",
    "residual_loop",
    "tied_embedding",
    "halves_by_split_size",
    "shuffle_chain",
    "doubled_by_cat_of_itself",
    "vit_qkv_head_dim",
    "vit_multihead_attention",
    "reduced_attention",
)
TOKENS = (2, 5)


class Encoder(nn.Module):
    """A container with a position table of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 6, 8))
        self.one, self.two = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.place
        y: Tensor = self.two(torch.tanh(self.one(x)))
        return x + y


class Tokens(nn.Module):
    """A class token before the tokens, and a container with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.stem, self.encoder, self.head = nn.Linear(3, 8), Encoder(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.stem(x)], 1)
        return self.head(self.encoder(x))


class Attention(nn.Module):
    """Heads of `channels // heads` numbers, as most code spells them."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = 2, nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        batch, tokens, channels = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(mixed.reshape(batch, tokens, channels))


class SplitAttention(nn.Module):
    """Queries, keys and values of `width` channels, which is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width, self.qkv, self.proj = 2, 8, nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        batch, tokens, channels = x.shape
        cut = [
            part.view(batch, tokens, self.heads, channels // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(self.width, dim=2)
        ]
        mixed = F.scaled_dot_product_attention(*cut).transpose(1, 2).contiguous()
        return self.proj(mixed.view(batch, tokens, channels))


class Mlp(nn.Module):
    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, hidden), nn.Linear(hidden, 8)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(torch.tanh(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attn, self.mlp = nn.LayerNorm(8), nn.LayerNorm(8), attention, Mlp()

    def forward(self, x: Tensor) -> Any:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Two blocks behind an embedding with a position table."""

    def __init__(self, attention: Callable[[], nn.Module] = Attention) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(10, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.blocks, self.head = nn.Sequential(Block(attention()), Block(attention())), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Any:
        return self.head(self.blocks(self.embed(tokens) + self.place))


class Recurrent(nn.Module):
    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(10, 6), rnn
        self.head = nn.Linear((rnn.proj_size or rnn.hidden_size) * (1 + rnn.bidirectional), 4)

    def forward(self, tokens: Tensor) -> Any:
        return self.head(self.rnn(self.embed(tokens))[0])


class Cell(nn.Module):
    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        state = self.cell(x)
        return self.head(state[0] if isinstance(state, tuple) else state)


def _around_attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
    return nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 2))


class Decoder(nn.Module):
    """Attention to other tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(3, 8), nn.Linear(4, 8)
        self.layer, self.head = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.head(self.layer(self.write(y), self.read(x)))


def assert_grows(make: Callable[[], nn.Module], spec: fxgrow.Spec, inputs: tuple[Tensor, ...], grown: Grown) -> None:
    """Assert that a request gives exact students in which some parameters have other shapes."""
    for output in OUTPUTS:
        torch.manual_seed(0)
        teacher = randomise(make().double())
        student = fxgrow.grow(teacher, spec, inputs, output=output)
        assert {name: tuple(student.get_parameter(name).shape) for name in grown} == dict(grown), output
        assert_exact(teacher, student, inputs, 1e-10)


def _tokens(*shape: int) -> tuple[Tensor]:
    return (torch.randint(0, 10, shape, generator=torch.Generator().manual_seed(0)),)


def _numbers(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


# -- layers with a size of their own ------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{"0": 16}, {"0": 2.0}, {"0.weight": 16}, [fxgrow.Widen("0", 2.0)], {"0 #2": 16}])
def test_an_embedding_means_its_vectors(spec: fxgrow.Spec) -> None:
    assert_grows(
        lambda: nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4)), spec, _tokens(3, 6), {"0.weight": (10, 16)}
    )


def test_a_bag_of_embeddings_means_its_vectors() -> None:
    assert_grows(
        lambda: nn.Sequential(nn.EmbeddingBag(10, 8), nn.Linear(8, 4)), {"0": 11}, _tokens(3, 6), {"0.weight": (10, 11)}
    )


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}])
def test_a_recurrent_layer_means_its_hidden_state(kind: type[nn.RNNBase], options: dict[str, Any]) -> None:
    def make() -> nn.Module:
        return Recurrent(kind(6, 12, batch_first=True, **options))

    rows = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
    for spec in ({"rnn": 24}, {"rnn": 2.0}, {"r?n": 24}):
        assert_grows(make, spec, _tokens(*TOKENS), {"rnn.weight_hh_l0": (24 * rows, 24)})


def test_a_recurrent_layer_with_a_projection_means_its_hidden_state() -> None:
    def make() -> nn.Module:
        return Recurrent(nn.LSTM(6, 12, batch_first=True, proj_size=5))

    assert_grows(make, {"rnn": 20}, _tokens(*TOKENS), {"rnn.weight_hh_l0": (80, 5), "rnn.weight_hr_l0": (5, 20)})


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_recurrent_cell_means_its_hidden_state(kind: type[nn.RNNCellBase]) -> None:
    rows = {nn.RNNCell: 1, nn.GRUCell: 3, nn.LSTMCell: 4}[kind]
    assert_grows(lambda: Cell(kind(6, 12)), {"cell": 18}, _numbers((2, 6)), {"cell.weight_hh": (18 * rows, 18)})  # type: ignore[call-arg]


@pytest.mark.parametrize("spec", [{"1.layers.0.self_attn": 16}, {"1.layers.*.self_attn": 16}, {"*self_attn": 2.0}])
def test_an_attention_means_its_embedding(spec: fxgrow.Spec) -> None:
    shapes = {"0.weight": (16, 3), "1.layers.0.self_attn.in_proj_weight": (48, 16)}
    assert_grows(_around_attention, spec, _numbers((2, 5, 3)), shapes)


def test_an_attention_to_other_tokens_means_its_embedding() -> None:
    shapes = {"write.weight": (16, 4), "layer.multihead_attn.in_proj_weight": (48, 16)}
    assert_grows(Decoder, {"layer.multihead_attn": 16}, _numbers((2, 5, 3), (2, 4, 4)), shapes)


# -- what code ties to a width ------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{"0": 16}, {"0": 2.0}])
def test_the_layer_before_an_attention_takes_the_heads_along(spec: fxgrow.Spec) -> None:
    shapes = {"0.weight": (16, 3), "1.layers.1.self_attn.in_proj_weight": (48, 16)}
    assert_grows(_around_attention, spec, _numbers((2, 5, 3)), shapes)


@pytest.mark.parametrize("attention", [Attention, SplitAttention])
@pytest.mark.parametrize("name", ["embed", "place", "blocks.0.norm1", "blocks.1.attn.proj"])
def test_any_layer_of_a_width_takes_the_heads_along(attention: type[nn.Module], name: str) -> None:
    shapes = {"embed.weight": (10, 16), "blocks.0.attn.qkv.weight": (48, 16), "blocks.1.mlp.fc1.weight": (12, 16)}
    assert_grows(lambda: Transformer(attention), {name: 16}, _tokens(*TOKENS), shapes)


@pytest.mark.parametrize("attention", [Attention, SplitAttention])
@pytest.mark.parametrize("pattern", ["*qkv*", "*.qkv.weight", "*qkv", "*attn*", "blocks.0.attn.qkv", "blocks.1.attn"])
def test_the_heads_of_a_layer_take_along_the_width_of_which_code_makes_them(
    attention: type[nn.Module], pattern: str
) -> None:
    shapes = {"embed.weight": (10, 16), "blocks.0.attn.qkv.weight": (48, 16), "blocks.1.attn.qkv.weight": (48, 16)}
    assert_grows(lambda: Transformer(attention), {pattern: 2.0}, _tokens(*TOKENS), shapes)
    for output in OUTPUTS:
        plan = fxgrow.plan(fxgrow.widths(Transformer(attention), _tokens(*TOKENS), output=output), {pattern: 2.0})
        along = "heads of blocks.0.attn" if pattern == "blocks.1.attn" else "embed grows to 16"  # what nobody named
        assert any(along in note and " with " in note for note in plan.notes), plan.notes


def test_what_is_taken_along_is_said() -> None:
    plan = fxgrow.plan(fxgrow.widths(_around_attention(), torch.randn(2, 5, 3)), {"0": 16})
    assert any(
        note.startswith("num_heads of 1.layers.0.self_attn grows to 4 with 0: the model's code states a size")
        for note in plan.notes
    )


# -- containers ---------------------------------------------------------------------------------------


def test_a_container_with_its_own_parameter_means_all_in_it() -> None:
    shapes = {"encoder.place": (1, 6, 16), "encoder.one.weight": (24, 16), "stem.weight": (16, 3)}
    assert_grows(Tokens, {"encoder": 2.0}, _numbers((2, 5, 3)), shapes)


@pytest.mark.parametrize("spec", [{"cls_token": 2.0}, {"cls_token": 16}, {"encoder.place": 16}, {"cls_token #3": 16}])
def test_a_token_or_a_position_table_means_its_channels(spec: fxgrow.Spec) -> None:
    assert_grows(Tokens, spec, _numbers((2, 5, 3)), {"cls_token": (1, 1, 16), "encoder.one.weight": (12, 16)})


def test_a_container_means_the_embeddings_in_it() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 6)), nn.Linear(6, 4))

    assert_grows(make, {"0": 2.0}, _tokens(*TOKENS), {"0.0.weight": (10, 16), "0.1.weight": (12, 16)})


# -- parts of a kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["*mlp*", "*.mlp", "*.mlp.*", "blocks.?.mlp"])
def test_a_glob_over_modules_means_the_widths_inside(pattern: str) -> None:
    shapes = {"blocks.0.mlp.fc1.weight": (18, 8), "blocks.1.mlp.fc2.weight": (8, 18), "embed.weight": (10, 8)}
    assert_grows(Transformer, {pattern: 1.5}, _tokens(*TOKENS), shapes)
    plan = fxgrow.plan(fxgrow.widths(Transformer(), _tokens(*TOKENS)), {pattern: 1.5})
    (left,) = plan.skipped
    assert left.name == "embed", "by which name it can be asked for"
    assert "place, embed, blocks.0.attn.proj and 1 more make this one, too" in left.reason


def test_a_number_of_channels_for_a_glob_means_the_widths_inside() -> None:
    shapes = {"blocks.0.mlp.fc1.weight": (16, 8), "blocks.1.mlp.fc2.weight": (8, 16)}
    assert_grows(Transformer, {"*mlp*": 16}, _tokens(*TOKENS), shapes)


def test_modules_that_only_hand_on_a_width_mean_it() -> None:
    shapes = {"blocks.0.mlp.fc1.weight": (12, 16), "embed.weight": (10, 16)}
    assert_grows(Transformer, {"blocks.*.mlp.fc2": 2.0}, _tokens(*TOKENS), shapes)


@pytest.mark.parametrize("pattern", ["blocks", "blocks.*", "*blocks*", "*"])
def test_a_stage_means_the_width_that_its_blocks_make_and_read(pattern: str) -> None:
    shapes = {"blocks.0.mlp.fc1.weight": (24, 16), "embed.weight": (10, 16)}
    assert_grows(Transformer, {pattern: 2.0}, _tokens(*TOKENS), shapes)


# -- widths as they are printed -----------------------------------------------------------------------


@functools.cache
def _found(name: str) -> WidthGraph:
    net = NETS[name]
    return fxgrow.widths(net.make().eval(), net.inputs())


@pytest.mark.parametrize("name", PRINTED)
def test_every_width_that_is_printed_can_be_asked_for(name: str) -> None:
    widths = _found(name)
    free = [group for group in widths.groups if can_grow(group)]
    assert free
    for group in free:
        for width in (2 * group.size, 2.0):
            plan = fxgrow.plan(widths, {group.name: width})
            new = {grown.name: grown.new for grown in plan.grown_widths}
            assert new[group.name] == 2 * group.size
            for other in new.keys() - {group.name} - group.ratio:
                assert any(note.startswith(f"{other} grows to ") for note in plan.notes), (group.name, other)


@pytest.mark.parametrize("name", PRINTED)
def test_every_name_that_is_printed_is_known(name: str) -> None:
    widths = _found(name)
    plan = fxgrow.plan(widths, 2.0)
    for printed in [*(group.name for group in widths.groups), *(entry.name for entry in plan.skipped)]:
        assert "matches no" not in _refusal(widths, printed)


def _refusal(widths: WidthGraph, name: str) -> str:
    try:
        fxgrow.plan(widths, {name: 2.0})
    except fxgrow.PlanError as error:
        return str(error)
    return ""


def test_what_a_layer_reads_can_be_asked_for() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2))

    plan = fxgrow.plan(fxgrow.widths(make(), torch.randn(2, 3, 6, 6)), {"input of 3": 16})
    assert [(width.name, width.new) for width in plan.grown_widths] == [("2", 16)]
    with pytest.raises(fxgrow.PlanError, match=r"'input of 0' cannot be widened: .*Inputs"):
        fxgrow.plan(fxgrow.widths(make(), torch.randn(2, 3, 6, 6)), {"input of 0": 8})


def test_widths_can_be_left_out_by_their_names() -> None:
    widths = fxgrow.widths(nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 6), nn.Linear(6, 4)), _tokens(*TOKENS))
    plan = fxgrow.plan(widths, fxgrow.Widen("*", 2.0, exclude=("0 #2",)))
    assert [width.name for width in plan.grown_widths] == ["1"]


def test_groups_of_a_convolution_can_be_asked_for_by_their_name() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))

    (name,) = [g.name for g in fxgrow.widths(make(), torch.randn(2, 3, 5, 5)).groups if g.count]
    assert_grows(make, {name: 4}, _numbers((2, 3, 5, 5)), {"1.weight": (16, 4, 3, 3)})


def test_a_width_with_another_name_is_close() -> None:
    widths = fxgrow.widths(nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4)), _tokens(*TOKENS))
    with pytest.raises(fxgrow.PlanError, match=r"'rows of O' matches no layer or parameter; close: rows of 0"):
        fxgrow.plan(widths, {"rows of O": 2.0})


# -- what widths are called ---------------------------------------------------------------------------


def _named(widths: WidthGraph) -> dict[str, int]:
    return {group.name: group.size for group in widths.groups}


def test_widths_of_a_transformer_have_names_that_a_person_gives_them() -> None:
    names = _named(fxgrow.widths(Transformer(), _tokens(*TOKENS)))
    expected = {"embed": 8, "rows of embed": 10, "heads of blocks.0.attn.qkv": 2, "blocks.1.attn.qkv per head": 4}
    assert expected.items() <= names.items()
    assert {"blocks.0.mlp.fc1": 12, "head": 3}.items() <= names.items()


def test_the_stream_is_named_after_the_layer_that_makes_it_and_not_after_a_token() -> None:
    names = _named(fxgrow.widths(Tokens(), _numbers((2, 5, 3))[0].float()))
    assert names["stem"] == 8
    assert not any(name.startswith("cls_token #") for name in names)


@pytest.mark.parametrize(
    ("place", "size", "name"),
    [
        ("attn.qkv.weight[1][8:][:4]", 4, "attn.qkv[8:12]"),
        ("attn.qkv.weight[0][4:][4:]", 8, "attn.qkv[8:16]"),
        ("c_attn.weight[1][:8]", 8, "c_attn[0:8]"),
        ("qkv[:3]", 3, ""),
        ("pos_embed[1]", 7, ""),
        ("conv.weight[2]", 3, ""),
    ],
)
def test_parts_of_a_layer_are_named_by_their_channels(place: str, size: int, name: str) -> None:
    assert part_name(place, size) == name


FORMER = {
    "tokens": (Tokens, ((2, 5, 3),), {"cls_token #3": "stem"}),
    "transformer": (
        Transformer,
        None,
        {"place #3": "embed", "groups of reshape at blocks.0.attn #2": "heads of blocks.0.attn.qkv"},
    ),
    "attention": (_around_attention, ((2, 5, 3),), {"groups of 1": "num_heads of 1.layers.0.self_attn"}),
}


@pytest.mark.parametrize("what", FORMER)
def test_the_names_that_earlier_versions_printed_mean_the_same(what: str) -> None:
    make, shapes, names = FORMER[what]
    inputs = _tokens(*TOKENS) if shapes is None else tuple(x.float() for x in _numbers(*shapes))
    widths = fxgrow.widths(make(), inputs)
    for former, name in names.items():
        assert widths.named(former) == name
        assert widths.width(former) == widths.width(name)
        assert widths.state(former) == widths.state(name)
        assert widths.why(former) == widths.why(name)
        plans = [fxgrow.plan(widths, {one: 2.0}) for one in (former, name)]
        assert plans[0].tensors == plans[1].tensors
        assert plans[0].groups == plans[1].groups
        assert any(width.name == name for width in plans[0].grown_widths)
        assert data_of(fxgrow.draw(widths, data={former: 1.0}).page)["data"]["values"] == {name: 1.0}
    every = {group.former: group.name for group in widths.groups if group.former}
    assert names.items() <= every.items()
    for former in every:
        assert "matches no" not in _refusal(widths, former)


def test_new_channels_are_drawn_as_under_the_former_name() -> None:
    free = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    (grown,) = fxgrow.plan(fxgrow.widths(free, _tokens(3, 6)), {"0": 13}, seed=3).grown_widths
    start = int(torch.randint(8, (), generator=named_generator(3, "0 #2")))
    assert grown.copies == tuple((start + i) % 8 for i in range(5))


def test_a_plan_of_an_earlier_version_is_read_in_the_names_of_this_one() -> None:
    torch.manual_seed(0)
    teacher, inputs = randomise(Transformer().double()), _tokens(*TOKENS)
    widths = fxgrow.widths(teacher, inputs)
    plan = fxgrow.plan(widths, {"*mlp*": 1.5, "embed": 2.0})
    formerly = {group.name: group.former or group.name for group in widths.groups_by_name.values()}
    older = fxgrow.Plan.from_json(renamed(plan, formerly).to_json())
    assert {width.name for width in older.grown_widths} != {width.name for width in plan.grown_widths}
    assert in_names_of(widths, older).groups == plan.groups
    student = fxgrow.apply(older, teacher, inputs)
    assert_exact(teacher, student, inputs, 1e-10)
    report = fxgrow.verify(teacher, student, inputs)
    assert len(report.nodes) == len(fxgrow.verify(teacher, fxgrow.apply(plan, teacher, inputs), inputs).nodes) > 20
    assert fxgrow.summary(older, teacher=widths).rows == fxgrow.summary(plan, teacher=widths).rows
    pages = [fxgrow.draw((widths, one)).page for one in (older, plan)]
    assert data_of(pages[0])["changes"] == data_of(pages[1])["changes"]
    assert data_of(pages[0])["title"] == data_of(pages[1])["title"]
