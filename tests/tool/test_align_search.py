"""The numbers of `align` are those of the library, called directly."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stnls.agg import WeightedPatchSum
from stnls.nn import compose_flow
from stnls.search import PairedSearch

from stnls_cli import align
from stnls_cli.flow import FLOW_METHODS, luma8
from stnls_cli.noise import add_noise
from stnls_cli.video import open_clip

SMALL: dict[str, Any] = {"ws": 5, "ps": 3, "wt": 2, "flow": "farneback"}
# The paper's search: the smallest distance wins, on the grid, patches are averaged.
PLAIN: dict[str, Any] = {
    "prior": 0.0,
    "subpixel": "none",
    "patch_weights": "uniform",
    "sampling": "bilinear",
}


def frames_of(path: Path) -> list[torch.Tensor]:
    """Every frame, (3, H, W) float32."""
    with open_clip(path) as clip:
        return [torch.from_numpy(frame.rgb).permute(2, 0, 1).float() for frame in clip]


def flow_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Farneback's flow as the tool computes it, (2, H, W)."""
    gray = [luma8(frame.permute(1, 2, 0).numpy()) for frame in (a, b)]
    return torch.from_numpy(FLOW_METHODS["farneback"].compute(*gray)).permute(2, 0, 1)


def composed(frames: list[torch.Tensor], t: int, dt: int) -> torch.Tensor:
    """Flow from frame t to t + dt, (2, H, W)."""
    sign = 1 if dt > 0 else -1
    path = range(t, t + dt + sign, sign)
    steps = [flow_between(frames[a], frames[b]) for a, b in pairwise(path)]
    return compose_flow(torch.stack(steps)[None])[0, -1]


