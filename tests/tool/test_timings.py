"""Seconds by stage, as reports write them down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stnls_cli.flow import open_flow_source, thread_seconds, write_flow_npz
from stnls_cli.timings import Timings


def test_seconds_that_are_counted_elsewhere_are_added() -> None:
    timings = Timings(torch.device("cpu"))
    timings.add("decode", 0.25)
    timings.add("flow_cpu", 1.5)  # of the run that this one resumes
    assert timings.told({"flow_cpu": 0.5, "other": 0.1234567}) == {
        "decode": 0.25,
        "flow_cpu": 2.0,
        "other": 0.123457,
    }
    assert timings.told({}) == timings.seconds == {"decode": 0.25, "flow_cpu": 1.5}


def test_threads_count_where_they_compute_flows(tmp_path: Path) -> None:
    size = {"threads": 1, "height": 32, "width": 32}
    frame = np.zeros((32, 32), np.uint8)
    with open_flow_source("tvl1", **size) as source:
        source.submit(0, "forward", frame, frame).result()
        assert thread_seconds(source) == {"flow_cpu": pytest.approx(source.cpu_seconds)}
        assert source.cpu_seconds > 0
        assert thread_seconds(source, 8) == {}
    flow = [np.zeros((32, 32, 2), np.float32)] * 2
    write_flow_npz(tmp_path / "flow.npz", flow, flow, (2, 32, 32))
    with open_flow_source(str(tmp_path / "flow.npz"), **size) as source:
        assert thread_seconds(source) == {}
    assert thread_seconds(None) == {}
