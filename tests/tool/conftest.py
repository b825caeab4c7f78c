"""Clips that tests make for themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from outcome import Ended

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="session")
def textured() -> Callable[..., Frames]:
    """`textured(n, height=64, width=96)`: n frames of a texture that moves by (2, 1) pixels."""

    def make(count: int, height: int = 64, width: int = 96) -> Frames:
        rng = np.random.default_rng(1)
        shape = (height // 8 + count // 8 + 2, width // 8 + count // 4 + 2, 3)
        scene = np.kron(rng.integers(0, 256, shape), np.ones((8, 8, 1), int)).astype(np.uint8)
        return [
            np.ascontiguousarray(scene[i : i + height, 2 * i : 2 * i + width]) for i in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def encode() -> Callable[..., Path]:
    """`encode(path, frames, codec=, pixel_format=, ...)`: write RGB frames as a video file.

    `times`: presentation times in 1/`rate` s (default 0, 1, ...); `setup(stream)` may set more.
    """

    def write(
        path: Path,
        frames: Frames,
        *,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        times: list[int] | None = None,
        rate: int = 25,
        setup: Callable[[Any], None] | None = None,
    ) -> Path:
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.time_base = Fraction(1, rate)
            if setup is not None:
                setup(stream)
            for index, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
                frame.pts = times[index] if times else index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def clip(
    tmp_path_factory: pytest.TempPathFactory,
    textured: Callable[..., Frames],
    encode: Callable[..., Path],
) -> Path:
    """A lossless clip of six frames of 48x32; its name is `clip.mkv`."""
    path: Path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return encode(path, textured(6, 32, 48), codec="ffv1", pixel_format="bgr0")


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`cli("align", "a.mp4", ...)`: runs the tool in this process, in the folder `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str | Path) -> Ended:
        from stnls_cli.app import main

        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        code = left.value.code
        assert isinstance(code, int)
        return Ended(code, *capfd.readouterr())

    return run


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`start("align", "a.mp4", ..., before="python code")`: starts the tool as a process."""

    def begin(
        *arguments: str | Path, before: str = "", env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        code = f"{before}\nfrom stnls_cli.app import main\nmain()"
        # Where the tests themselves run in the background, Ctrl-C is ignored, also by children.
        options.setdefault("preexec_fn", _heed_interrupts)
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80", **(env or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    return begin
