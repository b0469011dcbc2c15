"""What users read when something cannot be done: short, and with the way on."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.base.wording import first_of
from fxgrow.model.example_inputs import ModelInputs, brief
from tests.nets import NETS


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.mark.parametrize("width", [1e9, 10**9, float("inf")])
def test_a_width_that_is_too_large_is_not_called_too_small(width: float) -> None:
    with pytest.raises(fxgrow.PlanError, match="too large"):
        fxgrow.Widen("0", width)


@pytest.mark.parametrize("width", [0, -1, 0.5, float("nan")])
def test_a_width_that_is_too_small_is_not_called_too_large(width: float) -> None:
    with pytest.raises(fxgrow.PlanError, match="would not grow anything"):
        fxgrow.Widen("0", width)


def test_a_module_without_parameters_is_found_and_its_neighbours_are_named() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"'1' has no parameters.*: 0, 2$"):
        fxgrow.grow(_net(), {"1": 2.0})
    with pytest.raises(fxgrow.PlanError, match="'9' matches no layer or parameter"):
        fxgrow.grow(_net(), {"9": 2.0})


def test_long_lists_are_shortened_in_one_way() -> None:
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of("abcde", 2) == "a, b and 3 more"
    assert first_of(["a: one", "b: two", "c: three"], 2, "; ") == "a: one; b: two; and 1 more"
    assert first_of([], 2) == ""


def test_long_values_are_shortened() -> None:
    mask = torch.zeros(50, 50, dtype=torch.bool)
    assert brief([mask, 1.5, "a"]) == "[bool[50, 50], 1.5, 'a']"
    assert len(brief(list(range(1000)))) < 80
    assert len(brief("long" * 1000)) < 100
    assert str(ModelInputs((mask.float(),), {"k": slice(1, 2)})) == "float[50, 50], k=slice(1, 2, None)"


def test_a_guard_compares_sequences_and_shows_no_more_than_their_beginning() -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor, keep: list[int]) -> Tensor:
            return self.b(torch.tanh(self.a(x)))[list(keep)]

    student = fxgrow.grow(Picks(), 2.0, (torch.randn(200, 4), tuple(range(200))))
    with pytest.raises(fxgrow.GrowError) as error:
        student(torch.randn(200, 4), tuple(range(1, 200)))  # would be given the rows of the example
    assert len(str(error.value)) < 400


def test_a_number_of_groups_that_stays_is_named_even_where_it_is_one() -> None:
    net = NETS["shuffle_net_v1"]
    plan = fxgrow.plan(fxgrow.widths(net.make(), net.inputs()), 2.0)
    assert {"groups of 2.expand[:1]", "groups of 2.expand[1:]"} <= {entry.name for entry in plan.skipped}


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(3, 6, 3), (2, 3, 8, 8)), (nn.Linear(4, 6), (2, 4)), (nn.Linear(4, 6), (2, 5, 4))]
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_inputs_of_a_kind_that_only_meta_takes_are_refused(
    layer: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, device: str
) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"(?i)long|int64|bool|complex"):
        fxgrow.widths(nn.Sequential(layer, nn.Tanh()), torch.zeros(shape, dtype=dtype, device=device))


def test_verify_says_what_is_wrong_with_what_it_is_given() -> None:
    teacher, x = _net(), torch.randn(3, 4)
    student = fxgrow.grow(teacher, 2.0, x)
    for given, reason in (
        ((teacher, "student", x), "the student is a str"),
        ((None, student, x), "the teacher is a NoneType"),
        ((teacher, student, 3), "is an int"),
        ((teacher, student, torch.randn(3, 5)), r"the teacher does not run on float\[3, 5\] in eval mode"),
        ((teacher, student, {"inputs": x}), "the teacher does not run"),
        ((teacher, nn.Linear(4, 3), x), r"the student gives \(3, 3\) where the teacher gives \(3, 2\)"),
    ):
        with pytest.raises(fxgrow.GrowError, match=reason) as error:
            fxgrow.verify(*given)
        if "does not run" in reason:
            assert error.value.__cause__ is not None


def test_verify_sees_another_structure_of_outputs() -> None:
    class Pair(nn.Module):
        def __init__(self, kind: type) -> None:
            super().__init__()
            self.a, self.kind = nn.Linear(4, 2), kind

        def forward(self, x: Tensor) -> object:
            y = self.a(x)
            return {"y": y, "z": y} if self.kind is dict else self.kind([y, y])

    x = torch.randn(3, 4)
    with pytest.raises(fxgrow.GrowError, match="returns 2 tensors where the teacher returns 1"):
        fxgrow.verify(nn.Linear(4, 2), Pair(tuple), x)
    with pytest.raises(fxgrow.GrowError, match="the student returns a dict where the teacher returns a tuple"):
        fxgrow.verify(Pair(tuple), Pair(dict), x)


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        (lambda n, x: fxgrow.grow(n, 2.0, x, leaf_modules=3), fxgrow.TraceError, "leaf_modules is 3; expected a list"),
        (lambda n, x: fxgrow.trace(n, x, leaf_modules=[3]), fxgrow.TraceError, r"leaf_modules is \[3\]; expected"),
        (lambda n, x: fxgrow.grow(n, 2.0, x, calibration=3), fxgrow.PlanError, "calibration is an int; expected"),
        (lambda n, x: fxgrow.apply(_plan(n), n, calibration=3), fxgrow.PlanError, "calibration is an int; expected"),
        (lambda n, x: fxgrow.apply([], n), fxgrow.PlanError, "an empty list of plans"),
        (lambda n, x: fxgrow.apply([_plan(n), 3], n), fxgrow.PlanError, "a list of plans, not an int"),
        (lambda n, x: _plan(n).then(3), fxgrow.PlanError, "then takes a Plan, not an int"),
        (lambda n, x: _plan(n).width("9"), fxgrow.PlanError, r"no width '9'; it has \['0', "),
        (lambda n, x: _plan(n).width([]), fxgrow.PlanError, r"no width \[\]"),
        (lambda n, x: _plan(n).renumbered(3), fxgrow.PlanError, "renumbered takes the names in a state_dict, not 3"),
        (lambda n, x: fxgrow.verify(n, n, x, tolerance="a"), fxgrow.GrowError, "tolerance is a number .*, not 'a'"),
        (lambda n, x: fxgrow.verify(n, n, x, tolerance=-1.0), fxgrow.GrowError, "tolerance is a number .*, not -1.0"),
        (lambda n, x: fxgrow.verify(n, n, x, tolerance=float("nan")), fxgrow.GrowError, "tolerance is a number .* nan"),
        (lambda n, x: fxgrow.plan_of(3), fxgrow.GrowError, "plan_of takes a student, not an int"),
        (lambda n, x: fxgrow.plan_of(nn.Linear), fxgrow.GrowError, "plan_of takes a student, not a type"),
        (lambda n, x: fxgrow.widths(n, x).why(3), fxgrow.WidthError, "why takes names of layers, not 3"),
        (lambda n, x: fxgrow.widths(n, x).why("0", 3), fxgrow.WidthError, "why takes names of layers, not 3"),
        (lambda n, x: fxgrow.widths(n, x).state("00"), fxgrow.WidthError, "no width group '00'; close: 0"),
        (lambda n, x: fxgrow.widths(n, x).width([]), fxgrow.WidthError, r"no width group \[\]"),
        (lambda n, x: fxgrow.draw(n, 3), fxgrow.DrawError, "path is an int; expected a str or a path"),
        (lambda n, x: fxgrow.draw(n, b"a.svg"), fxgrow.DrawError, "path is a bytes; expected a str or a path"),
        (lambda n, x: fxgrow.summary(3), fxgrow.GrowError, "summary got an int"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named_in_an_error_of_the_package(
    call: Callable[[nn.Module, Tensor], object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        call(_net(), torch.randn(3, 4))


def _plan(net: nn.Module) -> fxgrow.Plan:
    return fxgrow.plan(fxgrow.widths(net), 2.0)


def test_a_tolerance_of_numpy_counts_as_a_number() -> None:
    net, x = _net(), torch.randn(3, 4)
    assert fxgrow.verify(net, net, x, tolerance=np.float32(0.5)).tolerance == 0.5


# -- guards name the argument -------------------------------------------------------------------------


class Optional(nn.Module):
    """Takes another path with labels, and for another kind of reduction."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(
        self, x: Tensor, labels: Tensor | None = None, kind: str = "sum", *, scale: float = 1.0
    ) -> Tensor | tuple[Tensor, Tensor]:
        y = self.b(self.a(x)) * scale
        if labels is None:
            return y
        loss = (y - labels) ** 2
        return y, loss.sum() if kind == "sum" else loss.mean()


