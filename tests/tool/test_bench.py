"""`stnls bench` on small frames."""

from __future__ import annotations

import json

import pytest
import torch

from stnls_cli.app import main
from stnls_cli.bench import edges_flow


def test_figures_are_json_and_the_table_is_for_the_person(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--quick", "--repeat", "2", "--device", "cpu", "--json"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)["figures"]
    assert len(figures) == 7
    assert all(0 < f["low"] <= f["median"] <= f["high"] for f in figures)
    assert "PairedSearch" in err


@pytest.mark.parametrize("arguments", [["--repeat", "0"], ["--threads", "0"], ["--device", "tpu"]])
def test_bad_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--quick", *arguments])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_edges_flow_jumps_at_edges() -> None:
    flow = edges_flow(2, 240, 427, torch.Generator().manual_seed(0))
    assert flow.shape == (2, 2, 240, 427)
    assert 2 < float(flow.std()) < 6
    steps = (flow[..., 1:] - flow[..., :-1]).abs()
    assert float(steps.median()) < 1
    assert float(steps.max()) > 3
