"""`stnls bench`: strides between queries, and every candidate."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stnls
import torch
from bench_runs import QUICK, Cli, document
from torch import Tensor

from stnls_cli.bench import presets
from stnls_cli.bench.calls import bound, operator
from stnls_cli.bench.check import as_video, mismatch
from stnls_cli.bench.cost import cost_of
from stnls_cli.bench.inputs import InputMaker
from stnls_cli.bench.problem import Operator, Problem
from stnls_cli.bench.work import part_of, reads_of_query
from stnls_cli.flow import write_flow_npz

Tensors = tuple[Tensor, ...]
CPU = torch.device("cpu")
SEARCHES: tuple[Operator, ...] = ("PairedSearch", "NonLocalSearch")


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def small(operator: Operator = "NonLocalSearch", **changes: Any) -> Problem:
    """Frames whose last row and column are no queries at strides 2 and 3."""
    paired = operator == "PairedSearch"
    frames, wt = (1, 0) if paired else (3, 1)
    found = Problem(
        operator=operator, frames=frames, channels=3, height=18, width=24, ws=5, wt=wt, ps=3, k=3
    )
    return replace(found, **changes)


def inputs_of(problem: Problem) -> Tensors:
    return InputMaker(CPU, torch.float32, "edges").make(problem)


def results_of(problem: Problem, inputs: Tensors) -> Tensors:
    return bound(problem, operator(problem), inputs)()


def differs(problem: Problem, inputs: Tensors, results: Tensors) -> str | None:
    """From the reference, at a corner and in the middle."""
    return mismatch(problem, operator(problem), inputs, results, quick=True)


def videos(problem: Problem, results: Tensors) -> tuple[Tensor, Tensor]:
    """dists (HD, T, nH, nW, K) and inds of a search, of pairs or not."""
    *_, dists, inds = as_video(problem, inputs_of(problem), results)
    return dists, inds


@pytest.mark.parametrize("k", [3, 0])
@pytest.mark.parametrize("stride0", [1, 2, 3])
@pytest.mark.parametrize(
    "grid", [{"grid": "int"}, {"grid": "float", "stride1": 0.5}], ids=["int", "float"]
)
@pytest.mark.parametrize("kind", SEARCHES)
def test_reference_and_operator_agree(
    kind: Operator, grid: dict[str, Any], stride0: int, k: int
) -> None:
    problem = small(kind, stride0=stride0, k=k, **grid)
    inputs = inputs_of(problem)
    results = results_of(problem, inputs)
    assert results[0].shape[-1] == problem.entries
    assert differs(problem, inputs, results) is None
    # Queries one row, or entries one place, further on.
    queries = tuple(x.roll(-1, 2 if problem.paired else 3) for x in results)
    entries = tuple(x.roll(1, dim) for x, dim in zip(results, (-1, -2), strict=True))
    for wrong in (queries, entries):
        found = differs(problem, inputs, wrong)
        assert found is not None
        assert found.startswith("distances")


@pytest.mark.parametrize("kind", SEARCHES)
def test_queries_stand_apart(kind: Operator) -> None:
    every = small(kind)
    for stride0 in (2, 3):
        some = replace(every, stride0=stride0)
        of_every, of_some = (
            videos(problem, results_of(problem, inputs_of(problem))) for problem in (every, some)
        )
        for all_of_them, theirs in zip(of_every, of_some, strict=True):
            assert theirs.shape[2:4] == some.query_grid
            assert torch.equal(theirs, all_of_them[:, :, ::stride0, ::stride0])


@pytest.mark.parametrize("stride0", [2, 3])
@pytest.mark.parametrize("kind", SEARCHES)
def test_gradients_agree(kind: Operator, stride0: int) -> None:
    problem = small(kind, stride0=stride0, grid="float", stride1=0.5, gradients="all")
    inputs, run = inputs_of(problem), operator(problem)
    results = results_of(problem, inputs)
    assert differs(problem, inputs, results) is None

    def slanted(query: Tensor, key: Tensor, flows: Tensor) -> Any:
        return run(query, key, 1.05 * flows - 0.05 * flows.detach())

    found = mismatch(problem, slanted, inputs, results, quick=True)
    assert found is not None
    assert found.startswith("gradient of input 3")


@pytest.mark.parametrize("stride0", [1, 2])
@pytest.mark.parametrize("grid", ["int", "float"])
def test_the_own_position_comes_first_of_every_candidate(grid: Any, stride0: int) -> None:
    problem = small(k=0, anchor=True, grid=grid, stride0=stride0)
    inputs = inputs_of(problem)
    results = results_of(problem, inputs)
    assert bool((results[1][..., 0, :] == 0).all())
    assert differs(problem, inputs, results) is None


def test_more_matches_than_candidates_are_sorted() -> None:
    problem = small(k=1000)
    assert problem.entries == problem.candidates == 75
    inputs = inputs_of(problem)
    results = results_of(problem, inputs)
    assert bool((results[0].diff(dim=-1) >= 0).all())
    assert differs(problem, inputs, results) is None


def test_names_tell_strides() -> None:
    search = small()
    assert search.name == "NonLocalSearch T3 C3 18x24 ws5 wt1 ps3 K3 int forward"
    strided = replace(search, stride0=2, k=0, heads=3, grid="float", stride1=0.5)
    told = "NonLocalSearch T3 C3 18x24 ws5 wt1 ps3 K75 heads3 stride2 float step0.5 forward"
    assert strided.name == told
    for problem, stride0 in ((search, 1), (strided, 2)):
        assert problem.search_options()["stride0"] == stride0
        assert problem.parameters()["stride0"] == stride0


@pytest.mark.parametrize(
    ("height", "width", "stride0", "grid"),
    [(480, 854, 4, (120, 214)), (18, 24, 1, (18, 24)), (19, 25, 3, (7, 9)), (5, 6, 8, (1, 1))],
)
def test_grid_of_queries(height: int, width: int, stride0: int, grid: tuple[int, int]) -> None:
    assert small(height=height, width=width, stride0=stride0).query_grid == grid


@pytest.mark.parametrize("gradients", ["none", "videos", "all"])
@pytest.mark.parametrize("stride0", [1, 2, 3])
@pytest.mark.parametrize("kind", SEARCHES)
def test_costs_are_those_of_the_call(kind: Operator, stride0: int, gradients: Any) -> None:
    problem = small(kind, height=19, width=26, stride0=stride0, grid="float", gradients=gradients)
    inputs = inputs_of(problem)
    results = results_of(problem, inputs)
    cost = cost_of(problem, torch.float32)
    arriving = 0 if gradients == "none" else results[0].nbytes
    assert cost.input_bytes == sum(x.nbytes for x in inputs) + arriving
    assert cost.output_bytes == sum(x.nbytes for x in results)
    module = getattr(stnls.search, kind)(**problem.search_options())
    forward = module.flops(1, problem.frames, 3, 19, 26)
    # Of each tap and channel of an entry: 11 to either video, and 18 to the flow.
    back = {"none": 0, "videos": 2 * 11, "all": 2 * 11 + 18}[gradients]
    assert cost.flops - forward == results[0].numel() * 9 * 3 * back


def test_cost_of_every_candidate() -> None:
    found = presets.problems("alignment-480p", cuda=True)
    (every,) = (p for p in found if p.k == 0)
    queries = 5 * 480 * 854
    assert cost_of(every, torch.float32).output_bytes == queries * 243 * 16


@pytest.mark.parametrize("stride0", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", SEARCHES)
def test_parts_have_so_many_queries(kind: Operator, stride0: int) -> None:
    problem = small(kind, height=38, width=53, stride0=stride0)
    inputs = inputs_of(problem)
    rows, columns = problem.query_grid
    for side, expected in ((7, (7, 7)), (11, (min(rows, 11), 11)), (60, (rows, columns))):
        reads = side**2 * reads_of_query(problem)
        part, cut, scale = part_of(problem, inputs, reads)
        assert part == replace(problem, height=part.height, width=part.width)
        assert part.query_grid == expected
        assert scale == rows * columns / (expected[0] * expected[1])
        for video, whole in zip(cut[:2], inputs[:2], strict=True):
            assert torch.equal(video, whole[..., : part.height, : part.width])
        assert torch.equal(cut[2], inputs[2][..., : expected[0], : expected[1]])
        assert differs(part, cut, results_of(part, cut)) is None
    assert (part, scale) == (problem, 1)


def test_parts_are_no_smaller_than_the_window() -> None:
    for stride0, least in ((1, 9), (2, 10), (4, 16)):
        problem = small(height=40, width=40, ws=9, stride0=stride0)
        part, _, _ = part_of(problem, inputs_of(problem), 1)
        assert (part.height, part.width) == (least, least)


@pytest.mark.parametrize("flow", ["edges", "wild"])
def test_flow_is_that_of_the_frame_at_the_queries(flow: str) -> None:
    maker = InputMaker(CPU, torch.float32, flow)
    for kind in SEARCHES:
        whole = maker.make(small(kind))
        for stride0 in (2, 3):
            *frames, flows = maker.make(small(kind, stride0=stride0))
            assert torch.equal(flows, whole[2][..., ::stride0, ::stride0])
            assert flows.is_contiguous()
            assert all(map(torch.equal, frames, whole))


def test_flow_of_a_clip_at_the_queries(tmp_path: Path) -> None:
    from stnls_cli.bench.flow_file import open_flow_file

    generator = np.random.default_rng(0)
    shape = 5, 18, 24
    ahead, back = (
        [generator.normal(size=(18, 24, 2)).astype(np.float32) for _ in range(5)] for _ in range(2)
    )
    write_flow_npz(tmp_path / "clip.npz", ahead, back, shape)
    file = open_flow_file(str(tmp_path / "clip.npz"))
    maker = InputMaker(CPU, torch.float32, "edges", file)
    _, pair = file.beside([small("PairedSearch", stride0=3)])
    assert pair.name == "PairedSearch T1 C3 18x24 ws5 ps3 K3 stride3 int flow=file forward"
    expected = torch.from_numpy(ahead[0]).permute(2, 0, 1)[:, ::3, ::3]
    assert torch.equal(maker.make(pair)[2], expected[None])
    _, video = file.beside([small(frames=5, wt=2, stride0=2)])
    fflow, bflow = (
        torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2)[None].contiguous() for x in (ahead, back)
    )
    fflow[:, -1], bflow[:, 0] = 0, 0  # which lead out of the clip
    composed = stnls.nn.search_flow(fflow, bflow, 2, stride0=2)
    assert torch.equal(maker.make(video)[2], composed)


def test_rows_with_strides_and_every_candidate() -> None:
    found = {
        (name, cuda): [p for p in presets.problems(name, cuda=cuda) if p.stride0 > 1 or p.k == 0]
        for name in presets.PRESETS
        for cuda in (False, True)
        if name != "neighbourhood"
    }
    video = "NonLocalSearch T5 C3 480x854 ws9 wt1 ps7"
    features = "NonLocalSearch T5 C64 256x256 ws9 wt1"
    assert {key: [p.name for p in rows] for key, rows in found.items() if rows} == {
        ("alignment-480p", False): [
            "PairedSearch T1 C3 480x854 ws9 ps7 K10 stride4 int forward",
        ],
        ("alignment-480p", True): [
            f"{video} K10 stride4 int forward",
            f"{video} K243 int forward",
            f"{video} K1 stride2 float step0.5 forward",
        ],
        ("attention-256", True): [
            f"{features} ps1 K243 heads4 float step0.5 forward",
            f"{features} ps3 K9 heads4 stride2 float step0.5 forward",
            f"{features} ps7 K9 heads4 stride4 float step0.5 forward",
        ],
    }


def test_the_original_was_not_timed_with_strides_or_every_candidate() -> None:
    from stnls_cli.bench.earlier import figures, original_of

    machine = figures()["machine"]
    for name in ("alignment-480p", "attention-256"):
        for problem in presets.problems(name, cuda=True):
            if problem.stride0 > 1 or problem.k == 0:
                assert original_of(name, problem, machine, "float32") is None
                timed = replace(problem, stride0=1, k=problem.k or {1: 9, 7: 1}[problem.ps])
                known = original_of(name, timed, machine, "float32")
                assert (known is None) == (problem.ps == 7 and problem.channels == 64)


def test_opencv_takes_every_pixel() -> None:
    from stnls_cli.bench.backends import Case, make_backend

    backend, problem = make_backend("opencv"), small("PairedSearch")
    assert backend.covers(Case(problem, (), "zero"))
    assert not backend.covers(Case(replace(problem, stride0=2), (), "zero"))


@pytest.mark.parametrize("name", ["alignment-480p", "attention-256"])
def test_rows_of_a_gpu_are_right_on_small_frames(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    from stnls_cli.bench import job

    def strided(preset: str, *, cuda: bool, quick: bool) -> list[Problem]:
        found = presets.problems(preset, cuda=True, quick=quick)
        return [p for p in found if p.stride0 > 1 or p.k == 0]

    monkeypatch.setattr(job, "problems", strided)
    only = ("--preset", name, "--backend", "stnls,reference", "--repeat", "1")
    done = cli(*QUICK, *only, "--json", "--csv", "rows.csv")
    assert done.code == 0, done.err
    rows = document(done)["rows"]
    assert [row["backend"] for row in rows] == 3 * ["stnls", "reference"]
    for row in rows:
        assert row["status"] == "ok", row
        assert row["checked"] == (row["backend"] == "stnls")
        stride0 = row["parameters"]["stride0"]
        assert (f"stride{stride0} " in row["problem"]) == (stride0 > 1)
    assert {row["parameters"]["stride0"] for row in rows} == {1, 2, 4}
    with (tmp_path / "rows.csv").open(newline="") as file:
        columns = [(line["problem"], line["stride0"]) for line in csv.DictReader(file)]
    assert columns == [(row["problem"], str(row["parameters"]["stride0"])) for row in rows]
