"""Every form of a specification, and what is refused with which words."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import Widen
from fxgrow.spec.parse import parse, to_json
from fxgrow.spec.patterns import match
from tests.nets import NETS

RESNET = NETS["res_net"]


def _plan(spec: object, name: str = "res_net", **options: object) -> fxgrow.Plan:
    net = NETS[name]
    return fxgrow.plan(fxgrow.widths(net.make(), net.inputs()), spec, **options)


def _grown(spec: object, name: str = "res_net", **options: object) -> dict[str, int]:
    return {w.name: w.new for w in _plan(spec, name, **options).grown_widths}


@pytest.mark.parametrize(
    "spec",
    [
        {"layer2.*": 1.5},
        Widen("layer2.*", 1.5),
        [Widen("layer2.*", 1.5)],
        [{"layer2.*": 1.5}],
        {"layer2.*": {"width": 1.5}},
        {"pattern": "layer2.*", "width": 1.5},
        '{"layer2.*": 1.5}',
        json.dumps(to_json(parse({"layer2.*": 1.5}))),
        {"layer2": 1.5},
        {"layer2.0": 1.5, "layer2.1": 1.5},
    ],
    ids=repr,
)
def test_forms_of_one_request(spec: object) -> None:
    assert _grown(spec) == {"layer2.0.conv1": 12, "layer2.0.conv2": 12, "layer2.1.conv1": 12}


def test_a_number_means_every_width_that_can_grow() -> None:
    grown = _grown(2.0)
    assert grown == _grown("2.0") == _grown([2.0]) == _grown(np.float32(2.0))
    assert grown["conv1"] == 12
    assert grown["layer2.1.conv1"] == 16


def test_an_int_is_a_width_and_a_float_a_factor() -> None:
    for seven in (7, np.int64(7)):
        assert _grown({"conv1": seven}) == _grown(Widen("conv1", seven)) == {"conv1": 7}
    for seven in (7.0, np.float64(7)):
        assert _grown({"conv1": seven}) == _grown(Widen("conv1", seven)) == {"conv1": 42}
    assert _grown('{"conv1": 7}') == {"conv1": 7}
    assert _grown('{"conv1": 7.0}') == {"conv1": 42}


@pytest.mark.parametrize("spec", [2, np.int64(2), [2], "2", "[2]", [{"conv1": 12}, 2]], ids=repr)
def test_an_int_without_a_layer_is_refused_with_the_factor_to_write(spec: object) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"write 2\.0$"):
        _plan(spec)


@pytest.mark.parametrize("spec", [Widen("*", 2), {"*": 2}, {"conv1": 2}, '{"conv1": 2}'], ids=repr)
def test_an_int_that_was_meant_as_a_factor_is_refused_with_it(spec: object) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"write 2\.0$"):
        _plan(spec)


def test_numbers_of_numpy_are_kept_as_those_of_python() -> None:
    three = np.int64(3)
    requests = [
        Widen("a", three, multiple_of=three), fxgrow.Kernel("a", [three, 5]), fxgrow.Deepen("a", blocks=three),
        fxgrow.Inputs("x", three), fxgrow.Outputs(three), fxgrow.Deepen("a", kernel=three),
    ]  # fmt: skip
    assert parse(json.loads(json.dumps(to_json(requests)))) == tuple(requests)
    assert _plan({"conv1": 7}, seed=three) == _plan({"conv1": 7}, seed=3)


def test_parameter_names_mean_their_layer() -> None:
    assert _grown({"layer1.0.conv1.weight": 9}) == _grown({"layer1.0.conv1": 9}) == {"layer1.0.conv1": 9}


def test_a_batch_norm_means_the_width_that_it_normalises() -> None:
    assert _grown({"layer1.0.bn1": 9}) == {"layer1.0.conv1": 9}


def test_requests_by_name_override_the_blanket_and_exclude_takes_out() -> None:
    grown = _grown([1.5, Widen("layer1.0.conv1", 2.0)])
    assert (grown["layer1.0.conv1"], grown["conv1"]) == (12, 9)
    assert _grown(Widen("*", 1.5, exclude=("layer2", "conv1"))) == {"layer1.0.conv1": 9, "layer1.1.conv1": 9}
    assert _grown(Widen("layer1.*", 1.5, exclude="*.conv2")) == {"layer1.0.conv1": 9, "layer1.1.conv1": 9}


def test_two_factors_for_everything_are_an_error_unless_the_first_leaves_something() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"1.5 and 2.0 are both asked for everything"):
        fxgrow.grow(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), [1.5, {"*": 2.0}])
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2))
    student = fxgrow.grow(net, [Widen("*", 1.5, exclude="0"), 2.0])
    assert [student.get_parameter(name).shape[0] for name in ("0.weight", "1.weight")] == [16, 9]


def test_multiple_of_rounds_up() -> None:
    assert _grown(Widen("layer2.0.conv1", 1.1, multiple_of=8)) == {"layer2.0.conv1": 16}
    assert _grown(Widen("layer2.0.conv1", 1.5, multiple_of=5)) == {"layer2.0.conv1": 15}


def test_what_shares_a_width_may_be_asked_for_twice_alike() -> None:
    assert _grown({"layer1.0.conv2": 9, "layer1.1.conv2": 1.5}) == {"conv1": 9}


def test_two_requests_that_meet_are_an_error_with_both_names_and_the_op() -> None:
    with pytest.raises(fxgrow.PlanError) as error:
        _plan({"layer2.0.conv2": 12, "layer2.1.conv2": 16})
    for part in ("'layer2.0.conv2'", "'layer2.1.conv2'", "12", "16", "add at layer2.1"):
        assert part in str(error.value)


def test_no_match_is_an_error_with_close_names() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"'layer3\.0\.conv1' matches no .* close: layer[12]\.0\.conv1"):
        _plan({"layer3.0.conv1": 2.0})
    with pytest.raises(fxgrow.PlanError, match="layer1"):
        match("layr1", ["layer1.conv.weight", "fc.weight"])


def test_a_request_for_what_must_stay_is_an_error_with_the_reason() -> None:
    for spec in ({"fc": 8}, {"fc": 2.0}, {"fc*": 2.0}, {"fc.weight": 8}):
        with pytest.raises(fxgrow.PlanError, match=r"fc.*it is an output of the model"):
            _plan(spec)


def test_under_a_blanket_what_must_stay_is_listed() -> None:
    left = {entry.name: entry.reason for entry in _plan(2.0).skipped}
    assert left["fc"] == "it is an output of the model"
    assert "conv1" not in left


@pytest.mark.parametrize(
    "spec", [{"layer1.0.conv1": 3}, {"layer1.0.conv1": 0.5}, {"layer1.0.conv1": 0}, -2.0, {"conv1": -1}]
)
def test_shrinking_is_refused(spec: object) -> None:
    with pytest.raises(fxgrow.PlanError):
        _plan(spec)


@pytest.mark.parametrize(
    "spec",
    [None, True, np.bool_(1), "true", '{"conv1": true}', {}, [], "conv1", {"conv1": "wide"}, {"conv1": True}, {"": 2.0},
     {"conv1": {"width": 2.0, "colour": 1}}, {"conv1": float("nan")}, {"conv1": {"width": 2.0, "multiple_of": 0}},
     {"conv1": {"width": 2.0, "indivisible": "?"}}],
    ids=repr,
)  # fmt: skip
def test_nonsense_is_refused(spec: object) -> None:
    with pytest.raises(fxgrow.PlanError):
        _plan(spec)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


@pytest.mark.parametrize(
    ("spec", "shapes", "groups"),
    [
        ({"b": 1.5}, ((8, 3, 1, 1), (20, 2, 3, 3)), 4),  # 3 channels a group become 4.5, so 5
        ({"b": 24}, ((8, 3, 1, 1), (24, 2, 3, 3)), 4),
        ({"a": 12}, ((12, 3, 1, 1), (12, 3, 3, 3)), 4),
        (Widen("b", 1.5, cardinality=True), ((12, 3, 1, 1), (18, 2, 3, 3)), 6),
        (Widen("*", 2.0, cardinality=True), ((16, 3, 1, 1), (24, 2, 3, 3)), 8),
    ],
    ids=repr,
)
def test_grouped_convolution_grows_inside_its_groups_or_by_groups(spec: object, shapes: tuple, groups: int) -> None:
    torch.manual_seed(0)
    teacher, x = Grouped().double(), torch.randn(2, 3, 6, 5, dtype=torch.float64)
    student = fxgrow.grow(teacher, spec, x)
    conv = student.get_submodule("b")
    assert (tuple(student.get_parameter("a.weight").shape), tuple(conv.weight.shape)) == shapes
    assert (conv.groups, conv.in_channels, conv.out_channels) == (groups, shapes[0][0], shapes[1][0])
    assert fxgrow.verify(teacher, student, x).errors["eval"] < 1e-12


def test_a_width_that_groups_cannot_make_is_an_error_with_those_that_they_can() -> None:
    with pytest.raises(fxgrow.PlanError, match="possible: 12 or 16"):
        fxgrow.grow(Grouped(), {"b": 14})


def _normed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def test_a_layer_norm_rounds_up_to_whole_multiples_and_says_so() -> None:
    plan = fxgrow.grow(_normed(), 1.5).meta["fxgrow"]
    assert {w.name: w.new for w in plan.grown_widths} == {"0": 12, "2": 12}
    assert any("only whole multiples of 6 are exact" in note for note in plan.notes)


def test_or_is_left_where_the_spec_says_so() -> None:
    plan = fxgrow.grow(_normed(), Widen("*", 1.5, indivisible="leave")).meta["fxgrow"]
    assert {w.name: w.new for w in plan.grown_widths} == {"2": 12}
    assert {entry.name: entry.reason for entry in plan.skipped}["0"].startswith("only whole multiples of 6")


def test_what_is_averaged_together_grows_by_one_factor() -> None:
    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 5)
            self.norm, self.c = nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(torch.cat([self.a(x), self.b(x)], -1)))

    torch.manual_seed(0)
    teacher, x = Joint().double(), torch.randn(3, 4, dtype=torch.float64)
    student = fxgrow.grow(teacher, {"a": 6}, x)
    assert {w.name: w.new for w in student.meta["fxgrow"].grown_widths} == {"a": 6, "b": 10}
    assert any("b grows to 10 with a" in note for note in student.meta["fxgrow"].notes)
    assert fxgrow.verify(teacher, student, x).exact


def test_why_names_the_chain_or_the_reason() -> None:
    found = fxgrow.widths(RESNET.make(), RESNET.inputs())
    chain = found.why("layer2.0.conv2", "layer2.1.conv2")
    assert "share one width" in chain
    assert "add at layer2.1" in chain
    assert "nothing ties" in found.why("layer1.0.conv1", "layer2.0.conv1")
    assert "must stay: it is an output of the model" in found.why("fc")
    assert "can grow to any width" in found.why("layer1.0.conv1")
    with pytest.raises(fxgrow.WidthError, match=r"close: .*layer1\.0\.conv1"):
        found.why("layer1.0.conv7")


def test_why_tells_of_every_dimension_and_takes_globs() -> None:
    found = fxgrow.widths(RESNET.make(), RESNET.inputs())
    own, *others = found.why("layer2.0.conv1").splitlines()
    assert own == "layer2.0.conv1 (8) can grow to any width"
    assert others == ["layer2.0.conv1.weight[1]: conv1 (6) can grow to any width"]
    every = found.why("layer2.*.conv?").splitlines()
    assert every[:2] == [own, *others]
    assert any(line.startswith("layer2.1.conv1 (8)") for line in every)
    assert "share one width" in found.why("layer2.0.conv2", "layer2.1.*")
    assert found.why("*.bn1.bias").splitlines()
    with pytest.raises(fxgrow.WidthError, match=r"layer7\.\*"):
        found.why("layer7.*")


def test_tables_can_be_read() -> None:
    net = NETS["res_net"]
    teacher, inputs = net.make(), net.inputs()
    found = fxgrow.widths(teacher, inputs)
    plan = fxgrow.plan(found, 2.0)
    report = fxgrow.verify(teacher, fxgrow.apply(plan, teacher), inputs)
    for shown, parts in (
        (found, ("layer1.0.conv1", "can it grow?", "it is an output of the model")),
        (plan, ("layer1.0.conv1", "same function", "left as it is")),
        (report, ("error in eval mode", "parameters", "FLOPs", "left as it is")),
    ):
        for part in parts:
            assert "".join(part.split()) in "".join(str(shown).split()) or part in shown.to_text(200)
            assert part in shown._repr_html_()
        assert len(str(shown).splitlines()) < 60


def test_groups_of_a_transposed_convolution_grow_inside_only() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, groups=4), nn.Conv2d(12, 5, 1)).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for spec in (2.0, Widen("*", 2.0, cardinality=True), Widen("1", 1.5, cardinality=True)):
        student = fxgrow.grow(teacher, spec, x)
        assert student.get_submodule("1").groups == 4
        assert student.meta["fxgrow"].grown_widths
        assert fxgrow.verify(teacher, student, x).exact


NOTHING_GROWS = nn.Sequential(nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 2))


@pytest.mark.parametrize("output", ["graph", "module"])
@pytest.mark.parametrize("spec", [1.5, {"*": 2.0}, [Widen("*", 1.5)]], ids=repr)
def test_a_factor_that_lets_nothing_grow_is_refused_with_the_reasons(spec: object, output: str) -> None:
    reasons = "0: _softmax: softmax over channels counts them; .*2: it is an output of the model"
    with pytest.raises(fxgrow.PlanError, match=f"nothing of Sequential would grow: {reasons}"):
        fxgrow.grow(NOTHING_GROWS, spec, torch.randn(2, 4), output=output)


@pytest.mark.parametrize("spec", [1.01, {"0": 1.01}], ids=repr)
def test_a_factor_that_rounds_to_the_present_width_is_refused(spec: object) -> None:
    with pytest.raises(fxgrow.PlanError, match="nothing of Sequential would grow"):
        fxgrow.grow(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), spec, torch.randn(2, 4))


@pytest.mark.parametrize("spec", [1.0, {"*": 1.0}, {"0": 6}], ids=repr)
def test_a_factor_of_one_and_the_present_width_give_a_student_of_the_same_size(spec: object) -> None:
    teacher, x = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), torch.randn(2, 4)
    student = fxgrow.grow(teacher, spec, x)
    assert not fxgrow.plan_of(student).grown_widths
    assert torch.equal(student(x), teacher(x))


def test_a_factor_that_lets_nothing_grow_beside_a_new_layer_is_none_without_effect() -> None:
    student = fxgrow.grow(NOTHING_GROWS, [1.5, fxgrow.Deepen("0")], torch.randn(2, 4))
    assert len(fxgrow.plan_of(student).changes) == 1
