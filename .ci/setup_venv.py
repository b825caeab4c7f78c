"""Make or renew the virtual environment of the make targets: pinned packages, compiled kernels.

python3 .ci/setup_venv.py .venv
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINNED = ("--constraint", str(ROOT / "constraints.txt"))
BUILD_TOOLS = ("scikit-build-core", "cmake", "ninja")
HEADLESS = "opencv-contrib-python-headless"
OBJECTS = ROOT / "build" / "editable"
"""Where scikit-build-core compiles (pyproject.toml)."""
SECONDS = 30.0
"""From one word about the compiler's progress to the next."""
COMPILERS = ("/usr/local/cuda/bin", "/usr/local/bin", "/usr/bin")
"""Where CMake looks for nvcc in any case."""


def say(words: str) -> None:
    """Tell the person at the terminal."""
    print(f"[setup] {words}", file=sys.stderr, flush=True)


def make_venv(folder: Path) -> Path:
    """Path of the environment's Python; the environment is made if it is not there."""
    python = folder / "bin" / "python"
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        sys.exit(f"{folder} exists and is no virtual environment: name another, make VENV=...")
    if not python.exists():
        say(f"making the virtual environment {folder} with Python {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return python


def pip(python: Path, *arguments: str) -> None:
    """Run pip, quietly; its own words and exit code where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"[setup] this failed: {' '.join(command)}")


def cv2_error(python: Path) -> str | None:
    """Why cv2 cannot be imported, or None."""
    done = subprocess.run(
        [str(python), "-c", "import cv2"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def settle_opencv(python: Path) -> None:
    """The headless wheel in place of the other, where the machine lacks the libraries of a screen.

    Where both are installed, each has overwritten a part of the other, so both go first.
    """
    found = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    wheels = [name for name in (line.split("==")[0] for line in found) if "opencv" in name]
    error = cv2_error(python)
    if error is None and len(wheels) == 1:
        return
    if error is not None and ".so" not in error:
        sys.exit(f"[setup] OpenCV does not work: {error}")
    if error is not None:
        say(f"opencv-contrib-python does not work here ({error}); taking {HEADLESS} instead")
    pip(python, "uninstall", "--yes", *wheels)
    pip(python, "install", *PINNED, HEADLESS if error else "opencv-contrib-python")


def compiles_cuda() -> bool:
    """Whether CMake will find nvcc (cuda_ext/CMakeLists.txt).

    `stnls doctor` looks likewise, but cannot be imported before this is done."""
    wanted = os.environ.get("STNLS_CUDA", "AUTO").upper()
    if wanted != "AUTO":
        return wanted == "ON"
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [*os.get_exec_path(), *(f"{home}/bin" for home in homes), *COMPILERS]
    name = os.environ.get("CUDACXX", "nvcc")
    return shutil.which(name, path=os.pathsep.join(folders)) is not None


def compiled(since: float) -> tuple[int, int]:
    """Object files that are newer than that, and all that there are to be."""
    ninja = OBJECTS / "build.ninja"
    steps = ninja.read_text().splitlines() if ninja.is_file() else []
    names = [line.split()[1].rstrip(":") for line in steps if re.match(r"build \S+\.o:", line)]
    made = [path for path in map(OBJECTS.joinpath, names) if path.is_file()]
    return sum(path.stat().st_mtime >= since for path in made), len(names)


@contextmanager
def progress() -> Iterator[None]:
    """Say every now and then how many files the compiler has done."""
    began, done = time.time(), threading.Event()
    everything = not OBJECTS.exists()  # else only what has changed is compiled

    def tell() -> None:
        before = 0
        while not done.wait(SECONDS):
            with suppress(OSError):  # a file that goes just now
                count, files = compiled(began - 1)  # a file system's clock is coarser
                if count == before:
                    continue
                before = count
                of_all = f" of {files}" if everything else ""
                rest = "; now the packages" if count == files else ""
                say(f"compiled {count}{of_all} files after {time.time() - began:.0f} s{rest}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Do it, saying what takes long."""
    began = time.monotonic()
    python = make_venv(Path(sys.argv[1]))
    pip(python, "install", *PINNED, *BUILD_TOOLS)
    say("loading packages (the first time PyTorch, OpenCV and others), compiling the kernels,")
    if compiles_cuda():
        say("those for GPUs too (the first time a quarter of an hour on two cores; without them,")
        say("STNLS_CUDA=OFF, some six minutes), installing")
    else:
        say("not those for GPUs (the first time some six minutes on two cores), installing")
    with progress():
        pip(python, "install", *PINNED, "--no-build-isolation", "--editable", ".[dev]")
    settle_opencv(python)
    # For the Makefile: what is renewed later is built alike.
    (python.parent.parent / ".stnls-cuda").write_text(os.environ.get("STNLS_CUDA", "AUTO") + "\n")
    seconds = time.monotonic() - began
    say(f"ready after {seconds:.0f} s; `{python.parent / 'stnls'} doctor` tells more")


if __name__ == "__main__":
    os.environ.setdefault("STNLS_CUDA_ARCHITECTURES", "native")
    main()
