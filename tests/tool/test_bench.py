"""`stnls bench` on small frames, through the command line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stnls
import torch
from bench_runs import QUICK, Cli, clip_flow, document
from outcome import refused

from stnls_cli.bench import job, options, plot, presets
from stnls_cli.bench.row import Row
from stnls_cli.bench.words import row_line

LIBRARY = Path(stnls.__file__).parents[1]
NUMBERS = (
    *("median_ms", "spread_ms", "min_ms", "max_ms", "gb_s", "tflop_s"),
    *("share_of_copy", "share_of_fma"),
)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_figures_as_json_and_csv_and_lines_for_the_person(cli: Cli, tmp_path: Path) -> None:
    only = ("--preset", "alignment-4k", "--preset", "neighbourhood", "--flow", "zero")
    done = cli(*QUICK, *only, "--json", "--csv", "rows.csv")
    assert done.code == 0, done.err
    found = document(done)
    assert found["schema"] == "stnls-bench"
    assert found["schema_version"] == 1
    assert found["date"].startswith("20")
    assert ", 1 thread, " in found["machine"]
    assert found["device"] == "cpu"
    assert found["load"] is None or found["load"] >= 0
    assert ("work beside this makes times longer" in done.err) == ((found["load"] or 0) > 0.5)
    assert found["versions"]["torch"] == torch.__version__
    assert found["settings"]["flow"] == "zero"
    assert not found["interrupted"]
    assert all(value > 0 for value in found["ceilings"].values())
    assert found["backends"]["stnls"] is None
    assert found["backends"]["original"]
    rows = found["rows"]
    assert {row["backend"] for row in rows} == {"stnls", "reference", "sdpa", "opencv"}
    for row in rows:
        assert row["status"] == "ok", row
        assert row["checked"] == (row["backend"] in ("stnls", "sdpa"))
        assert all(row[name] is not None and row[name] >= 0 for name in NUMBERS), row
        assert row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["flops"] > 0
        assert row["original"] is None
    ours = [row for row in rows if row["backend"] == "stnls"]
    assert [row["preset"] for row in ours] == ["alignment-4k", "neighbourhood"]
    assert all(row["peak_bytes"] >= row["input_bytes"] for row in ours)
    assert all(row["problem"] in done.err for row in rows)
    assert "left out: natten (" in done.err or found["backends"]["natten"] is None

    with (tmp_path / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["problem"] for line in lines] == [row["problem"] for row in rows]
    assert float(lines[0]["median_ms"]) == rows[0]["median_ms"]
    assert lines[0]["grid"] == "int"
    for line, row in zip(lines, rows, strict=True):
        columns = {name: value for name, value in row["parameters"].items() if name != "flow"}
        assert {name: line[name] for name in columns} == {k: str(v) for k, v in columns.items()}


@pytest.mark.parametrize(
    ("preset", "arguments"),
    [
        ("readme-attention", ["--flow", "wild"]),
        ("attention-256", ["--dtype", "bf16"]),
    ],
)
def test_results_are_those_of_the_reference(cli: Cli, preset: str, arguments: list[str]) -> None:
    only = ("--preset", preset, "--backend", "stnls", "--repeat", "1", "--json")
    done = cli(*QUICK, *only, *arguments)
    assert done.code == 0, done.err
    rows = document(done)["rows"]
    assert rows
    for row in rows:
        assert row["status"] == "ok", row
        assert row["checked"]


def test_searches_on_wild_flow_beside_the_named_one() -> None:
    found = presets.problems("alignment-480p", cuda=True)
    wild = [p for p in found if p.flow == "wild"]
    assert [(p.frames, p.wt, p.k, p.grid, p.stride1) for p in wild] == [
        (5, 1, 1, "int", 1.0),
        (5, 1, 1, "float", 0.5),
    ]
    assert all(replace(p, flow=None) in found for p in wild)


def test_a_wrong_result_is_an_error_row(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from stnls_cli.bench.backends import ours

    right = ours.operator

    def wrong(problem: Any) -> Any:
        run = right(problem)

        def off_by_a_pixel(*inputs: torch.Tensor) -> Any:
            dists, inds = run(*inputs)
            return dists, inds + 1

        return off_by_a_pixel

    monkeypatch.setattr(ours, "operator", wrong)
    only = ("--preset", "alignment-4k", "--backend", "stnls")
    done = cli(*QUICK, *only, "--json")
    assert done.code == 1
    (row,) = document(done)["rows"]
    assert row["status"] == "error"
    assert "not the reference's result: distances at the offsets" in row["message"]
    assert row["median_ms"] is None
    assert "error: not the reference's result" in done.err


def test_gradients_that_are_wrong_are_found() -> None:
    from stnls_cli.bench.calls import bound, operator
    from stnls_cli.bench.check import mismatch
    from stnls_cli.bench.inputs import InputMaker

    problem = next(
        p
        for p in presets.problems("readme-attention", cuda=True, quick=True)
        if p.gradients == "all"
    )
    problem = replace(problem, wt=1, frames=3)
    inputs = InputMaker(torch.device("cpu"), torch.float32, "edges").make(problem)
    run = operator(problem)
    results = bound(problem, run, inputs)()
    assert mismatch(problem, run, inputs, results, quick=True) is None

    def slanted(query: torch.Tensor, key: torch.Tensor, flows: torch.Tensor) -> Any:
        dists, inds = run(query, key + 1e-9 * key.detach(), 1.05 * flows - 0.05 * flows.detach())
        return dists, inds

    found = mismatch(problem, slanted, inputs, results, quick=True)
    assert found is not None
    assert "gradient of input 3" in found


def test_dry_run_lists_rows_and_runs_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(job.Job, "_measure", None)
    done = cli("bench", "--dry-run", "--device", "cuda", "--preset", "alignment-480p", "--json")
    assert done.code == 0, done.err
    found = document(done)
    rows = found["rows"]
    assert all(row["status"] == "planned" for row in rows)
    assert all(row["median_ms"] is None for row in rows)
    row = next(r for r in rows if r["problem"].startswith("NonLocalSearch T5 C3 480x854 ws9 wt1"))
    queries = 5 * 480 * 854
    assert row["flops"] == queries * 3 * 81 * 49 * 3 * 3
    assert row["input_bytes"] == 4 * (2 * 3 * queries + 2 * 2 * queries)
    assert row["output_bytes"] == queries * (4 + 12)
    assert "GFLOP" in done.err
    assert list(tmp_path.iterdir()) == []


def test_every_preset_can_be_planned() -> None:
    from stnls_cli.bench.cost import cost_of

    for name in presets.PRESETS:
        for cuda in (False, True):
            found = presets.problems(name, cuda=cuda)
            assert len({p.name for p in found}) == len(found)
            if name != "attention-256":
                assert all(cost_of(p, torch.float32).flops > 0 for p in found)


def test_a_backend_without_rows_is_said_to_be_left_out(cli: Cli) -> None:
    only = ("--preset", "readme-attention", "--backend", "stnls,opencv", "--json")
    done = cli(*QUICK, *only)
    assert document(done)["backends"] == {
        "stnls": None,
        "opencv": "it computes none of these problems",
    }
    assert "left out: opencv (it computes none of these problems)" in done.lines


@pytest.mark.parametrize("plan", [[], ["--dry-run"]])
def test_a_backend_that_fits_no_problem(cli: Cli, plan: list[str]) -> None:
    done = cli(*QUICK, *plan, "--preset", "readme-attention", "--backend", "opencv", "--json")
    assert done.code == 2
    assert done.out == ""
    assert done.lines[-1].startswith("stnls: nothing to time: no problem of readme-attention")


def test_a_plan_for_the_backends_that_are_asked_for(cli: Cli) -> None:
    only = ("--preset", "alignment-480p", "--backend", "opencv", "--backend", "stnls")
    rows = document(cli(*QUICK, "--dry-run", *only, "--json"))["rows"]
    every = len(presets.problems("alignment-480p", cuda=False, quick=True))
    assert [row["backend"] for row in rows].count("stnls") == every
    (theirs,) = (row for row in rows if row["backend"] == "opencv")
    assert theirs["flow"] == "zero"


def test_lists_of_names_as_the_other_commands_take_them(cli: Cli) -> None:
    plan = ("--dry-run", "--json")
    lists = ("--preset", "neighbourhood, alignment-4k", "--backend", "stnls,sdpa")
    found = document(cli(*QUICK, *plan, *lists))
    single = ("--preset", "alignment-4k", "--preset", "neighbourhood", "--backend", "stnls")
    assert found["rows"] == document(cli(*QUICK, *plan, *single, "--backend", "sdpa"))["rows"]
    assert found["settings"]["backend"] == ["stnls", "sdpa"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--repeat", "0"], "--repeat must be from 1"),
        (["--preset", "alignment-4k,"], "--preset: there is no ''; known are alignment-480p"),
        (["--threads", "0"], "--threads must be from 1"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, not 'tpu'"),
        (["--preset", "alignment"], "--preset: there is no 'alignment'; known are alignment-480p"),
        (["--backend", "numpy"], "--backend: there is no 'numpy'; known are stnls, reference"),
        (["--flow", "tvl1"], "--flow: there is no 'tvl1'; known are edges"),
        (["--dtype", "int8"], "--dtype: there is no 'int8'; known are float32"),
        (["--flow-file", "none.npz"], "--flow-file: none.npz: no such file or folder of flows"),
        (["--peer-path", "nowhere"], "--peer-path: there is no folder nowhere"),
        (["--peer-path", "."], "holds no package called stnls"),
        (["--csv", "."], "--csv must name a file"),
        (["--flow-file", ""], "--flow-file: the name is empty"),
        (["--peer-path", ""], "--peer-path: the name is empty"),
        (["--dry-run", "--sweep"], "--dry-run lists the rows of presets"),
        (["--plot", "p", "--flow-file", "x.npz"], "--plot alone times no preset: name one with"),
        (["--plot", "p", "--backend", "opencv"], "--backend is for rows of presets; --plot alone"),
        (["--plot", "p", "--peer-path", "x"], "--peer-path is for rows of presets; --plot alone"),
        (["--plot", "p", "--csv", "x.csv"], "--csv has the rows of presets; --plot alone times no"),
        (["--peer-path", str(LIBRARY)], "is this library; name the folder of the original"),
        (["--sweep", "--repeat", "x"], "Invalid value for '--repeat'"),
    ],
)
def test_bad_input(cli: Cli, arguments: list[str], words: str) -> None:
    refused(cli(*QUICK, *arguments), words)


def test_output_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    only = ("--preset", "alignment-4k", "--backend", "stnls", "--repeat", "1")
    done = cli(*QUICK, *only, "--csv", "no/folder.csv")
    refused(done, "cannot write no/folder.csv")  # before anything is timed
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    refused(cli(*QUICK, "--plot", "file/pictures"), "cannot write file/pictures")


def test_only_a_backend_that_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "natten", None)
    done = cli(*QUICK, "--preset", "neighbourhood", "--backend", "natten")
    assert done.code == 2
    assert done.lines[-1].startswith("stnls: nothing to time: natten: ")


def test_the_first_row_of_a_plan_has_its_operations(root: Path) -> None:
    command = ["bench", "--dry-run", "--device=cuda", "--preset=neighbourhood", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "stnls_cli", *command],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
    )
    assert all(row["flops"] > 0 for row in json.loads(done.stdout)["rows"])


def test_plot_without_matplotlib(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    refused(cli(*QUICK, "--plot", "pictures"), "--plot needs matplotlib: pip install")


def test_times_within_a_power_of_ten_can_be_read_from_a_plot() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    panel = figure.subplots()
    points = [{"size": n, "median_ms": 2.5 + n, "spread_ms": 0.1} for n in (1, 2, 3)]
    line = {"axis": "K", "label": "K", "grid": "int", "exponent": 1.0, "points": points}
    plot._panel(panel, [line])
    low, high = panel.get_ylim()
    shown = [tick.get_text() for tick in panel.get_yticklabels()]
    inside = [text for text in shown if low <= float(text) <= high]
    assert inside == ["2", "5"]


def test_plot_draws_every_sweep(cli: Cli, tmp_path: Path) -> None:
    done = cli(*QUICK, "--plot", "pictures", "--repeat", "1")
    assert done.code == 0, done.err
    assert done.out == ""
    picture = (tmp_path / "pictures" / "sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    found = json.loads((tmp_path / "pictures" / "sweep.json").read_text())
    assert found["rows"] == []
    lines = {(line["axis"], line["grid"]) for line in found["sweeps"]}
    axes = ("ws", "wt", "frames", "pixels", "channels", "K")
    assert lines == {(axis, grid) for axis in axes for grid in ("int", "float")}
    for line in found["sweeps"]:
        assert len(line["points"]) >= 3
        assert all(point["median_ms"] > 0 for point in line["points"])
        assert f"time ~ x^{line['exponent']:.2f}" in done.err


def test_exponent_is_the_slope_of_the_logarithms() -> None:
    from stnls_cli.bench.sweep import exponent

    sizes = [1.0, 2.0, 5.0, 40.0]
    assert exponent(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)


def test_the_exponent_that_is_said_is_the_one_that_is_kept() -> None:
    from stnls_cli.bench.sweep import AXES, as_line, exponent_line

    power = 1.0249997  # 1.02, but 1.025 and so 1.03 where five digits are kept first
    points = [{"size": size, "median_ms": size**power} for size in (1, 2, 4)]
    line = as_line(AXES[0], "int", points)
    assert line["exponent"] == line["last_exponent"] == 1.02
    assert "time ~ x^1.02 (last step x^1.02)" in exponent_line(line)


FAKE = """
import sys

