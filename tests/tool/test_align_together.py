"""Pairs of several reference frames aligned together, as on a GPU: the results of one by one."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import stnls_cli.job
from stnls_cli import UserError, align
from stnls_cli.job import Job
from stnls_cli.plan import Plan
from stnls_cli.report import read_report
from stnls_cli.video import write_image

UseAsGpu = Callable[[Plan], None]


@pytest.fixture
def use_as_gpu(monkeypatch: pytest.MonkeyPatch) -> UseAsGpu:
    """`use_as_gpu(plan)`: the plan of the runs to come, and what reads the clip begins the work."""

    def use(plan: Plan) -> None:
        made = Job.__init__

        def make(self: Job, *given: Any) -> None:
            made(self, *given)
            self._on_gpu = True

        monkeypatch.setattr(Job, "__init__", make)
        monkeypatch.setattr(Job, "speed", lambda self: self._stopwatch.read(None))
        monkeypatch.setattr(stnls_cli.job, "plan_for", lambda *_: plan)

    return use


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, textured: Any) -> Path:
    """A folder of nine frames, of which the fourth is damaged: runs of three and of five."""
    folder = tmp_path_factory.mktemp("frames") / "in"
    folder.mkdir()
    for index, rgb in enumerate(textured(9, 32, 48)):
        write_image(folder / f"{index}.png", rgb)
    (folder / "3.png").write_bytes(b"no picture")
    return folder


TOGETHER = Plan(ahead=2, pairs=5, flow_pairs=0, under_way=3, together=True, references=3)
GIVEN: dict[str, Any] = {"flow": "dis", "ws": 3, "ps": 3, "wt": 2, "allow_damaged": True}


def written(folder: Path) -> dict[str, bytes]:
    """By name, without the records, whose times differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".json", ".html")
    }


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        # Batches that end within a frame, at its end, and beyond the group; fewer than fit.
        (TOGETHER, {"sigma": 4.0}),
        (replace(TOGETHER, pairs=4, references=2, writing=2), {}),
        (replace(TOGETHER, pairs=100, references=4, under_way=4), {"k": 2, "wt": 1}),
        (replace(TOGETHER, pairs=1, together=False, shrink_at_once=True), {"wt": 5}),
        (replace(TOGETHER, references=20, under_way=20), {"sigma": 4.0, "wt": 1}),
        # Fewer may be under way than are begun together.
        (replace(TOGETHER, under_way=1), {"methods": "nls,shifted-nls"}),
        (TOGETHER, {"methods": "none", "save": "none"}),
        (TOGETHER, {"methods": "nls", "save": "none", "flow": "zero"}),
        (TOGETHER, {"methods": "none,flow", "save": "none", "metrics": "psnr,out_of_frame"}),
    ],
)
def test_rows_and_files_are_those_of_one_by_one(
    tmp_path: Path, frames: Path, use_as_gpu: UseAsGpu, plan: Plan, options: dict[str, Any]
) -> None:
    given = {"save": "aligned,flow,offsets,distance,video", **GIVEN, **options}
    one = align(frames, tmp_path / "one", **given)
    use_as_gpu(plan)
    together = align(frames, tmp_path / "together", **given)
    assert {row.t for row in one.rows} == {0, 1, 2, 4, 5, 6, 7, 8}
    assert together.rows == one.rows
    assert written(tmp_path / "together") == written(tmp_path / "one")


@pytest.mark.parametrize("on_gpu", [True, False])
def test_what_fails_leaves_the_frames_before_it(
    tmp_path: Path,
    frames: Path,
    use_as_gpu: UseAsGpu,
    monkeypatch: pytest.MonkeyPatch,
    on_gpu: bool,
) -> None:
    """One pair that fails takes along those aligned with it; the same command again goes on."""
    given = {"save": "aligned,offsets", **GIVEN, "sigma": 4.0}
    one = align(frames, tmp_path / "one", **given)
    plan = replace(TOGETHER, pairs=4)
    if on_gpu:
        use_as_gpu(plan)
    else:
        monkeypatch.setattr(stnls_cli.job, "plan_for", lambda *_: plan)
    rows = Job._rows

    def fails(self: Job, measured: Any) -> Any:
        if (6, -1) in measured.places:
            raise UserError("stopped")
        return rows(self, measured)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "_rows", fails)
        with pytest.raises(UserError, match="stopped"):
            align(frames, tmp_path / "out", **given)
    lines = (tmp_path / "out.partial/frames.ndjson").read_text().splitlines()
    # Of frames 4, 5 and 6, begun together, the first four pairs end within 5, whose rest fails.
    assert [json.loads(line)["t"] for line in lines] == [0, 1, 2, 4]
    assert align(frames, tmp_path / "out", **given).rows == one.rows
    assert read_report(tmp_path / "out").rows == one.rows
    assert written(tmp_path / "out") == written(tmp_path / "one")


def test_the_flows_of_some_frames_are_not_held_while_the_next_are_read(
    tmp_path: Path, frames: Path, use_as_gpu: UseAsGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []
    begun: list[int] = []
    pairs = Job._pairs

    def watched(self: Job, t: int, outputs: Any) -> Any:
        begun.append(t)
        if len(begun) % 3 == 1:  # the first of three
            assert [flow() for flow in held] == [None] * len(held)
            held.clear()
        found = pairs(self, t, outputs)
        held.extend(weakref.ref(pair.flow) for pair in found if pair.flow is not None)
        return found

    monkeypatch.setattr(Job, "_pairs", watched)
    use_as_gpu(replace(TOGETHER, shrink_at_once=True))
    align(frames, tmp_path / "out", **GIVEN, save="none")
    assert begun == [0, 1, 2, 4, 5, 6, 7, 8]
