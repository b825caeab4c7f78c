from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest


def make(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    dropped = "MAKE", "MFLAGS", "PYTHON", "STNLS_CUDA"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=root,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def targets(root: Path) -> list[str]:
    match = re.search(r"^\.PHONY:(.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert match
    return match[1].split()


def test_help_is_the_default_and_describes_every_target(root: Path) -> None:
    described = dict(
        line.split(maxsplit=1)
        for line in make(root).stdout.splitlines()
        if re.match(r"  [a-z-]+ +\S", line)
    )
    assert sorted(described) == sorted(targets(root))
    assert {"demo", "test", "lint", "bench", "gpu-check", "samples", "clean"} <= described.keys()
    assert all(len(text) > 10 for text in described.values())
    assert make(root).stdout == make(root, "help").stdout


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("exit 127", "is not supported"),
        ('[ "$1" = --version ] && echo Python 3.9.2; exit 1', "Python 3.9.2 is not supported"),
        ('case "$2" in *version_info*) exit 0;; esac; exit 1', "apt-get install python3-venv"),
    ],
)
def test_python_that_will_not_do(root: Path, tmp_path: Path, python: str, message: str) -> None:
    fake = script(tmp_path / "python3", python)
    done = make(root, "setup", f"PYTHON={fake}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all(root: Path, tmp_path: Path) -> None:
    done = make(root, "setup", f"PYTHON={tmp_path / 'python9'}", f"VENV={tmp_path / 'venv'}")
    assert "python9 was not found: install Python 3.10 to 3.13" in done.stderr.splitlines()[0]


def test_no_compiler(root: Path, tmp_path: Path) -> None:
    done = make(root, "setup", f"VENV={tmp_path / 'venv'}", CXX=str(tmp_path / "c++"))
    assert done.returncode != 0
    assert done.stderr.startswith("no C++ compiler was found: install one")


def test_folder_that_is_no_virtual_environment_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    done = make(root, "setup", f"VENV={tmp_path}")
    assert done.returncode != 0
    assert done.stderr.startswith(f"{tmp_path} exists and is no virtual environment")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_flow_of_a_clip_goes_to_the_benchmark(root: Path) -> None:
    (line,) = re.findall(r"-m stnls_cli.bench [^>]*", make(root, "-n", "gpu-bench").stdout)
    assert "--flow-file" not in line
    given = make(root, "-n", "gpu-bench", "CLIP_FLOW=my clip.npz").stdout
    (line,) = re.findall(r"-m stnls_cli.bench [^>]*", given)
    assert line.split()[-3:] == ["--flow-file", '"my', 'clip.npz"']
    assert line.startswith("-m stnls_cli.bench --device cuda --sweep --json")


def stamp_of(root: Path, venv: Path, *left_out: str) -> Path:
    """The mark of a finished set-up, with the modules that were there."""
    files = [path for top in ("cuda_ext/stnls", "stnls_cli") for path in (root / top).rglob("*.py")]
    modules = {str(path.relative_to(root)) for path in files} - set(left_out)
    venv.mkdir()
    stamp = venv / ".stnls-ready"
    stamp.write_text(" ".join(sorted(modules)) + "\n")
    return stamp


def test_environment_is_renewed_when_a_module_is_new(root: Path, tmp_path: Path) -> None:
    """An editable install would not find it."""
    stamp = stamp_of(root, tmp_path / "venv", "cuda_ext/stnls/__init__.py")
    future = stamp.stat().st_mtime + 1e6
    os.utime(stamp, (future, future))
    assert "setup_venv.py" in make(root, "-n", "test", f"VENV={tmp_path / 'venv'}").stdout


def test_environment_keeps_the_kernels_that_it_was_made_with(root: Path, tmp_path: Path) -> None:
    """STNLS_CUDA=OFF make demo, then make test: the kernels for GPUs are still left out."""
    venv = tmp_path / "venv"
    stamp = stamp_of(root, venv)
    future = stamp.stat().st_mtime + 1e6
    os.utime(stamp, (future, future))

    def renews(**environment: str) -> bool:
        return "setup_venv.py" in make(root, "-n", "test", f"VENV={venv}", **environment).stdout

    assert not renews()
    assert renews(STNLS_CUDA="OFF")
    (venv / ".stnls-cuda").write_text("OFF\n")
    assert not renews()
    assert not renews(STNLS_CUDA="OFF")
    assert renews(STNLS_CUDA="ON")


def test_environment_is_renewed_when_the_kernels_change(root: Path, tmp_path: Path) -> None:
    """A dry run says whether the set-up would run again."""
    venv = tmp_path / "venv"
    stamp = stamp_of(root, venv)
    future = stamp.stat().st_mtime + 1e6
    os.utime(stamp, (future, future))
    assert "setup_venv.py" not in make(root, "-n", "test", f"VENV={venv}").stdout
    os.utime(stamp, (1, 1))
    assert "setup_venv.py" in make(root, "-n", "test", f"VENV={venv}").stdout
    for source in ("cuda_ext/csrc/search/direct.h", "pyproject.toml", "constraints.txt"):
        newer = make(root, "-n", "-o", str(stamp), "-W", source, "test", f"VENV={venv}").stdout
        assert "setup_venv.py" not in newer  # -o: the stamp counts as old and done
        os.utime(stamp, (future, future))
        assert "setup_venv.py" in make(root, "-n", "-W", source, "test", f"VENV={venv}").stdout
        os.utime(stamp, (1, 1))