@pytest.mark.parametrize(
    ("example", "given", "said"),
    [
        ({}, {"labels": torch.zeros(3, 2)}, "(labels was None and is float[3, 2])"),
        ({"labels": torch.zeros(3, 2)}, {}, "(labels was a tensor of 2 dimensions and is None)"),
        ({"labels": torch.zeros(3, 2)}, {"labels": torch.zeros(2)}, "2 dimensions and is a tensor of 1 dimension)"),
        (
            {"labels": torch.zeros(3, 2)},
            {"labels": torch.zeros(3, 2), "kind": "mean"},
            "(kind was 'sum' and is 'mean')",
        ),
        ({}, {"scale": 2.0}, "(scale was 1.0 and is 2.0)"),
        ({}, {"scale": 2.0, "kind": "mean"}, "(kind was 'sum' and is 'mean', scale was 1.0 and is 2.0)"),
    ],
)
def test_a_guard_names_the_argument(example: dict[str, Tensor], given: dict[str, Tensor], said: str) -> None:
    x = torch.randn(3, 4)
    student = fxgrow.grow(Optional(), 2.0, {"x": x, **example})
    student(x, **example)
    with pytest.raises(fxgrow.GrowError) as error:
        student(x, **given)
    assert said in str(error.value)


def test_a_guard_names_the_argument_that_holds_several_tensors() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor, more: tuple[Tensor, ...] | None = None) -> Tensor:
            y: Tensor = self.b(self.a(x))
            return y if more is None else y + more[0] + more[1]

    two = torch.randn(3, 2)
    student = fxgrow.grow(Pair(), 2.0, (torch.randn(3, 4), (two, two)))
    with pytest.raises(fxgrow.GrowError, match=r"more was \(2, 2\) and is \(2, 1\)"):
        student(torch.randn(3, 4), (two, two[0]))


