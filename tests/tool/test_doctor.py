from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from stnls_cli.app import main
from stnls_cli.architectures import serves
from stnls_cli.doctor import CHECKS, cuda, examine, kernels, opencv, packages
from stnls_cli.doctor.gpus import Gpu, driver_gpus
from stnls_cli.flow.opencv import OpenCVStatus

H200 = Gpu("NVIDIA H200", (9, 0))


Run = Callable[..., "Ran"]


class Ran(NamedTuple):
    """What `stnls doctor` did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("--json")`: the command line as a user has it."""

    def call(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as exit_:
            main(["doctor", *arguments])
        code = exit_.value.code
        assert isinstance(code, int)
        return Ran(code, *capfd.readouterr())

    return call


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("90", (9, 0), True),
        ("90", (12, 0), True),  # by its PTX
        ("90", (8, 9), False),
        ("90-real", (12, 0), False),
        ("80-real", (8, 6), True),  # same generation, later step
        ("86-real", (8, 0), False),
        ("86", (8, 0), False),
        ("90-virtual", (9, 0), True),
        ("75-real 80-real 121", (12, 1), True),
        ("75-real 80-real 121", (9, 0), False),
        ("90a", (9, 0), True),
        ("90a", (12, 0), False),
        ("100f", (10, 3), True),
        ("100f", (12, 0), False),
        ("", (9, 0), False),
        ("native", (9, 0), False),
    ],
)
def test_architectures_and_the_gpus_they_serve(
    architectures: str, capability: tuple[int, int], expected: bool
) -> None:
    assert serves(architectures, capability) is expected


def test_text_has_one_line_for_each_fact(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in lines] == list(CHECKS)
    assert {line.split()[0] for line in lines} <= {"ok", "missing", "problem"}


def test_this_environment_is_found_whole() -> None:
    facts = examine()
    for name in (
        "stnls",
        "python",
        "torch",
        "numpy",
        "kornia",
        "rich",
        "page",
        "av",
        "ffmpeg",
        "opencv",
    ):
        assert facts[name].ok, (name, facts[name])
    for name in ("tvl1", "cpu", "isa", "threads"):
        assert facts[name].ok, (name, facts[name])
    assert facts["isa"].details["in_use"] in facts["isa"].details["built"]
    assert facts["ffmpeg"].details["libraries"]["libavcodec"].split(".")[0].isdigit()


def test_json(run: Run) -> None:
    document = json.loads(run("--json", "--require", "python,torch").out)
    assert document["schema_version"] == 1
    assert document["ok"] is True
    assert list(document["facts"]) == list(CHECKS)
    assert document["facts"]["torch"]["version"] == sys.modules["torch"].__version__


