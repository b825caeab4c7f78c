"""A wheel and an editable install both carry the kernels, and the library finds them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HAS_NVCC = bool(shutil.which("nvcc")) or Path("/usr/local/cuda/bin/nvcc").exists()

PROBE = """
import json, stnls, stnls_cli, torch
from importlib import metadata
from stnls import _native

q = torch.rand(1, 3, 24, 24)
found = stnls.search.PairedSearch(ws=3, ps=3, k=1, stride0=1)(q, q, torch.zeros(1, 2, 24, 24))
print(json.dumps({
    "libraries": [str(_native.find_library(name)) for name in (*_native.CPU_ISAS, "cuda")],
    "isa": _native.cpu_isa(),
    "cuda": _native.cuda_build(),
    "version": metadata.version("stnls"),
    "sources": [stnls.__file__, stnls_cli.__file__],
    "best": float(found[0].abs().max()),
}))
"""


def pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "STNLS_CUDA": "AUTO",
        "STNLS_CUDA_ARCHITECTURES": "90",
        "CMAKE_ARGS": "-DCMAKE_CXX_FLAGS_RELEASE=-O0",  # what counts here is not the speed
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        [str(python), "-m", "pip", *arguments], env=environment, capture_output=True, text=True
    )


def build_in(folder: Path) -> str:
    return f"--config-settings=build-dir={folder}"


def clean_python(folder: Path) -> Path:
    """A new environment that sees the packages of this one after its own, stnls among its own."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    place = subprocess.check_output(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    Path(place, "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def probe(python: Path, folder: Path) -> dict[str, object]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "STNLS_LIBRARY_DIR")}
    text = subprocess.check_output([str(python), "-c", PROBE], cwd=folder, env=kept, text=True)
    found: dict[str, object] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it: in an environment of its own, without torch."""
    folder = tmp_path_factory.mktemp("wheel")
    build = build_in(tmp_path_factory.mktemp("build"))
    done = pip(Path(sys.executable), "wheel", "--no-deps", "-w", str(folder), build, str(root))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (path,) = folder.iterdir()
    return path


def test_wheel_is_for_every_python(wheel: Path) -> None:
    assert re.fullmatch(r"stnls-[\d.]+-py3-none-(many)?linux\w*_(x86_64|aarch64)\.whl", wheel.name)


def test_wheel_has_the_kernels_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    libraries = {Path(name).name for name in names if name.startswith("stnls/_lib/")}
    expected = {"libstnls_baseline.so"}
    if os.uname().machine == "x86_64":
        expected |= {"libstnls_avx2.so", "libstnls_avx512.so"}
    if HAS_NVCC:
        expected |= {"libstnls_cuda.so"}
    assert libraries == expected
    assert {"stnls/py.typed", "stnls_cli/py.typed", "stnls_cli/__init__.py"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stnls", "stnls_cli"}
    assert not [name for name in names if "test" in name or name.endswith((".cpp", ".h", ".cu"))]
    assert not [name for name in names if "__pycache__" in name]


def test_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    python = clean_python(tmp_path / "venv")
    done = pip(python, "install", "--no-deps", str(wheel))
    assert done.returncode == 0, done.stderr
    found = probe(python, tmp_path)
    check_found(found, tmp_path / "venv", sources=tmp_path / "venv")
    assert (tmp_path / "venv/bin/stnls").is_file()
    pytest.importorskip("mypy", reason="mypy is not installed")
    script = tmp_path / "script.py"
    script.write_text("import stnls\nimport stnls_cli\n")
    # That both say they are typed; what PyTorch says would take a minute.
    mypy = ["-m", "mypy", "--strict", "--follow-imports=skip", "--cache-dir=/dev/null"]
    done = subprocess.run([str(python), *mypy, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_editable(root: Path, tmp_path: Path) -> None:
    python = clean_python(tmp_path / "venv")
    build = build_in(tmp_path / "build")
    done = pip(python, "install", "--no-deps", build, "--editable", str(root))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check_found(probe(python, tmp_path), tmp_path / "venv", sources=root)


def check_found(found: dict[str, object], venv: Path, *, sources: Path) -> None:
    assert isinstance(found["libraries"], list)
    assert isinstance(found["sources"], list)
    built = [path for path in found["libraries"] if path != "None"]
    assert built
    assert all(Path(path).is_relative_to(venv) for path in built)
    assert all(Path(path).is_relative_to(sources) for path in found["sources"])
    assert found["best"] == 0  # every patch finds itself
    if HAS_NVCC:
        assert isinstance(found["cuda"], list)
        assert found["cuda"][1] == "90"
    else:
        assert found["cuda"] is None


def test_on_without_nvcc_fails_in_pip_with_one_line(root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "STNLS_CUDA": "ON", "CUDACXX": "/nowhere/nvcc"}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path)]
    done = subprocess.run(
        [*command, build_in(tmp_path / "build"), str(root)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "STNLS_CUDA=ON" in line]
    assert "install the CUDA toolkit" in line
    assert "STNLS_CUDA=OFF" in line
