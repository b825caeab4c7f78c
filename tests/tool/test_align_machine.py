"""What the machine lacks or refuses: devices, modules, space, permission, memory."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import refused

from stnls_cli import align
from stnls_cli.report import read_report
from stnls_cli.video import write_image

QUICK = ["--flow=zero", "--ws=3", "--ps=3", "--wt=1", "--metrics=psnr"]


def test_cuda_asked_for_and_absent(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from stnls import _native

    from stnls_cli.devices import resolve_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = "--device cuda: no CUDA device is available to PyTorch"
    refused(cli("align", clip, *QUICK, "--device=cuda"), words)
    # Said once, before any work, whatever the number of inputs.
    refused(cli("align", clip, tmp_path / "none.mp4", *QUICK, "--device=cuda"), words)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(_native, "find_library", lambda name: None)
    refused(cli("align", clip, *QUICK, "--device=cuda"), "built without its CUDA kernels")
    monkeypatch.setattr(_native, "find_library", lambda name: Path("libstnls_cuda.so"))
    refused(cli("align", clip, *QUICK, "--device=cuda:1"), "there are 1 CUDA devices")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    monkeypatch.setattr(_native, "cuda_build", lambda: _native.CudaBuild("13.0", "90"))
    refused(cli("align", clip, *QUICK, "--device=cuda:0"), "kernels were built for 90")
    assert resolve_device("auto").type == "cpu"
    monkeypatch.setattr(_native, "cuda_build", lambda: _native.CudaBuild("13.0", "80-real 90"))
    assert resolve_device("auto").type == resolve_device("cuda:0").type == "cuda"


@pytest.mark.parametrize("flow", ["tvl1-opencv", "deepflow"])
def test_wrong_opencv_wheel(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    import cv2

    for name in ("DualTVL1OpticalFlow_create", "createOptFlow_DeepFlow"):
        monkeypatch.delattr(cv2.optflow, name)
    ended = cli("align", clip, clip.parent, *QUICK, f"--flow={flow}")
    refused(ended, "which this OpenCV lacks")
    assert "-m pip uninstall -y opencv" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_without_pyav(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    refused(cli("align", clip, *QUICK), "PyAV (the module av) cannot be imported")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.png").write_bytes(b"png")
    refused(cli("align", "in", *QUICK), "-m pip install --force-reinstall 'av")


def test_without_opencv(clip: Path, tmp_path: Path, start: Any) -> None:
    """No flow and flow files need no OpenCV; a method says what is missing."""
    flows = tmp_path / "flow.npz"
    zeros = np.zeros((6, 32, 48, 2), np.float32)
    np.savez(flows, forward=zeros, backward=zeros)
    before = f"""
import sys
sys.modules["cv2"] = None
import stnls_cli
for flow in ("zero", {str(flows)!r}):
    stnls_cli.align({str(clip)!r}, f"out/{{len(flow)}}", flow=flow, ws=3, ps=3, wt=1)
