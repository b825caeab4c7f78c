"""What is said about an OpenCV that is missing, broken or the wrong one."""

from __future__ import annotations

import builtins
import importlib.metadata
import shlex
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stnls_cli.errors import UserError
from stnls_cli.flow import FLOW_METHODS, open_flow_source
from stnls_cli.flow.opencv import import_cv2, opencv_status, require_tvl1


def install(monkeypatch: pytest.MonkeyPatch, *wheels: str) -> None:
    """Pretend that these wheels, and nothing else, are installed."""
    found = [SimpleNamespace(metadata={"Name": name}, version="4.10.0.84") for name in wheels]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(found))
    needed = ["av<9,>=8", "opencv-contrib-python<7,>=6 ; python_version > '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)


def module(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> None:
    """Pretend that `import cv2` gives a module with these attributes."""
    cv2 = ModuleType("cv2")
    vars(cv2).update(attributes)
    monkeypatch.setitem(sys.modules, "cv2", cv2)


def import_fails(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(builtins, "__import__", fake)


def commands(remedy: str | None) -> list[list[str]]:
    assert remedy is not None
    return [shlex.split(part) for part in remedy.split(" && ")]


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "numpy")
    import_fails(monkeypatch, ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    with pytest.raises(UserError, match=r"OpenCV .* is not installed; run: ") as caught:
        import_cv2()
    assert "\n" not in str(caught.value)
    status = opencv_status()
    assert status.version is None
    assert not status.tvl1
    assert status.system_libraries
    assert commands(status.remedy) == [
        [sys.executable, "-m", "pip", "install", "opencv-contrib-python<7,>=6"]
    ]


def test_libgl_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-contrib-python")
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    import_fails(monkeypatch, ImportError(message))
    with pytest.raises(UserError, match=r"system library libGL\.so\.1") as caught:
        import_cv2()
    assert "apt-get install libgl1" in str(caught.value)
    assert "opencv-contrib-python-headless" in str(caught.value)
    status = opencv_status()
    assert not status.system_libraries
    assert [command[3:] for command in commands(status.remedy)] == [
        ["uninstall", "-y", "opencv-contrib-python"],
        ["install", "opencv-contrib-python-headless<7,>=6"],
    ]


def test_another_import_error_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-contrib-python")
    import_fails(monkeypatch, ImportError("numpy.core.multiarray failed to import"))
    with pytest.raises(UserError, match="multiarray failed to import"):
        import_cv2()


def test_overwritten_by_another_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other wheel leaves cv2.optflow in place, with nothing in it."""
    install(monkeypatch, "opencv-python", "OpenCV_Contrib_Python", "opencv-stubs", "av")
    module(
        monkeypatch,
        __version__="4.10.0",
        DISOpticalFlow_create=lambda preset: None,
        optflow=ModuleType("cv2.optflow"),
    )
    with pytest.raises(UserError, match="DualTVL1OpticalFlow_create") as caught:
        require_tvl1()
    assert "opencv-contrib-python, opencv-python, which overwrite one another" in str(caught.value)
    status = opencv_status()
    assert status.version == "4.10.0"
    assert status.wheels == ("opencv-contrib-python 4.10.0.84", "opencv-python 4.10.0.84")
    assert not status.tvl1
    assert [command[3:] for command in commands(status.remedy)] == [
        ["uninstall", "-y", "opencv-contrib-python", "opencv-python"],
        ["install", "opencv-contrib-python<7,>=6"],
    ]
    with pytest.raises(UserError, match="DeepFlow needs"):
        open_flow_source("deepflow", height=40, width=40)


def test_headless_wheel_without_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-python-headless")
    module(monkeypatch, __version__="4.10.0", DISOpticalFlow_create=lambda preset: None)
    assert [command[3:] for command in commands(opencv_status().remedy)] == [
        ["uninstall", "-y", "opencv-python-headless"],
        ["install", "opencv-contrib-python-headless<7,>=6"],
    ]


def test_gutted_by_an_uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "opencv-contrib-python")
    module(monkeypatch)
    with pytest.raises(UserError, match="only in part installed"):
        import_cv2()
    status = opencv_status()
    assert status.version is None
    assert status.problem is not None


def test_found_out_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    import_fails(monkeypatch, ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    for name in FLOW_METHODS:
        if name in ("zero", "tvl1", "tvl1-fast"):  # these need no OpenCV
            open_flow_source(name, height=40, width=40).close()
        else:
            with pytest.raises(UserError, match="is not installed"):
                open_flow_source(name, height=40, width=40)


def test_this_installation() -> None:
    pytest.importorskip("cv2")
    status = opencv_status()
    assert status.tvl1
    assert status.problem is None
    assert status.remedy is None
    assert status.version is not None