def direct(
    frames: list[torch.Tensor], clean: list[torch.Tensor], t: int, dt: int, options: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Aligned frame (3, H, W), offsets (H, W, k, 2) = (dy, dx), distances (H, W, k)."""
    grid = options.get("grid", "float")
    ps, k = options["ps"], options.get("k", 1)
    search = PairedSearch(
        options["ws"],
        ps,
        k,
        stride0=1,
        stride1=options.get("stride1", 1),
        dist_type=options.get("dist", "l2"),
        itype=grid,
    )
    flow = composed(frames, t, dt)
    distance, offset = (x[0, 0] for x in search(frames[t][None], frames[t + dt][None], flow[None]))
    if options.get("weights") == "softmax":
        # As documented: exp(-d / (3 ps^2 b^2)), or exp(+d / ...) for the inner product.
        sign = -1 if options.get("dist", "l2") == "l2" else 1
        scaled = sign * distance.double() / (3 * ps**2 * options.get("bandwidth", 10.0) ** 2)
        weights = torch.exp(scaled - scaled.max(-1, keepdim=True).values)
        weights = (weights / weights.sum(-1, keepdim=True)).float()
        used = offset
    else:
        used = offset[:, :, :1]
        weights = torch.ones(used.shape[:-1])
    inds = torch.cat((torch.zeros_like(used[..., :1]), used), -1)
    taps = ps if options.get("aggregate", "patch") == "patch" else 1
    total = WeightedPatchSum(taps, 1, itype=grid)
    aligned = total(clean[t + dt][None, None], weights[None, None, None], inds[None, None, None])
    return aligned[0, 0], offset, distance


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = float((a.double() - b.double()).square().mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def compare(clip: Path, out: Path, options: dict[str, Any], sigma: float = 0, seed: int = 0) -> int:
    """Runs the tool, compares everything with the direct calls, answers how many pairs."""
    report = align(
        clip,
        out,
        methods="shifted-nls",
        metrics="psnr",
        save="aligned,offsets,distance",
        format="npy",
        sigma=sigma,
        seed=seed,
        **options,
    )
    clean = frames_of(clip)
    seen = [add_noise(frame, sigma, seed, t) for t, frame in enumerate(clean)]
    wt = options["wt"]
    pairs = [
        (t, t + dt)
        for t in range(len(clean))
        for dt in range(-wt, wt + 1)
        if dt and 0 <= t + dt < len(clean)
    ]
    scores = {(row.t, row.dt): row.psnr for row in report.rows if row.method == "shifted-nls"}
    assert sorted(scores) == sorted((t, other - t) for t, other in pairs)
    for t, other in pairs:
        dt = other - t
        aligned, offset, distance = direct(seen, clean, t, dt, options)
        name = f"dt{dt:+d}/{t:05d}"
        np.testing.assert_allclose(
            np.load(out / f"aligned/{name}.npy"), aligned.permute(1, 2, 0), atol=1e-3
        )
        with np.load(out / f"offsets/{name}.npz") as saved:
            assert saved.files == ["offset"]
            # The file has (dx, dy), the library (dy, dx).
            expected = offset.flip(-1).permute(2, 0, 1, 3).float().numpy()
            expected = expected[0] if options.get("k", 1) == 1 else expected
            assert saved["offset"].dtype == np.float32
            np.testing.assert_array_equal(saved["offset"], expected)
        with np.load(out / f"distance/{name}.npz") as saved:
            assert saved.files == ["distance"]
            assert saved["distance"].dtype == np.float32
            expected = distance.permute(2, 0, 1).numpy()
            expected = expected[0] if options.get("k", 1) == 1 else expected
            np.testing.assert_array_equal(saved["distance"], expected)
        assert scores[t, dt] == pytest.approx(psnr(clean[t], aligned), abs=1e-4)
    return len(pairs)


OPTIONS = [
    {},
    {"grid": "float", "stride1": 0.5},
    {"grid": "int"},
    {"grid": "int", "stride1": 2},
    {"ws": 1, "ps": 1},
    {"ps": 4},
    {"k": 3},
    {"k": 3, "weights": "softmax", "bandwidth": 40.0},
    {"ws": 3, "k": 9, "weights": "softmax", "grid": "int"},
    {"dist": "prod"},
    {"dist": "prod", "k": 4, "weights": "softmax"},
    {"aggregate": "pixel"},
    {"aggregate": "pixel", "grid": "int", "k": 2, "weights": "softmax"},
]


def named(options: dict[str, Any]) -> str:
    return ",".join(f"{k}={v}" for k, v in options.items()) or "defaults"


@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_equal_to_direct_calls(tmp_path: Path, clip: Path, options: dict[str, Any]) -> None:
    assert compare(clip, tmp_path / "out", {**SMALL, **PLAIN, **options}) == 18


def test_noise_is_seen_by_flow_and_search_alone(tmp_path: Path, clip: Path) -> None:
    # `compare` searches in noisy frames, gathers from the clean ones and measures on those.
    compare(clip, tmp_path / "out", {**SMALL, **PLAIN}, sigma=15, seed=2**63 + 1)


def test_distant_flow_follows_the_path(tmp_path: Path, clip: Path) -> None:
    """The warp by the composed flow of two steps, recomputed with NumPy from the saved flows."""
    report = align(clip, tmp_path / "out", methods="flow", save="flow", wt=2, flow="farneback")

    def flow(t: int) -> np.ndarray:
        data = np.fromfile(tmp_path / f"out/flow/forward/{t:05d}.flo", "<f4", offset=12)
        return data.reshape(32, 48, 2).astype(float)

    def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray, edge: str) -> np.ndarray:
        height, width = image.shape[:2]
        if edge == "mirror":
            x = (width - 1) - np.abs((width - 1) - np.abs(x) % (2 * width - 2))
            y = (height - 1) - np.abs((height - 1) - np.abs(y) % (2 * height - 2))
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        left = np.minimum(x.astype(int), width - 2)
        top = np.minimum(y.astype(int), height - 2)
        u, v = (x - left)[..., None], (y - top)[..., None]
        upper = image[top, left] * (1 - u) + image[top, left + 1] * u
        lower = image[top + 1, left] * (1 - u) + image[top + 1, left + 1] * u
        return upper * (1 - v) + lower * v

    y, x = np.mgrid[:32, :48].astype(float)
    first = flow(1)
    middle_x, middle_y = x + first[..., 0], y + first[..., 1]
    second = sample(flow(2), middle_x, middle_y, "mirror")
    target_x, target_y = middle_x + second[..., 0], middle_y + second[..., 1]
    frames = [frame.permute(1, 2, 0).double().numpy() for frame in frames_of(clip)]
    warped = sample(frames[3], target_x, target_y, "replicate")
    expected = 10 * math.log10(255**2 / np.square(warped - frames[1]).mean())
    outside = (target_x < 0) | (target_x > 47) | (target_y < 0) | (target_y > 31)
    (row,) = [row for row in report.rows if (row.t, row.dt) == (1, 2)]
    assert row.psnr == pytest.approx(expected, abs=1e-3)
    assert row.out_of_frame == pytest.approx(outside.mean(), abs=2 / outside.size)


def test_methods(tmp_path: Path, clip: Path) -> None:
    report = align(clip, tmp_path / "out", save="none", wt=1, ws=5, ps=3, flow="farneback")
    zero = align(clip, tmp_path / "zero", save="none", wt=1, ws=5, ps=3, flow="zero")
    frames = frames_of(clip)

    def scores(report: Any, method: str) -> list[float]:
        return [row.psnr for row in report.rows if row.method == method]

    pairs = [(t, t + dt) for t in range(6) for dt in (-1, 1) if 0 <= t + dt < 6]
    none = [psnr(frames[t], frames[other]) for t, other in pairs]
    assert scores(report, "none") == pytest.approx(none)
    # Around no flow both searches and both warps are the same.
    assert scores(zero, "flow") == pytest.approx(none)
    assert scores(zero, "nls") == scores(zero, "shifted-nls") == scores(report, "nls")
    assert scores(report, "shifted-nls") != scores(report, "nls")


def test_the_same_on_any_number_of_threads(tmp_path: Path, clip: Path) -> None:
    before = torch.get_num_threads()
    reports = [
        align(clip, tmp_path / f"{n}", threads=n, save="none", **{**SMALL, "flow": "dis"})
        for n in (1, 3)
    ]
    assert reports[0].rows == reports[1].rows
    assert [report.parameters["threads"] for report in reports] == [1, 3]
    assert torch.get_num_threads() == before


# What the tool does before the search, beside the options of the search itself.
AROUND: list[dict[str, Any]] = [
    {"size": "64x40"},
    {"start": 2, "frames": 3, "wt": 1},
    {"size": "31x33", "start": 1},
    {"flow": "files"},
    {"flow": "files", "grid": "int", "k": 2, "start": 1},
    PLAIN,
    {**PLAIN, "k": 3, "weights": "softmax"},
    {"aggregate": "pixel", "sampling": "bilinear"},
]


def matches_agree(kind: str, one: np.ndarray, other: np.ndarray) -> None:
    """As docs/align.md has it: the k-th distances are equal within rounding, whichever of two
    equally near matches won, and so are the offsets of nearly all matches."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype == np.float32
    if kind == "distance":
        finite = np.isfinite(one)
        np.testing.assert_array_equal(finite, np.isfinite(other))
        # Sums with cancellation: what is small is known as well as what is large.
        scale = float(np.abs(one[finite]).max())
        np.testing.assert_allclose(one[finite], other[finite], rtol=1e-4, atol=1e-5 * scale)
    else:
        assert np.mean(np.abs(one - other).max(-1) > 1e-3) < 0.01


def test_tolerance_of_matches() -> None:
    """The comparison itself: what it lets pass and what it does not."""
    rng = np.random.default_rng(0)
    distance = rng.uniform(1, 1e6, (2, 20, 30)).astype(np.float32)
    distance[0, 0, 0] = np.inf
    matches_agree("distance", distance, distance * np.float32(1 + 5e-5))
    with pytest.raises(AssertionError):
        matches_agree("distance", distance, distance * np.float32(1.01))
    with pytest.raises(AssertionError):
        matches_agree("distance", distance, np.minimum(distance, np.float32(1e6)))
    offset = rng.integers(-4, 5, (2, 20, 30, 2)).astype(np.float32)
    other = offset.copy()
    other[0, 0, :9] += 1
    matches_agree("offset", offset, other)
    other[0, 1:4] += 1
    with pytest.raises(AssertionError):
        matches_agree("offset", offset, other)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [*OPTIONS, *AROUND], ids=named)