"""
    process = start("align", clip, "--flow=dis", before=before)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), err
    assert len(err.splitlines()) == 1
    assert err.startswith("stnls: OpenCV (the module cv2) is not installed; run: ")
    scores = [
        [row.psnr for row in read_report(folder).rows] for folder in (tmp_path / "out").iterdir()
    ]
    assert len(scores) == 2
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("file/out", "cannot write"),
        ("file", "file is a file, not a folder; choose another -o"),
        ("mine", "mine holds files that are no run of stnls align; choose another -o"),
        ("/proc/none/out", "cannot write /proc/none/out.partial"),
        (".", "cannot be an output folder; choose another -o"),
    ],
)
def test_outputs_that_cannot_be(
    cli: Any, clip: Path, tmp_path: Path, output: str, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    refused(cli("align", clip, *QUICK, "-o", output), words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(cli: Any, clip: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    refused(cli("align", clip, *QUICK, "-o", locked / "out"), "Permission denied")
    unreadable = tmp_path / "in.mkv"
    shutil.copy(clip, unreadable)
    unreadable.chmod(0)
    refused(cli("align", unreadable, *QUICK), "cannot be read: Permission denied")


def test_unreadable_file(
    cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As above, also for root: the system call is made to fail."""
    real = Path.open

    def denied(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == clip:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", denied)
    refused(cli("align", clip, *QUICK), f"{clip}: cannot be read: Permission denied")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", ["aligned", "flow", "offsets", "video"])
def test_no_space(cli: Any, tmp_path: Path, save: str) -> None:
    """Files may not grow beyond 20 000 bytes: images, flows, offsets and videos are larger."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        write_image(folder / f"{index}.png", rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        ended = cli("align", folder, *QUICK, "--methods=shifted-nls", "-k9", f"--save={save}", "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    refused(ended, "cannot write ")
    assert "File too large" in ended.err
    # With space again the same command goes on to the end.
    ended = cli("align", folder, *QUICK, "--methods=shifted-nls", "-k9", f"--save={save}", "-q")
    assert (ended.code, ended.err) == (0, "")


def test_standard_output_is_closed(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stnls_cli", "align", str(clip), *QUICK, "--json", "-q"]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "stnls: cannot write to standard output: it is closed\n"
    assert (tmp_path / "clip.stnls/report.json").is_file()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_cores_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    from stnls_cli import cores as module

    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert module.usable_cores() == cores


def test_some_of_several(cli: Any, clip: Path, tmp_path: Path) -> None:
    ended = cli("align", tmp_path / "none.mp4", clip, *QUICK, "-q")
    assert ended.code == 1
    assert ended.lines == [
        f"stnls: {tmp_path}/none.mp4: no such file or folder",
        "stnls: 1 of 2 inputs failed",
    ]
    assert (tmp_path / "clip.stnls/report.json").is_file()
    ended = cli("align", tmp_path / "a.mp4", tmp_path / "b.mp4", *QUICK, "--json")
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 3)


def test_an_instruction_set_that_is_not_there(
    cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls import _native

    monkeypatch.setenv("STNLS_CPU_ISA", "sve")
    for cached in (_native.cpu_isa, _native.cpu_library):
        monkeypatch.setattr(_native, cached.__name__, cached.__wrapped__)
    words = "STNLS_CPU_ISA=sve is not available; here there are: baseline"
    other = Path(shutil.copy(clip, clip.with_name("other.mkv")))
    for inputs in ([clip], [clip, other]):
        refused(cli("align", *inputs, *QUICK, "-q"), words)
    refused(cli("flow", clip, "-q"), words)
    refused(cli("bench", "--quick", "--device", "cpu"), words)


def test_a_library_that_does_not_load_is_one_line(
    cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls import StnlsLibraryError, _native

    def broken() -> None:
        raise StnlsLibraryError("cannot load it; reinstall stnls")

    monkeypatch.setattr(_native, "cpu_library", broken)
    refused(cli("align", clip, *QUICK, "-q"), "stnls: cannot load it; reinstall stnls")


def test_an_unexpected_error_is_one_line_too(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stnls_cli.matching

    other = tmp_path / "other.mkv"
    shutil.copy(clip, other)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("division by zero\nand more")

    monkeypatch.setattr(stnls_cli.matching.PairedSearch, "subpixel", broken)
    ended = cli("align", clip, *QUICK, "-q")
    refused(ended, "unexpected ZeroDivisionError: division by zero (a fault of stnls", code=1)
    # It ends one input, not all of them.
    ended = cli("align", clip, other, *QUICK, "-q")
    assert (ended.code, len(ended.lines)) == (2, 3)
    monkeypatch.setenv("STNLS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        align(clip, tmp_path / "out", flow="zero", ws=3, ps=3, wt=1)
    from stnls_cli.app import main

    with pytest.raises(ZeroDivisionError):
        main(["align", str(clip), *QUICK, "-q"])


def test_a_package_that_is_missing_is_named(
    cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stnls_cli.matching

    def lacking(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'abc_needed.core'", name="abc_needed.core")

    monkeypatch.setattr(stnls_cli.matching.PairedSearch, "subpixel", lacking)
    ended = cli("align", clip, *QUICK, "-q")
    refused(ended, "the Python package abc_needed, which stnls needs, is not installed", code=1)


def test_out_of_memory(cli: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stnls_cli.matching

    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(stnls_cli.matching.PairedSearch, "subpixel", broken)
    refused(cli("align", clip, *QUICK, "-q"), "out of memory; a smaller --size needs less", code=1)
