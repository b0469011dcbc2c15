"""The sample that runs by default covers every network in some kind of test, and every family in each."""

from __future__ import annotations

import itertools

import pytest

from tests.nets import NETS
from tests.thinned import ARCS, OF_NETS, pairs, runs, thinned

pytest_plugins = ["pytester"]


def test_every_net_is_in_a_kind_of_test_and_every_family_in_each() -> None:
    assert [name for name in NETS if not any(runs(kind, name) for kind in OF_NETS)] == []
    families = {net.build.__module__ for net in NETS.values()}
    for kind in OF_NETS:
        assert {NETS[name].build.__module__ for name in NETS if runs(kind, name)} == families, kind


def test_a_sample_is_about_as_large_as_its_share() -> None:
    for kind in OF_NETS:
        share = sum(runs(kind, name) for name in NETS) / len(NETS)
        assert share == pytest.approx(ARCS[kind][1], abs=0.05), kind


@pytest.mark.parametrize("prefix", ["deeper stages", "decoders"])
def test_kinds_that_share_their_cases_run_each_in_one_of_them(prefix: str) -> None:
    kinds = [kind for kind in ARCS if kind.startswith(prefix)]
    assert sum(ARCS[kind][1] for kind in kinds) == 1
    assert all(sum(runs(kind, str(case)) for kind in kinds) == 1 for case in range(100))


def test_a_kind_without_an_arc_is_an_error() -> None:
    with pytest.raises(KeyError):
        thinned("none such")


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (4, 4), (6, 3), (1, 4), (4, 2)])
def test_pairs_that_run_have_each_entry_of_both_lists(rows: int, columns: int) -> None:
    found = pairs([f"a{i}" for i in range(rows)], {f"b{i}": i for i in range(columns)})
    assert [one.values for one in found] == [*itertools.product((f"a{i}" for i in range(rows)), range(columns))]
    first, second = zip(*(one.values for one in found if not one.marks), strict=True)
    assert (len(set(first)), len(set(second))) == (rows, columns)
    assert len(first) == max(rows, columns)


def test_cases_outside_of_the_sample_are_deselected_unless_they_are_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(
        test_cases="""
        import pytest
        from tests.thinned import OF_NETS, pairs, thinned

        @pytest.mark.parametrize(("a", "b"), pairs("abc", "def"))
        def test_pairs(a, b):
            pass

        @pytest.mark.parametrize("a", "abcdefghi")
        @pytest.mark.parametrize("b", [1, 2])
        @pytest.mark.parametrize(("c", "d"), [("x", 1), ("y", 2), pytest.param("z", 3, id="last")])
        def test_lists(a, b, c, d):
            pass

        @pytest.mark.parametrize("a", "abcd")
        @pytest.mark.parametrize("b", [1, 2])
        @pytest.mark.parametrize("c", "xy")
        def test_two_of_one_length(a, b, c):
            pass

        @pytest.mark.parametrize("a", "abc")
        @pytest.mark.parametrize("b", [1, 2])
        def test_few(a, b):
            pass

        @thinned(OF_NETS[0])
        @pytest.mark.parametrize("name", [f"net{i}" for i in range(100)])
        def test_nets(name):
            pass
        """
    )
    nets = sum(runs(OF_NETS[0], f"net{i}") for i in range(100))
    assert 0 < nets < 100
    options = ["-p", "no:cacheprovider", "-W", "ignore"]
    few = pytester.runpytest(*options, "-v")
    few.assert_outcomes(passed=3 + 9 + 4 + 6 + nets, deselected=6 + 45 + 12 + 100 - nets)
    ran = [line.split("[")[1].split("]")[0] for line in few.outlines if "test_lists" in line]
    first, second, third = (set(entries) for entries in zip(*(case.split("-", 2) for case in ran), strict=True))
    assert (len(first), len(second), len(third)) == (3, 2, 9)
    assert len({case.rsplit("-", 1)[0] for case in ran}) == 6, "entries of the short lists meet in all ways"
    ran = [line.split("[")[1].split("]")[0] for line in few.outlines if "test_two_of_one_length" in line]
    assert [len({*entries}) for entries in zip(*(case.split("-") for case in ran), strict=True)] == [2, 2, 4]
    pytester.runpytest(*options, "--thorough").assert_outcomes(passed=9 + 54 + 16 + 6 + 100)
    pytester.runpytest(*options, "test_cases.py::test_pairs[a-e]").assert_outcomes(passed=1)