import torch
import {search}
import {agg}

print("the original talks on standard output")
print("and on standard error", file=sys.stderr)
"""
FAKE_SEARCH = """
import os

import torch


class NonLocalSearch:
    def __init__(self, ws, wt, ps=1, k=-1, nheads=1, stride0=1, stride1=1, self_action=None,
                 itype="float", dist_type="l2"):
        self.k = k

    def __call__(self, vid0, vid1, flows):
        print("a note on every call")
        shape = (1, 1, *vid0.shape[1:2], *vid0.shape[3:], self.k)
        return vid0.sum() * torch.ones(shape), torch.zeros(*shape, 3)


class PairedSearch:
    def __init__(self, ws, ps, k, nheads=1, stride0=4, stride1=1, itype="float"):
        self.itype, self.k = itype, k

    def __call__(self, frame0, frame1, flow):
        if self.itype == "float":
            raise RuntimeError("CUDA error: an illegal memory access\\nand more")
        if self.k == 10:
            os.write(2, b"assertion failed: pt == 1\\n")
            os.abort()
        return frame0, flow
"""
FAKE_AGG = """
class NonLocalGatherAdd:
    def __init__(self, ps, strideIn, strideOut, itype="float"):
        pass

    def __call__(self, vid, weights, inds):
        assert vid.ndim == 6
        return vid * weights.mean()
