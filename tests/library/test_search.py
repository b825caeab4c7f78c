"""`NonLocalSearch` on the CPU against the reference, in every option and both forms."""

from __future__ import annotations

import torch
from cases import SearchCase, direct_form, draw_search, drawn
from compare import assert_search
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from reference import candidates

SETTINGS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def check(case: SearchCase) -> None:
    flow = None if case.flows is None else case.flows.shape
    note(f"{case.options}, {case.vid0.shape}, {case.vid1.shape}, flow {flow}, exact {case.exact}")
    table = candidates(case.options, case.vid0, case.vid1, case.flows)
    assert_search(case.options, table, case.run(), exact=case.exact)


@settings(SETTINGS, max_examples=200)
@given(st.data())
def test_any_search_equals_the_reference(data: st.DataObject) -> None:
    check(draw_search(drawn(data)))


@settings(SETTINGS, max_examples=200)
@given(st.data())
def test_tiles_equal_the_reference_and_the_direct_form(data: st.DataObject) -> None:
    case = draw_search(drawn(data), tiles=True)
    check(case)
    if case.exact:
        tiles = case.run()
        with direct_form():
            direct = case.run()
        for a, b in zip(tiles, direct, strict=True):
            assert torch.equal(a, b)