def test_require_exits_1_and_still_prints(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(cuda, "_torch", lambda: None)
    code, out, err = run("--require", "python,cuda", "--require", "cuda")
    assert code == 1
    assert err == "stnls: required, but not ok: cuda\n"
    assert "python" in out
    assert json.loads(run("--json", "--require", "cuda").out)["ok"] is False


@pytest.mark.parametrize("wanted", ["cudda", "cuda,", ""])
def test_require_of_an_unknown_name_is_a_usage_error(run: Run, wanted: str) -> None:
    code, out, err = run("--require", wanted)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert repr(wanted.split(",")[-1]) in err
    assert all(name in err for name in CHECKS)


def test_everything_missing_is_said_and_does_not_crash(root: Path) -> None:
    gone = ("torch", "numpy", "kornia", "av", "cv2", "jinja2", "matplotlib")
    code = (
        "import sys, importlib\n"
        f"for name in {gone}: sys.modules[name] = None\n"
        "from stnls_cli.app import main\n"
        "main(['doctor', '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["facts"]
    for name in ("torch", "numpy", "kornia", "av"):
        assert facts[name]["status"] == "missing"
        requirement = facts[name]["remedy"].removeprefix(f"run: {sys.executable} -m pip install ")
        assert requirement.strip("'").startswith(f"{name}<"), requirement
    assert "torch cannot be imported" in facts["cuda"]["summary"]
    assert (facts["page"]["status"], facts["page"]["summary"]) == (
        "missing",
        "Jinja2: not installed",
    )
    assert "jinja2<" in facts["page"]["remedy"]
    for name in ("ffmpeg", "opencv", "tvl1", "cpu", "isa", "cuda-kernels", "cuda"):
        assert facts[name]["status"] != "ok", name
    assert "torch" in facts["cpu"]["summary"]
    assert facts["python"]["status"] == "ok"
    assert facts["threads"]["status"] == "ok"


def test_a_package_that_breaks_while_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "av.py").write_text("raise OSError('libx.so.1: cannot open\\nshared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "av", raising=False)
    fact = packages.check_av()
    assert fact.status == "problem"
    assert "libx.so.1: cannot open shared object file" in fact.summary
    assert packages.check_ffmpeg().status == "missing"


def test_ffmpeg_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(name: str, mode: str) -> None:
        assert mode == "w"
        if name == "ffv1":
            raise ValueError(name)

    fake = SimpleNamespace(
        ffmpeg_version_info="9.9",
        library_versions={"libavcodec": (70, 1, 2)},
        codec=SimpleNamespace(Codec=codec),
    )
    monkeypatch.setitem(sys.modules, "av", fake)
    fact = packages.check_ffmpeg()
    assert fact.status == "problem"
    assert fact.summary == "9.9 has no encoder for ffv1 (libavcodec 70.1.2)"


def opencv_is(monkeypatch: pytest.MonkeyPatch, status: OpenCVStatus) -> None:
    monkeypatch.setattr(opencv, "_status", lambda: status)


def test_opencv_overwritten_by_another_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = ("opencv-contrib-python 5.0.0.93", "opencv-python 5.0.0.93")
    opencv_is(monkeypatch, OpenCVStatus("5.0.0", wheels, False, True, "no TV-L1", "pip reinstall"))
    fact = opencv.check_tvl1()
    assert (fact.status, fact.remedy) == ("missing", "run: pip reinstall")
    assert fact.summary == "no TV-L1 (--flow tvl1, the default, does without)"
    fact = opencv.check_opencv()
    assert fact.status == "problem"
    assert "overwrite one another" in fact.summary
    assert fact.details["wheels"] == list(wheels)
    assert opencv.check_libgl().ok


def test_libgl_has_its_own_message(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = ("opencv-contrib-python 5.0.0.93",)
    problem = "OpenCV needs the system library libGL.so.1, which is missing"
    opencv_is(monkeypatch, OpenCVStatus(None, wheels, False, False, problem, "pip headless"))
    for check in (opencv.check_libgl, opencv.check_tvl1, opencv.check_opencv):
        fact = check()
        assert fact.status == ("problem" if check is opencv.check_opencv else "missing")
        assert fact.summary.removesuffix(" (--flow tvl1, the default, does without)") == problem
        assert fact.remedy == "run: pip headless"


def test_headless_wheel_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = ("opencv-contrib-python-headless 5.0.0.93",)
    opencv_is(monkeypatch, OpenCVStatus("5.0.0", wheels, True, True, None, None))
    assert opencv.check_opencv().ok
    assert opencv.check_tvl1().ok
    assert opencv.check_libgl().summary == "not needed by the headless wheel"


def test_kernels_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    native = kernels.native()
    monkeypatch.setattr(native, "library_folders", lambda: [tmp_path])
    assert kernels.check_cpu().status == "missing"
    assert str(tmp_path) in kernels.check_cpu().summary
    assert kernels.check_cpu().remedy == native.REBUILD
    assert kernels.check_isa().status == "missing"
    monkeypatch.setattr(cuda, "_present_gpus", lambda: [H200])
    assert cuda.check_cuda_kernels().status == "missing"
    assert cuda.check_cuda_kernels().summary == "not built"
    assert "not built" in cuda.check_cuda().summary
    assert "STNLS_CUDA=ON" in str(cuda.check_cuda().remedy)
    monkeypatch.setattr(cuda, "_present_gpus", list)
    assert "no GPU here" in cuda.check_cuda_kernels().summary
    assert cuda.check_cuda_kernels().remedy is cuda.check_cuda().remedy is None


def test_instruction_set_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STNLS_CPU_ISA", "sve")
    kernels.native().cpu_isa.cache_clear()
    try:
        fact = examine()["isa"]
    finally:
        kernels.native().cpu_isa.cache_clear()
    assert fact.status == "problem"
    assert "STNLS_CPU_ISA=sve" in fact.summary


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    architectures: str | None = "90",
    torch_cuda: str | None = "13.0",
    gpus: tuple[Gpu, ...] = (H200,),
    driver: tuple[Gpu, ...] = (H200,),
) -> None:
    """A machine with these kernels, this torch and these GPUs."""
    torch: Any = SimpleNamespace(
        __version__="2.13.0", version=SimpleNamespace(cuda=torch_cuda), get_num_threads=lambda: 2
    )
    monkeypatch.setattr(cuda, "_torch", lambda: torch)
    monkeypatch.setattr(cuda, "torch_gpus", lambda torch: list(gpus))
    monkeypatch.setattr(cuda, "driver_gpus", lambda: list(driver))
    monkeypatch.setattr(cuda, "_architectures", lambda: architectures)


def test_gpu_that_the_kernels_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, architectures="75-real 90")
    assert cuda.check_cuda().ok
    fact = cuda.check_gpu()
    assert fact.ok
    assert fact.summary == "NVIDIA H200 (compute capability 9.0)"
    assert fact.details["gpus"] == [{"name": "NVIDIA H200", "capability": [9, 0], "served": True}]


def test_gpu_that_the_kernels_do_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, architectures="100")
    for check in (cuda.check_gpu, cuda.check_cuda):
        fact = check()
        assert fact.status == "problem"
        assert "NVIDIA H200" in fact.summary
        assert 'STNLS_CUDA_ARCHITECTURES="90"' in str(fact.remedy)