"""


def fake_original(folder: Path) -> Path:
    package = folder / "peer" / "stnls"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE.format(search="stnls.search", agg="stnls.agg"))
    (package / "search.py").write_text(FAKE_SEARCH)
    (package / "agg.py").write_text(FAKE_AGG)
    return package.parent


def test_the_original_runs_in_a_process_of_its_own(cli: Cli, tmp_path: Path) -> None:
    ours = stnls.__file__
    only = ("--preset", "alignment-480p", "--backend", "original")
    done = cli(*QUICK, *only, "--peer-path", fake_original(tmp_path), "--repeat", "2", "--json")
    assert done.code == 0, done.err
    assert sys.modules["stnls"].__file__ == ours
    found = document(done)
    assert found["backends"] == {"original": None}
    rows = {row["problem"]: row for row in found["rows"]}
    assert len(rows) == len(presets.problems("alignment-480p", cuda=False, quick=True))
    for name, row in rows.items():
        if "float" in name and "Paired" in name:
            assert row["status"] == "error"
            assert row["message"] == "RuntimeError: CUDA error: an illegal memory access"
        elif "K10" in name:
            assert row["message"] == "the process ended with code -6: assertion failed: pt == 1"
        else:
            assert row["status"] == "ok", row
            assert row["runs"] == 2
    assert "talks" not in done.out + done.err


def test_an_original_that_cannot_be_imported_is_left_out(cli: Cli, tmp_path: Path) -> None:
    peer = fake_original(tmp_path)
    (peer / "stnls" / "agg.py").write_text("import stnls_cuda")
    only = ("--preset", "alignment-4k", "--repeat", "1", "--backend", "original", "--json")
    done = cli(*QUICK, *only, "--backend", "stnls", "--peer-path", peer)
    assert done.code == 0, done.err
    found = document(done)
    assert {row["backend"] for row in found["rows"]} == {"stnls"}
    assert "No module named 'stnls_cuda'" in found["backends"]["original"]
    assert "left out: original (cannot be imported: ModuleNotFoundError" in done.err


def test_interrupted_run_hands_over_what_there_is(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls_cli.bench.backends import plain

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plain.Plain, "run", interrupt)
    done = cli(*QUICK, "--preset", "alignment-480p", "--json")
    assert done.code == 130
    found = document(done)
    assert found["interrupted"]
    assert [row["backend"] for row in found["rows"]] == ["stnls"]
    assert done.lines[-1] == "interrupted: these are the figures so far"


def test_without_typer_rich_opencv_and_av(tmp_path: Path) -> None:
    """`python -m stnls_cli.bench` needs torch and NumPy."""
    code = (
        "import sys\n"
        "for name in ('typer', 'rich', 'cv2', 'av', 'matplotlib'): sys.modules[name] = None\n"
        "from stnls_cli.bench.__main__ import main\n"
        "main(sys.argv[1:])"
    )
    only = ("--preset", "alignment-4k", "--backend", "stnls", "--backend", "opencv")
    file = clip_flow(tmp_path / "bikes.npz")
    command = [sys.executable, "-c", code, *QUICK[1:], *only, "--json", "--flow-file", file]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["flow"] for row in found["rows"]] == ["edges", "file"]
    assert {row["backend"] for row in found["rows"]} == {"stnls"}
    assert found["backends"]["opencv"] is not None

    wrong = subprocess.run(
        [*command[:3], "--preset", "none"], cwd=tmp_path, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("stnls: --preset: there is no 'none'")
    assert len(wrong.stderr.splitlines()) == 1


def test_ctrl_c_ends_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(*QUICK, "--repeat", "3", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if "K1 int" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["interrupted"]
    assert "Traceback" not in err


def test_flows_jump_at_edges_and_have_their_spread() -> None:
    from stnls_cli.bench.flows import edges_flow, slot_flows, wild_flow

    assert set(options.FLOWS) == {"edges", "smooth", "zero", "wild"}
    generator = torch.Generator().manual_seed(0)
    flow = edges_flow(2, 240, 427, generator)
    assert flow.shape == (2, 2, 240, 427)
    assert 2 < float(flow.std()) < 6
    steps = (flow[..., 1:] - flow[..., :-1]).abs()
    assert float(steps.median()) < 1
    assert float(steps.max()) > 3
    tile = wild_flow(1, 64, 64, generator)[..., :16, :16]
    assert 25 < float(tile.amax() - tile.amin()) < 45
    for name in options.FLOWS:
        flows = slot_flows(name, 3, 4, 16, 24, generator)
        assert flows.shape == (3, 4, 2, 16, 24)
        assert (name == "zero") == (float(flows.abs().max()) == 0)


@pytest.mark.parametrize(
    ("median", "spread", "told"),
    [
        (252_900.0, 9647.0, "252.9 s  ± 9.6 s"),
        (9_999.0, 12_345.0, "9999 ms ± 12345 ms"),
        (26.64, 0.512, "26.64 ms ± 0.512 ms"),
    ],
)
def test_a_time_and_its_spread_have_one_unit(median: float, spread: float, told: str) -> None:
    row = Row(
        preset="a", problem="b", parameters={}, flow="zero", dtype="float32", backend="stnls",
        status="ok", median_ms=median, spread_ms=spread, flops=1, input_bytes=1, output_bytes=1,
    )  # fmt: skip
    assert told in row_line(row)


def test_times_of_the_original_belong_to_rows_of_the_presets() -> None:
    from stnls_cli.bench.earlier import figures, original_of

    machine, found = figures()["machine"], {}
    for name in presets.PRESETS:
        for problem in presets.problems(name, cuda=True):
            found[name, problem.name] = original_of(name, problem, machine, "float32")
            assert original_of(name, problem, "CPU", "float32") is None
            assert original_of(name, problem, machine, "float16") is None
    key = "NonLocalSearch T5 C3 480x854 ws9 wt1 ps7 K1 int forward"
    assert found["alignment-480p", key] == {"ms": 163.6, "peak_mib": 13412}
    times = [value["ms"] for value in found.values() if value is not None and "ms" in value]
    # It was not timed on flow like this.
    assert found["alignment-480p", key.replace("forward", "flow=wild forward")] is None
    known = [row for row in figures()["rows"] if "fails" not in row]
    assert {row["forward_ms"] for row in known} <= set(times)
    assert sum(value is not None and "fails" in value for value in found.values()) >= 4
