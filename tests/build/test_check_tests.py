"""What CI asks of the test reports."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SUITE = """
import pytest

def test_runs(): pass

@pytest.mark.skip(reason="no CUDA device")
def test_on_gpu(): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False

@pytest.mark.slow
def test_slow(): pass
"""


@pytest.fixture(scope="module")
def check(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_tests", root / ".ci" / "check_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_tests"] = module
    spec.loader.exec_module(module)
    return module


def pytest_run(folder: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What was collected, the report of the fast tests and that of the slow ones."""
    tmp_path = tmp_path_factory.mktemp("suite")
    (tmp_path / "test_some.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: long\n")
    paths = [tmp_path / name for name in ("collected.txt", "fast.xml", "slow.xml")]
    paths[0].write_text(pytest_run(tmp_path, "--collect-only", "-q"))
    pytest_run(tmp_path, "-m", "not slow", f"--junitxml={paths[1]}")
    pytest_run(tmp_path, "-m", "slow", f"--junitxml={paths[2]}")
    return paths


def test_all_in_order(
    check: ModuleType,
    reports: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(check.REASONS, "no CUDA device", lambda: True)
    assert check.main([*map(str, reports)]) == 0
    assert "4 tests, 1 of them skipped" in capsys.readouterr().out


def test_slow_tests_that_were_not_run(
    check: ModuleType,
    reports: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(check.REASONS, "no CUDA device", lambda: True)
    assert check.main([*map(str, reports[:2])]) == 1
    assert "1 of 4 tests are in no report" in capsys.readouterr().err


def test_skip_for_a_reason_that_does_not_hold(
    check: ModuleType, reports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.REASONS, "no CUDA device", lambda: False)
    assert check.main([*map(str, reports)]) == 1


def test_skip_for_another_reason(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_cv.py").write_text("import pytest\npytest.importorskip('cv_of_none')\n")
    (tmp_path / "collected.txt").write_text("")
    pytest_run(tmp_path, f"--junitxml={tmp_path / 'report.xml'}")
    assert check.main([str(tmp_path / "collected.txt"), str(tmp_path / "report.xml")]) == 1
    message = capsys.readouterr().err
    assert "not allowed" in message
    assert "could not import 'cv_of_none'" in message


def test_no_test_at_all(check: ModuleType) -> None:
    assert check.complaints(0, 0, []) == ["no test ran"]


def test_shared_data_are_looked_for(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    skip = check.Skip("tests::test_golden", f"no shared data at {tmp_path} (set STNLS_SHARED)")
    monkeypatch.setenv("STNLS_SHARED", str(tmp_path / "absent"))
    assert check.complaints(1, 1, [skip]) == []
    monkeypatch.setenv("STNLS_SHARED", str(tmp_path))
    (line,) = check.complaints(1, 1, [skip])
    assert "this is not so here" in line


@pytest.mark.parametrize(
    ("reason", "gpus", "free", "fine"),
    [
        ("one GPU only", 1, 80, True),
        ("one GPU only", 2, 80, False),
        ("one GPU only", 0, 0, False),
        ("less than 50 GiB of GPU memory are free", 1, 49, True),
        ("less than 50 GiB of GPU memory are free", 1, 50, False),
        ("less than 50 GiB of GPU memory are free", 0, 0, False),
        ("no CUDA device", 0, 0, True),
        ("no CUDA device", 1, 80, False),
    ],
)
def test_skips_on_machines_with_and_without_gpus(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
    gpus: int,
    free: int,
    fine: bool,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (free * 2**30, 80 * 2**30))
    assert (check.complaints(1, 1, [check.Skip("tests::test_it", reason)]) == []) == fine


def test_the_reasons_of_the_gpu_tests_are_known(check: ModuleType, root: Path) -> None:
    """What they skip for is spelled as the script has it."""
    text = (root / "tests/library/test_cuda.py").read_text(encoding="utf-8")
    skips = re.findall(r"pytest\.skip\(\"([^\"]+)\"\)", text)
    assert skips
    for reason in skips:
        assert any(reason.startswith(start) for start in check.REASONS), reason