def test_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, torch_cuda=None, gpus=())
    assert cuda.check_gpu().status == "problem"
    assert "not by torch" in cuda.check_gpu().summary
    assert cuda.check_cuda().summary == "off: torch 2.13.0 is built without CUDA"


def test_no_gpu_or_a_hidden_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpus=(), driver=())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda.check_gpu().summary == "none found"
    assert cuda.check_cuda().summary == "off: torch sees no GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cuda.check_gpu().summary == "none found (CUDA_VISIBLE_DEVICES=)"


def test_gpus_from_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_gpus() == []
    smi = script(tmp_path / "nvidia-smi", "echo 'NVIDIA H200, 9.0'; echo 'NVIDIA GB10, Max, 12.1'")
    assert driver_gpus() == [H200, Gpu("NVIDIA GB10, Max", (12, 1))]
    script(smi, "echo 'No devices were found'; exit 6")
    assert driver_gpus() == []


def test_nvcc_is_looked_for_where_the_build_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("CUDACXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    text = "echo 'Cuda compilation tools, release 13.0, V13.0.88'"
    for folder in ("path", "home/bin"):
        (tmp_path / folder).mkdir(parents=True)
        script(tmp_path / folder / "nvcc", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    assert cuda.find_nvcc() == str(tmp_path / "path/nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert cuda.find_nvcc() == str(tmp_path / "home/bin/nvcc")
    assert cuda.check_nvcc().summary == f"CUDA 13.0 at {tmp_path / 'home/bin/nvcc'}"
    monkeypatch.setenv("CUDACXX", str(tmp_path / "none"))
    assert cuda.check_nvcc().status == "missing"
    assert str(tmp_path / "none") in cuda.check_nvcc().summary
    monkeypatch.setenv("CUDACXX", str(script(tmp_path / "broken", "exit 1")))
    assert cuda.check_nvcc().status == "problem"


@pytest.mark.gpu
def test_cuda_is_on_where_there_is_a_gpu() -> None:
    facts = examine()
    assert facts["gpu"].ok, facts["gpu"]
    assert facts["cuda"].ok, facts["cuda"]