# -- dtypes, inputs and specifications ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, "float"), (torch.float64, "float64"), (torch.bfloat16, "bfloat16"), (torch.float16, "float16")],
)
def test_a_dtype_is_called_by_its_name(dtype: torch.dtype, name: str) -> None:
    assert brief(torch.zeros(2, 3, dtype=dtype)) == f"{name}[2, 3]"


@pytest.mark.parametrize("shape", [(2, 4), [2, 4], torch.Size([2, 4]), {"input": (2, 4)}, ((2, 4),), ([2, 4],)])
def test_a_shape_instead_of_a_tensor_has_a_hint(shape: fxgrow.ExampleInputs) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"give torch\.randn\(2, 4\)"):
        fxgrow.grow(_net(), 2.0, shape)


@pytest.mark.parametrize("array", [np.zeros((2, 4)), (np.zeros((2, 4)),), {"input": np.zeros((2, 4))}])
def test_an_array_instead_of_a_tensor_has_a_hint(array: fxgrow.ExampleInputs) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"give torch\.from_numpy"):
        fxgrow.grow(_net(), 2.0, array)


def test_a_failure_on_tensors_has_no_hint_about_shapes() -> None:
    with pytest.raises(fxgrow.TraceError) as error:
        fxgrow.grow(_net(), 2.0, torch.randn(2, 5))
    assert "randn" not in str(error.value)


@pytest.mark.parametrize("number", [np.float32(2.0), np.float64(2.0), np.float16(2.0)])
def test_numbers_of_numpy_are_factors(number: float) -> None:
    for spec in (number, {"0": number}, [fxgrow.Widen("0", number)]):
        assert fxgrow.grow(_net(), spec, torch.randn(2, 4)).get_parameter("0.weight").shape[0] == 16


@pytest.mark.parametrize("number", [torch.tensor(2.0), np.array(2.0)])
def test_arrays_of_one_number_have_a_hint(number: float) -> None:
    for spec in (number, {"0": number}):
        with pytest.raises(fxgrow.PlanError, match=r"give its item\(\)"):
            fxgrow.grow(_net(), spec, torch.randn(2, 4))


@pytest.mark.parametrize(
    "spec",
    [
        [{"widen": "0", "width": 2.0}],
        [{"widen": {"0": 2.0}}],
        {"widen": "0"},
        {"Widen": ["0", 2.0]},
        '[{"widen": "0", "factor": 2.0}]',
        {"pattern": "0"},
        {"pattern": "0", "factor": 2.0},
    ],
)
def test_a_request_for_widths_in_the_form_of_others_has_a_hint(spec: fxgrow.Spec) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"to widen a layer, write \{'0': 1\.5\}"):
        fxgrow.grow(_net(), spec, torch.randn(2, 4))


def test_a_layer_may_be_called_widen() -> None:
    net = nn.Sequential()
    net.add_module("widen", nn.Linear(4, 8))
    net.add_module("pattern", nn.Linear(8, 2))
    for spec in ({"widen": 2.0}, {"widen": {"width": 16}}, {"widen": 16}):
        assert fxgrow.grow(net, spec, torch.randn(2, 4)).get_parameter("widen.weight").shape[0] == 16


