"""What `align` writes: images, videos, flows, matches, and the two reports."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stnls_cli import UserError, align
from stnls_cli.flow import read_flo, write_flow_npz
from stnls_cli.report import COLUMNS
from stnls_cli.video import open_clip, read_image, write_image

QUICK: dict[str, Any] = {"flow": "farneback", "ws": 3, "ps": 3, "wt": 1, "metrics": "psnr"}


def files(folder: Path) -> list[str]:
    """Names, without the pictures of the page."""
    names = (str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if not name.startswith("pictures/"))


def strict(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_images_in_an_order_that_ffmpeg_reads(tmp_path: Path, clip: Path) -> None:
    align(clip, tmp_path / "out", start=1, **{**QUICK, "wt": 2})
    for dt, first, count in ((-2, 3, 3), (-1, 2, 4), (1, 1, 4), (2, 1, 3)):
        folder = tmp_path / "out/aligned" / f"dt{dt:+d}"
        assert files(folder) == [f"{t:05d}.png" for t in range(first, first + count)]
        pattern = str(folder / "%05d.png")
        options = {"start_number": str(first)}
        with av.open(pattern, format="image2", options=options) as images:
            decoded = [frame.to_ndarray(format="rgb24") for frame in images.decode(video=0)]
        assert len(decoded) == count
        for offset, image in enumerate(decoded):
            np.testing.assert_array_equal(image, read_image(folder / f"{first + offset:05d}.png"))


def test_formats(tmp_path: Path, clip: Path) -> None:
    images = {}
    for image_format in ("npy", "png", "png16"):
        align(clip, tmp_path / image_format, format=image_format, **QUICK)
        suffix = ".npy" if image_format == "npy" else ".png"
        images[image_format] = read_image(
            tmp_path / image_format / "aligned/dt+1" / f"00002{suffix}"
        )
    exact = images["npy"]
    assert exact.dtype == np.float32
    assert exact.shape == (32, 48, 3)
    assert np.any(exact != np.rint(exact))
    np.testing.assert_array_equal(images["png"], np.rint(exact).clip(0, 255).astype(np.uint8))
    np.testing.assert_allclose(images["png16"], exact, atol=0.5 / 257 + 1e-4)


@pytest.mark.parametrize("save", ["video", "aligned,video"])
def test_lossless_video_for_each_dt(tmp_path: Path, clip: Path, save: str) -> None:
    align(clip, tmp_path / "images", **{**QUICK, "wt": 2})
    align(clip, tmp_path / "out", save=save, **{**QUICK, "wt": 2})
    names = [f"dt{dt:+d}" for dt in (-2, -1, 1, 2)]
    videos = [f"video/{name}.mkv" for name in names]
    reports = ["report.csv", "report.html", "report.json", "run.json"]
    images = [name for name in files(tmp_path / "images") if name.startswith("aligned")]
    wanted = videos + reports + (images if "aligned" in save else [])
    assert files(tmp_path / "out") == sorted(wanted)
    for name in names:
        with open_clip(tmp_path / "out/video" / f"{name}.mkv") as video:
            assert video.info.rate == Fraction(25)
            decoded = [frame.rgb for frame in video]
        stills = [
            read_image(path) for path in sorted((tmp_path / "images/aligned" / name).iterdir())
        ]
        np.testing.assert_array_equal(np.stack(decoded), np.stack(stills))


def test_deep_sources_make_deep_video(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for t in range(3):
        deep = rng.uniform(0, 255, (16, 20, 3)).astype(np.float32)
        write_image(folder / f"{t}.png", deep, "png16")
    align(folder, tmp_path / "out", save="aligned,video", format="png16", **QUICK)
    with open_clip(tmp_path / "out/video/dt-1.mkv") as video:
        assert video.info.bit_depth == 16
        for frame in video:
            still = read_image(tmp_path / f"out/aligned/dt-1/{frame.index + 1:05d}.png")
            np.testing.assert_array_equal(frame.rgb, still)


@pytest.mark.parametrize("k", [1, 4])
def test_matches(tmp_path: Path, clip: Path, k: int) -> None:
    out = tmp_path / "out"
    align(clip, out, save="offsets,distance", k=k, prior=0.0, **QUICK)
    lead = () if k == 1 else (k,)
    with np.load(out / "offsets/dt-1/00003.npz") as offsets:
        assert {key: offsets[key].shape for key in offsets} == {"offset": (*lead, 32, 48, 2)}
        assert offsets["offset"].dtype == np.float32
    with np.load(out / "distance/dt-1/00003.npz") as distances:
        assert {key: distances[key].shape for key in distances} == {"distance": (*lead, 32, 48)}
        best_first = distances["distance"].reshape(k, 32, 48)
        assert distances["distance"].dtype == np.float32
        assert np.all(np.diff(best_first, axis=0) >= 0)
    assert not (out / "aligned").exists()


def test_offsets_are_dx_dy(tmp_path: Path, textured: Any) -> None:
    """A scene that moves by (2, 1) pixels a frame: the match of t in t+1 lies at (-2, -1)."""
    folder = tmp_path / "moving"
    folder.mkdir()
    rng = np.random.default_rng(3)
    scene = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    for t in range(3):
        write_image(folder / f"{t}.png", scene[t : t + 32, 2 * t : 2 * t + 48])
    options = {**QUICK, "flow": "zero", "ws": 7, "grid": "int"}
    align(folder, tmp_path / "out", save="offsets,distance", **options)
    for dt, expected in ((1, (-2, -1)), (-1, (2, 1))):
        with np.load(tmp_path / f"out/offsets/dt{dt:+d}/00001.npz") as saved:
            inner = saved["offset"][6:-6, 6:-6]
        assert np.all(inner == np.array(expected, np.float32))
        with np.load(tmp_path / f"out/distance/dt{dt:+d}/00001.npz") as saved:
            assert np.all(saved["distance"][6:-6, 6:-6] == 0)


def test_save_none(tmp_path: Path, clip: Path) -> None:
    align(clip, tmp_path / "out", save="none", **QUICK)
    assert files(tmp_path / "out") == ["report.csv", "report.html", "report.json", "run.json"]
    with pytest.raises(UserError, match="--save: unknown 'frames'; choose from aligned, flow,"):
        align(clip, tmp_path / "other", save="frames", **QUICK)
    with pytest.raises(UserError, match="add it, or use --save flow"):
        align(clip, tmp_path / "other", save="aligned,video,flow", methods="none,flow", **QUICK)


def saved_flow(tmp_path: Path, clip: Path) -> Path:
    align(clip, tmp_path / "first", save="aligned,flow,offsets", format="npy", **{**QUICK, "wt": 2})
    return tmp_path / "first/flow"


def test_saved_flow_gives_the_same_run(tmp_path: Path, clip: Path) -> None:
    flow = saved_flow(tmp_path, clip)
    assert files(flow) == sorted(
        [f"backward/{t:05d}.flo" for t in range(1, 6)] + [f"forward/{t:05d}.flo" for t in range(5)]
    )
    npz = tmp_path / "flow.npz"
    nothing = np.zeros((32, 48, 2), np.float32)
    write_flow_npz(
        npz,
        [*(read_flo(flow / f"forward/{t:05d}.flo") for t in range(5)), nothing],
        [nothing, *(read_flo(flow / f"backward/{t:05d}.flo") for t in range(1, 6))],
        (6, 32, 48),
    )
    options = {**QUICK, "wt": 2, "format": "npy", "save": "aligned,flow,offsets"}
    first = align(clip, tmp_path / "first", **options)
    for start in (0, 2):
        for source in (flow, npz):
            out = tmp_path / f"{source.name}{start}"
            report = align(clip, out, start=start, **{**options, "flow": source})
            rows = [row for row in first.rows if row.t >= start and row.t + row.dt >= start]
            assert [(row.t, row.dt, row.method, row.psnr) for row in report.rows] == [
                (row.t, row.dt, row.method, row.psnr) for row in rows
            ]
            described = report.parameters["flow"]
            assert described["name"] == "files"
            assert described["path"] == str(source)
            assert {row.flow for row in report.rows if row.method == "flow"} == {source.name}
            for name in files(out):
                if name.endswith((".npy", ".npz", ".flo")):
                    same = tmp_path / "first" / name
                    assert (out / name).read_bytes() == same.read_bytes()
    # Flow files are told by what is in them, not by where they lie.
    moved = flow.rename(tmp_path / "moved")
    again = align(clip, tmp_path / "flow0", **{**options, "flow": moved})
    assert again.parameters["flow"]["path"] == str(flow)


def test_flow_alone(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "out", methods="none", save="flow", **QUICK)
    assert report.parameters["flow"]["name"] == "farneback"
    assert len(files(tmp_path / "out/flow")) == 10
    report = align(clip, tmp_path / "none", methods="none,nls", save="none", **QUICK)
    assert report.parameters["flow"] is None


def test_report_json(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out"
    report = align(clip, out, **{**QUICK, "metrics": "psnr,ssim,mae,out_of_frame", "sigma": 3.0})
    document = strict(out / "report.json")
    assert document == report.to_json()
    assert document["parameters"].keys() == {
        "start", "frames", "size", "stream", "allow_damaged", "ws", "wt", "ps", "grid", "stride1",
        "k", "dist", "weights", "bandwidth", "aggregate", "prior", "subpixel", "patch_weights",
        "sampling", "flow", "sigma", "seed", "methods",
        "metrics", "save", "format", "threads",
    }  # fmt: skip
    assert document["parameters"]["flow"]["parameters"]["win_size"] == 13
    assert document["device"] == "cpu"
    assert document["input"]["digest"].startswith("sha256:")
    timings = document["timings"]
    assert timings.keys() == {
        "decode", "decode_wait", "prepare", "flow_wait", "compose", "warp", "search", "aggregate",
        "metrics", "pictures", "wait", "write", "encode", "flow_cpu",
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in timings.values())
    assert timings["search"] > 0
    assert timings["flow_cpu"] > 0
    for row in document["rows"]:
        assert list(row) == list(COLUMNS)
        assert row["psnr"] > 0
        assert 0 < row["ssim"] <= 1
        assert row["mae"] > 0
        assert (row["out_of_frame"] is not None) == (row["method"] in ("flow", "shifted-nls"))


def test_report_csv(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out"
    report = align(clip, out, **{**QUICK, "sigma": 2})
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(report.rows) == 4 * 10
    everything = {
        "flow": "farneback", "ws": "3", "wt": "1", "ps": "3", "stride1": "1", "k": "1",
        "dist": "l2", "grid": "float", "aggregate": "patch", "sigma": "2", "seed": "0",
    }  # fmt: skip
    settings = list(everything)
    used = {"none": [], "flow": ["flow", "sigma", "seed"], "nls": settings[1:]}
    for cells, row in zip(table, report.rows, strict=True):
        assert (cells["clip"], cells["t"], cells["dt"]) == ("clip", str(row.t), str(row.dt))
        names = used.get(row.method, settings)
        assert {key: cells[key] for key in settings} == {
            key: everything[key] if key in names else "" for key in settings
        }
        assert float(cells["psnr"]) == pytest.approx(row.psnr, rel=1e-8)
        assert (cells["ssim"], cells["mae"], cells["out_of_frame"]) == ("", "", "")


def test_identical_frames_are_inf(tmp_path: Path, textured: Any, encode: Any) -> None:
    still = encode(
        tmp_path / "still.mkv", textured(1, 16, 24) * 3, codec="ffv1", pixel_format="bgr0"
    )
    align(still, tmp_path / "out", **QUICK)
    document = strict(tmp_path / "out/report.json")
    assert {row["psnr"] for row in document["rows"] if row["method"] == "none"} == {"inf"}
    means = {entry["method"]: entry["psnr"] for entry in document["summary"]["by_method"]}
    assert means["none"] == 100.0
    assert ",inf," in (tmp_path / "out/report.csv").read_text()


def test_metrics_and_methods_select(tmp_path: Path, clip: Path) -> None:
    options = {**QUICK, "metrics": "mae", "methods": "flow,none"}
    with pytest.raises(UserError, match=r"--save aligned needs shifted-nls .* use --save none"):
        align(clip, tmp_path / "out", save="aligned", **options)
    report = align(clip, tmp_path / "out", **options)
    assert files(tmp_path / "out") == ["report.csv", "report.html", "report.json", "run.json"]
    assert report.methods == ("none", "flow")
    assert all(row.psnr is None and row.mae is not None for row in report.rows)
    for options, words in (
        ({"metrics": "vmaf"}, "unknown metric 'vmaf'"),
        ({"methods": "best"}, "--methods: unknown 'best'"),
        ({"methods": ""}, "--methods names none"),
    ):
        with pytest.raises(UserError, match=words):
            align(clip, tmp_path / "other", **{**QUICK, **options})
