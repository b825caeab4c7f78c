"""Flow by name or path, computed side by side."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from stnls_cli.errors import UserError
from stnls_cli.flow import FLOW_METHODS, open_flow_source, write_flow_npz
from stnls_cli.flow.methods import FlowMethod
from stnls_cli.flow.source import MethodSource

H, W = 40, 56
FRAMES = np.random.default_rng(5).integers(0, 256, (4, H, W), dtype=np.uint8)


@pytest.mark.parametrize("name", ["dis-medium", "tvl1", "tvl1-opencv"])
def test_threads_change_nothing(name: str) -> None:
    pytest.importorskip("cv2")
    flows = []
    for threads in (1, 3):
        with open_flow_source(name, height=H, width=W, threads=threads) as source:
            jobs = [
                source.submit(t, "forward", FRAMES[t], FRAMES[t + 1])
                for t in (0, 1, 2)
                for _ in range(2)
            ]
            flows.append([job.result() for job in jobs])
            assert source.cpu_seconds > 0
    np.testing.assert_array_equal(flows[0], flows[1])
    expected = FLOW_METHODS[name].compute(FRAMES[2], FRAMES[3])
    np.testing.assert_array_equal(flows[0][5], expected)


def test_pairs_run_side_by_side() -> None:
    """Two jobs that wait for each other finish only if both are under way."""
    barrier = threading.Barrier(2, timeout=20)

    class Meeting(FlowMethod):
        def compute(self, gray0: np.ndarray, gray1: np.ndarray) -> np.ndarray:
            barrier.wait()
            return super().compute(gray0, gray1)

    with MethodSource(Meeting("meeting", "", None), threads=2) as source:
        jobs = [source.submit(t, "forward", FRAMES[t], FRAMES[t + 1]) for t in (0, 1)]
        assert [job.result().shape for job in jobs] == [(H, W, 2), (H, W, 2)]


def test_opencv_s_own_threads_are_off_meanwhile() -> None:
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    with (
        open_flow_source("dis", height=H, width=W) as one,
        open_flow_source("farneback", height=H, width=W),
    ):
        assert cv2.getNumThreads() == 1
        one.close()
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("name", list(FLOW_METHODS))
def test_description_of_methods(name: str) -> None:
    pytest.importorskip("cv2")
    with open_flow_source(name, height=H, width=W) as source:
        described = json.loads(json.dumps(source.describe()))
        assert described["name"] == source.label == name
        assert described["parameters"] == FLOW_METHODS[name].parameters
        assert ("opencv" in described) == (name not in ("zero", "tvl1", "tvl1-fast"))
        assert ("stnls" in described) == (name in ("tvl1", "tvl1-fast"))


def test_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    forward = rng.normal(size=(4, H, W, 2)).astype(np.float32)
    backward = rng.normal(size=(4, H, W, 2)).astype(np.float32)
    path = tmp_path / "my flow.npz"
    write_flow_npz(path, forward, backward, (4, H, W))
    with open_flow_source(str(path), height=H, width=W, threads=2, start=1, stop=4) as source:
        assert not source.needs_frames
        jobs = [(source.submit(t, "forward"), source.submit(t + 1, "backward")) for t in (1, 2)]
        for t, (ahead, back) in zip((1, 2), jobs, strict=True):
            np.testing.assert_array_equal(ahead.result(), forward[t])
            np.testing.assert_array_equal(back.result(), backward[t + 1])
        described = json.loads(json.dumps(source.describe()))
        assert described["name"] == "files"
        assert described["path"] == str(path)
        assert described["digest"].startswith("sha256:")
        assert source.label == "my flow.npz"


def test_files_need_no_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    flow = np.zeros((2, H, W, 2), dtype=np.float32)
    write_flow_npz(tmp_path / "a.npz", flow, flow, (2, H, W))
    with open_flow_source(tmp_path / "a.npz", height=H, width=W, stop=2) as source:
        assert not source.submit(0, "forward").result().any()


def test_a_path_named_like_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero").mkdir()
    with open_flow_source("zero", height=H, width=W) as source:
        assert source.needs_frames
    with pytest.raises(UserError, match="no folder 'forward'"):
        open_flow_source("./zero", height=H, width=W)


@pytest.mark.parametrize("spec", ["tvl2", "TVL1", "raft"])
def test_unknown_name(spec: str) -> None:
    with pytest.raises(UserError, match=f"unknown flow '{spec}'") as caught:
        open_flow_source(spec, height=H, width=W)
    for name in FLOW_METHODS:
        assert name in str(caught.value)
    assert ("did you mean tvl1?" in str(caught.value)) == (spec != "raft")


@pytest.mark.parametrize("spec", ["flows/none", "none.npz", "./dis"])
def test_missing_path(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no such file or folder of flows: {spec}.*tvl1-paper"):
        open_flow_source(spec, height=H, width=W)


def test_frames_are_asked_for() -> None:
    with open_flow_source("zero", height=H, width=W) as source:
        job = source.submit(0, "forward")
        with pytest.raises(ValueError, match="zero needs both frames"):
            job.result()