def test_a_number_in_quotes_has_a_hint() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"without quotes: 2\.0"):
        fxgrow.grow(_net(), {"0": "2.0"}, torch.randn(2, 4))
    with pytest.raises(fxgrow.PlanError, match=r'write \{"0": 2.0\}'):
        fxgrow.grow(_net(), "0=2.0", torch.randn(2, 4))


@pytest.mark.parametrize("spec", [{"4": 20}, {"4": 2.0}, {"4.weight": 20}, {"4": {"width": 20}}])
def test_outputs_have_a_hint_at_their_request(spec: fxgrow.Spec) -> None:
    with pytest.raises(fxgrow.PlanError, match=r"ask for fxgrow\.Outputs\((20|N)\)"):
        fxgrow.grow(_net(), spec, torch.randn(2, 4))


def test_inputs_have_a_hint_at_their_request() -> None:
    with pytest.raises(fxgrow.PlanError, match=r"ask for fxgrow\.Inputs\('input', 8\)"):
        fxgrow.grow(_net(), {"input of 0": 8}, torch.randn(2, 4))


@pytest.mark.parametrize("output", ["graph", "module"])
def test_operators_that_are_given_functions_are_named_with_their_line(output: str) -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(torch.cond(y.sum() > 0, torch.relu, torch.tanh, (y,)))

    with pytest.raises(fxgrow.TraceError, match=r"torch's cond at .*test_messages\.py:\d+ is given functions") as error:
        fxgrow.grow(nn.Sequential(Chooses(), nn.Linear(2, 2)), 2.0, torch.randn(5, 3), output=output)
    assert "torch.where" in str(error.value)
    assert "rule registered" not in str(error.value)


@pytest.mark.parametrize(
    "several", [[(torch.ones(2, 4),), (torch.ones(2, 4), torch.ones(2))], [{"x": torch.ones(2)}] * 3]
)
def test_several_calls_in_the_place_of_one_are_pointed_to_forms(several: list[object]) -> None:
    with pytest.raises(fxgrow.TraceError, match=r"give fxgrow\.Forms"):
        fxgrow.grow(Optional(), 2.0, several)


def test_verify_says_what_to_give_for_a_shape() -> None:
    net = _net()
    with pytest.raises(fxgrow.GrowError, match=r"give torch\.randn\(2, 4\)"):
        fxgrow.verify(net, fxgrow.grow(net, 2.0), (2, 4))


@pytest.mark.parametrize("named", [False, True])
def test_verify_refuses_inputs_without_values(named: bool) -> None:
    """An embedding on the CPU reads memory of no meaning for indices on the meta device."""
    net = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 2))
    ids = torch.zeros(2, 3, dtype=torch.long, device="meta")
    student = fxgrow.grow(net, 2.0, ids)
    with pytest.raises(fxgrow.GrowError, match="on the meta device and have no values"):
        fxgrow.verify(net, student, {"input": ids} if named else ids)
    assert fxgrow.verify(net, student, torch.zeros_like(ids, device="cpu")).exact


def test_inputs_that_forward_does_not_take_are_told_what_it_takes() -> None:
    with pytest.raises(fxgrow.TraceError, match=r"do not match Optional\.forward\(x, labels, kind, scale\): "):
        fxgrow.grow(Optional(), 2.0, {"images": torch.ones(2, 4)})


def test_a_layer_that_fails_on_inputs_of_another_rank_raises_no_warning() -> None:
    """Runs on other numbers of dimensions may fail inside an attention; that is no news for the user."""

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = nn.Embedding(9, 6), nn.GRU(6, 6, batch_first=True)
            self.attn, self.head = nn.MultiheadAttention(6, 3, batch_first=True), nn.Linear(6, 2)

        def forward(self, words: Tensor) -> Tensor:
            hidden, _ = self.rnn(self.embed(words))
            return self.head(hidden + self.attn(hidden, hidden, hidden)[0])

    with warnings.catch_warnings(record=True) as raised:  # as an error it would be taken for the model's own
        warnings.simplefilter("always")
        fxgrow.widths(Attends(), torch.zeros(2, 5, dtype=torch.int64))
    assert not [str(one.message) for one in raised]


def test_what_a_model_warns_of_on_sizes_that_the_user_has_not_given_is_not_shown() -> None:
    class Warns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.ndim != 2 or x.shape[0] not in (3, 5):
                warnings.warn(f"unusual: {tuple(x.shape)}", stacklevel=1)
            hidden = self.a(x)
            return self.b(hidden.reshape(x.shape[0], -1))  # of the user's own code: other batches are tried

    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        fxgrow.grow(Warns(), 2.0, torch.ones(3, 4), output="module")
    assert not [str(one.message) for one in raised]