def test_cpu_and_cuda_agree(tmp_path: Path, clip: Path, options: dict[str, Any]) -> None:
    options = {**SMALL, "sigma": 15.0, "format": "npy", **options}
    if options["flow"] == "files":
        align(clip, tmp_path / "flows", flow="dis", save="flow", methods="flow", metrics="psnr")
        options["flow"] = str(tmp_path / "flows/flow")
    save = "aligned,flow,offsets,distance"
    reports = {
        device: align(clip, tmp_path / device, device=device, save=save, **options)
        for device in ("cpu", "cuda")
    }
    assert reports["cuda"].device.startswith("cuda:")
    for one, other in zip(reports["cpu"].rows, reports["cuda"].rows, strict=True):
        assert one.psnr == pytest.approx(other.psnr, abs=0.02)
        assert one.ssim == pytest.approx(other.ssim, abs=2e-3)
        assert one.mae == pytest.approx(other.mae, abs=0.02)
        assert one.out_of_frame == pytest.approx(other.out_of_frame, abs=1e-3)
    names = [
        {path.relative_to(tmp_path / device) for path in (tmp_path / device).rglob("*.*")}
        for device in ("cpu", "cuda")
    ]
    # Of pairs that are equally good another one may be shown.
    names = [{name for name in each if name.parts[0] != "pictures"} for each in names]
    assert names[0] == names[1]
    for name in sorted(names[0]):
        if name.parts[0] in ("offsets", "distance"):
            with np.load(tmp_path / "cpu" / name) as one, np.load(tmp_path / "cuda" / name) as two:
                (kind,) = one.files
                matches_agree(kind, one[kind], two[kind])
    for path in sorted((tmp_path / "cpu" / "aligned").rglob("*.npy")):
        other = tmp_path / "cuda" / path.relative_to(tmp_path / "cpu")
        # Another of two matches of equal distance may win.
        assert np.mean(np.abs(np.load(path) - np.load(other)) > 0.01) < 0.01
    for path in sorted((tmp_path / "cpu" / "flow").rglob("*.flo")):
        other = tmp_path / "cuda" / path.relative_to(tmp_path / "cpu")
        assert path.read_bytes() == other.read_bytes()
