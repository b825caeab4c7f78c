"""The parts of a comparison: visibility, scores, grid, protocol, cache, cells, gates."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stnls_cli.compare.document import CellScores, ComparisonDocument, SettingScores
from stnls_cli.compare.estimate import OWN_SIZES, cell_seconds, pairs_of
from stnls_cli.compare.files import read_comparison
from stnls_cli.compare.flow_cache import FlowCache
from stnls_cli.compare.gate import Comparable, below, dropped
from stnls_cli.compare.grey import luma_wrapped
from stnls_cli.compare.inputs import find_inputs
from stnls_cli.compare.masks import Masks
from stnls_cli.compare.options import CompareOptions, compare_options
from stnls_cli.compare.protocol import PROTOCOLS, slots
from stnls_cli.compare.scores import Scorer, Truth, share_at_edge
from stnls_cli.compare.setting import Setting, settings_of
from stnls_cli.compare.tables import markdown
from stnls_cli.compare.truth import read_kitti, true_motion
from stnls_cli.compare.visible import visible
from stnls_cli.errors import UserError
from stnls_cli.flow import write_flo
from stnls_cli.matching import Matcher
from stnls_cli.metrics import METRICS, ssim
from stnls_cli.options import AlignOptions
from stnls_cli.video.png import encode_png
from stnls_cli.video.write import write_image


def bilinear(field: np.ndarray[Any, Any], y: float, x: float) -> float:
    """Of one channel, the border repeated: written from the definition."""
    height, width = field.shape
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    b, a = y - top, x - left
    part = field[top : top + 2, left : left + 2]
    return float(np.array([1 - b, b]) @ part @ np.array([1 - a, a]))


@pytest.mark.parametrize("seed", range(3))
def test_visible_is_the_check_of_sundaram(seed: int) -> None:
    rng = np.random.default_rng(seed)
    there = rng.normal(0, 2, (2, 9, 11)).astype(np.float32)
    back = (-there + rng.normal(0, 0.7, there.shape)).astype(np.float32)
    found = visible(torch.from_numpy(there), torch.from_numpy(back)).numpy()
    for y in range(9):
        for x in range(11):
            w = there[:, y, x].astype(float)
            end_x, end_y = x + w[0], y + w[1]
            inside = 0 <= end_x <= 10 and 0 <= end_y <= 8
            v = np.array([bilinear(back[n].astype(float), end_y, end_x) for n in range(2)])
            right = ((w + v) ** 2).sum() < 0.01 * ((w**2).sum() + (v**2).sum()) + 0.5
            assert found[y, x] == (inside and right), (y, x)
    assert 0 < found.mean() < 1


def scorer(*names: str, margin: int = 0) -> Any:
    measure = Scorer(tuple(names), margin)

    def scores(a: torch.Tensor, b: torch.Tensor, **given: Any) -> dict[str, float | None]:
        nothing = dict.fromkeys(("flow", "motion", "mask", "truth", "at_edge"))
        return measure(a, b, **{**nothing, **given})

    return scores


def test_scores_over_the_visible_pixels() -> None:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.uniform(0, 255, (3, 20, 24)).astype(np.float32))
    b = (a + torch.from_numpy(rng.normal(0, 9, a.shape).astype(np.float32))).clamp(0, 255)
    mask = torch.from_numpy(rng.random((20, 24)) < 0.6)
    names = ("psnr_visible", "ssim_visible", "mae_visible", "visible")
    found = scorer(*names)(a, b, mask=mask)
    difference = (a - b).double().numpy()[:, mask.numpy()]
    assert found["psnr_visible"] == pytest.approx(
        10 * math.log10(255**2 / (difference**2).mean()), abs=1e-6
    )
    assert found["mae_visible"] == pytest.approx(np.abs(difference).mean(), rel=1e-6)
    assert found["visible"] == pytest.approx(mask.double().mean().item())
    everywhere = scorer(*names, "psnr", "mae", "ssim")(a, b, mask=torch.ones_like(mask))
    for name in ("psnr", "mae", "ssim"):
        assert everywhere[f"{name}_visible"] == pytest.approx(everywhere[name], rel=1e-6)
    nowhere = scorer(*names)(a, b, mask=torch.zeros_like(mask))
    assert nowhere == {**dict.fromkeys(names), "visible": 0.0}


def test_margin_leaves_the_border_out() -> None:
    a = torch.zeros(3, 20, 24)
    b = torch.full_like(a, 10.0)
    b[:, 4:16, 4:20] = 1.0
    assert scorer("mae", margin=4)(a, b)["mae"] == pytest.approx(1.0)
    inner = (slice(None), slice(4, 16), slice(4, 20))
    assert scorer("ssim", margin=4)(a, b)["ssim"] == pytest.approx(ssim(a[inner], b[inner]))


def test_end_point_error_over_the_known_pixels() -> None:
    motion, true = torch.zeros(2, 4, 5), torch.zeros(2, 4, 5)
    motion[0, 1, 2], motion[1, 1, 2] = 3.0, 4.0
    known = torch.zeros(4, 5, dtype=torch.bool)
    frame = torch.zeros(3, 4, 5)
    truth = Truth(true, known)
    assert scorer("epe")(frame, frame, motion=motion, truth=truth)["epe"] is None
    known[1, 2] = known[0, 0] = True
    assert scorer("epe")(frame, frame, motion=motion, truth=truth)["epe"] == pytest.approx(2.5)


@pytest.mark.parametrize("grid", ["int", "float"])
def test_share_at_the_edge_of_the_window(grid: str) -> None:
    """A texture that moves by two pixels, seen through windows of 3 and of 7 positions."""
    rng = np.random.default_rng(0)
    scene = torch.from_numpy(rng.uniform(0, 255, (3, 30, 44)).astype(np.float32))
    reference, neighbour = scene[:, :, 2:42].contiguous(), scene[:, :, :40].contiguous()
    still = torch.zeros(2, 30, 40)

    def share(ws: int) -> float | None:
        options = AlignOptions(ws=ws, grid=grid, prior=0.0)
        return share_at_edge(Matcher(options).search(reference, neighbour, still), still, options)

    large, small = share(7), share(3)
    assert large is not None
    assert large < 0.1
    assert small is not None
    assert small > 0.5
    assert share(1) is None


def names_of(**given: Any) -> list[str]:
    return [setting.name for setting in settings_of(compare_options(given))]


def test_the_grid_has_each_setting_once() -> None:
    found = names_of(method="shifted-nls,none,flow", flow="dis,zero", ws="9,3", ps=5, sigma="0,15")
    assert found[:5] == [
        "none", "flow,dis,sigma=0", "flow,dis,sigma=15", "flow,zero,sigma=0", "flow,zero,sigma=15",
    ]  # fmt: skip
    assert found[5:7] == ["shifted-nls,dis,sigma=0,ws=3,ps=5", "shifted-nls,dis,sigma=0,ws=9,ps=5"]
    assert len(found) == len(set(found)) == 1 + 4 + 8
    assert names_of(method="nls", flow="dis,zero", sigma=3) == ["nls,sigma=3,ws=9,ps=5"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "nearest"}, "--method: unknown 'nearest'"),
        ({"method": ","}, "--method names none"),
        ({"flow": "diss"}, "did you mean dis"),
        ({"ws": "3,x"}, "--ws is a list of whole numbers (3,5,9), not 'x'"),
        ({"ws": "4"}, "--ws must be odd"),
        ({"ps": "0"}, "--ps must be at least 1"),
        ({"sigma": "nan"}, "--sigma is a list of numbers"),
        ({"sigma": "-1"}, "--sigma is a list of numbers"),
        ({"metrics": "psnr,vmaf"}, "unknown metric 'vmaf'"),
        ({"margin": -1}, "--margin must be at least 0"),
        ({"protocol": "paper"}, "--protocol must be one of paper-text, paper-script"),
        ({"wt": 0}, "--wt must be at least 1"),
        ({"method": "nls", "grid": "int", "stride1": 0.5}, "--stride1 0.5 needs --grid float"),
    ],
)
def test_options_without_meaning(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        settings_of(compare_options(given))
    assert message in str(caught.value)


def test_the_other_spelling_of_method() -> None:
    assert names_of(methods=["none"]) == names_of(method="none") == ["none"]
    with pytest.raises(UserError, match="--methods and --method are one option: give it once"):
        compare_options({"method": "none", "methods": "nls"})


def test_unknown_options_from_python() -> None:
    with pytest.raises(TypeError, match="no option 'sigmas'; did you mean 'sigma'"):
        compare_options({"sigmas": 3})


def test_a_protocol_gives_way_to_what_is_given() -> None:
    plain = compare_options({"protocol": "paper-script"})
    assert plain.flows() == ("farneback",)
    assert (plain.base.frames, plain.base.seed, plain.full_ws, plain.grey) == (
        5,
        123,
        False,
        "wrapped",
    )
    assert plain.base.prior_used() == 0
    assert plain.numbers("ws") == (1, 3, 11, 15, 21, 27, 33)
    other = compare_options({"protocol": "paper-script", "flow": "dis", "ws": [1, 9], "frames": 3})
    assert (other.flows(), other.numbers("ws"), other.base.frames) == (("dis",), (1, 9), 3)
    assert other.slots
    assert set(PROTOCOLS) == {"paper-text", "paper-script"}


def test_slots_are_those_of_the_library() -> None:
    """SPEC's table for five frames."""
    assert [slots(t, 1, 5) for t in range(5)] == [[1, 2], [1, -1], [1, -1], [1, -1], [-1, -2]]
    assert slots(1, 2, 5) == [1, 2, 3, -1]
    assert slots(0, 1, 2) == [1]


@given(st.integers(1, 12), st.integers(1, 3))
def test_slots_stay_inside(count: int, wt: int) -> None:
    for t in range(count):
        found = slots(t, wt, count)
        assert all(0 <= t + dt < count and dt != 0 for dt in found)
        assert len(set(found)) == len(found) <= 2 * wt
        if count > 2 * wt:
            assert len(found) == 2 * wt


@given(st.integers(1, 30), st.integers(1, 5))
def test_pairs_of_a_clip(frames: int, wt: int) -> None:
    counted = sum(0 <= t + dt < frames for t in range(frames) for dt in range(-wt, wt + 1) if dt)
    assert pairs_of(frames, wt) == counted


def test_seconds_of_a_search_are_estimated_by_its_patch() -> None:
    """Only places between positions and the bicubic average are slow for large patches."""

    def seconds(ps: int, **options: Any) -> float:
        return cell_seconds(
            Setting("shifted-nls", "zero", 0.0, AlignOptions(ps=ps, **options)), 1.0, ("psnr",)
        )

    assert 11 in OWN_SIZES
    assert seconds(8) < 1.5 * seconds(7)
    assert seconds(12) > 5 * seconds(11)
    plain: dict[str, Any] = {"subpixel": "none", "sampling": "bilinear"}
    assert seconds(11, **plain) < seconds(12, **plain) < 1.5 * seconds(11, **plain)
    assert seconds(7, ws=31) > 2 * seconds(7)
    assert seconds(5, k=10, weights="softmax") > 2 * seconds(5)


def test_wrapped_luma() -> None:
    frame = np.full((2, 3, 3), 260.0, np.float32)
    frame[0] = -2.5
    frame[1, 1] = 100.4
    assert luma_wrapped(frame).tolist() == [[253, 253, 253], [4, 100, 4]]


def test_cached_flows_are_computed_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grays = [rng.integers(0, 255, (40, 48)).astype(np.uint8) for _ in range(3)]
    cache = FlowCache(tmp_path / "flow")
    with cache.source("farneback", 2) as source:
        first = source.submit(0, "forward", grays[0], grays[1]).result()
        again = source.submit(5, "backward", grays[0], grays[1]).result()
        other = source.submit(0, "forward", grays[1], grays[0]).result()
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert cache.counters()["farneback"] == {
        "computed": 2, "read": 1, "ever_computed": 2, "different": 2,
    }  # fmt: skip
    late = FlowCache(tmp_path / "flow")
    with late.source("farneback", 1) as source:
        np.testing.assert_array_equal(
            source.submit(0, "forward", grays[0], grays[1]).result(), first
        )
    # Half a file, as a crash of the machine may leave it, is no flow.
    (damaged,) = [
        p for p in (tmp_path / "flow").rglob("*.npy") if np.array_equal(np.load(p), first)
    ]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with late.source("farneback", 1) as source:
        np.testing.assert_array_equal(
            source.submit(0, "forward", grays[0], grays[1]).result(), first
        )
    assert late.counters()["farneback"] == {
        "computed": 1, "read": 1, "ever_computed": 3, "different": 2,
    }  # fmt: skip
    with late.source("dis", 1) as source:
        source.submit(0, "forward", grays[0], grays[1]).result()
    assert late.computed["dis"] == 1


def test_masks_come_back(tmp_path: Path) -> None:
    masks = Masks(tmp_path / "masks", 7, 5)
    mask = torch.from_numpy(np.random.default_rng(0).random((7, 5)) < 0.5)
    assert masks.get(3, -1) is None
    masks.put(3, -1, mask)
    found = masks.get(3, -1)
    assert found is not None
    assert torch.equal(found, mask)
    assert Masks(tmp_path / "masks", 7, 50).get(3, -1) is None


def frames_into(folder: Path, names: list[str], size: tuple[int, int] = (12, 16)) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        write_image(folder / name, np.zeros((*size, 3), np.uint8))
    return folder


def test_inputs_are_clips_folders_of_clips_and_runs(tmp_path: Path) -> None:
    frames_into(tmp_path / "davis/JPEGImages/480p/dog", ["0.png", "1.png"])
    frames_into(tmp_path / "davis/JPEGImages/1080p/dog", ["0.png", "1.png"])
    frames_into(tmp_path / "davis/Annotations/480p/dog", ["0.png", "1.png"])
    frames_into(tmp_path / "more/a/left", ["0.png"])
    frames_into(tmp_path / "more/b/left", ["0.png"])
    found = find_inputs([tmp_path / "davis", tmp_path / "more"])
    assert [clip.name for clip in found.clips] == ["dog", "a-left", "b-left"]
    assert found.clips[0].path == tmp_path / "davis/JPEGImages/480p/dog"
    with pytest.raises(UserError, match="is given more than once"):
        find_inputs([tmp_path / "more/a", tmp_path / "more/a/left"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither videos, nor frames, nor folders of frames"):
        find_inputs([tmp_path / "empty"])
    with pytest.raises(UserError, match="no such file"):
        find_inputs([tmp_path / "missing"])


def test_videos_of_a_folder_are_clips(tmp_path: Path) -> None:
    frames_into(tmp_path / "frames", ["0.png", "1.png"])
    for name in ("b.MP4", "a.mkv", "cover.jpg", "notes.txt", "frames/preview.mp4"):
        (tmp_path / name).touch()
    found = find_inputs([tmp_path])
    assert [clip.path.name for clip in found.clips] == ["a.mkv", "b.MP4", "frames"]


def test_what_stnls_wrote_is_no_clip(tmp_path: Path) -> None:
    frames_into(tmp_path / "clip", ["0.png", "1.png"])
    for name, mark, text in (
        ("comparison.stnls", "stnls-comparison.json", "{}"),
        (
            "clip.stnls.partial",
            "run.json",
            '{"format": "stnls-run", "version": 1, "fingerprint": {}}',
        ),
    ):
        frames_into(tmp_path / name / "pictures/00000dt+1", ["flow.jpg", "nls.jpg"])
        (tmp_path / name / mark).write_text(text)
    assert [clip.name for clip in find_inputs([tmp_path]).clips] == ["clip"]
    with pytest.raises(UserError, match="is a comparison of stnls, not a clip"):
        find_inputs([tmp_path / "comparison.stnls"])
    with pytest.raises(UserError, match="a run of stnls without"):
        find_inputs([tmp_path / "clip.stnls.partial"])
    # Others have files of that name too.
    frames_into(tmp_path / "render", ["0.png", "1.png"])
    (tmp_path / "render/run.json").write_text("{}")
    assert [clip.name for clip in find_inputs([tmp_path]).clips] == ["clip", "render"]


def test_true_motion_from_files(tmp_path: Path) -> None:
    clip = frames_into(tmp_path / "scene", ["frame10.png", "frame11.png"])
    flow = np.random.default_rng(0).normal(0, 3, (12, 16, 2)).astype(np.float32)
    flow[2, 3] = 2e9
    assert true_motion(clip, "scene", 16, 12, None) is None
    write_flo(clip / "flow10.flo", flow)
    truth = true_motion(clip, "scene", 16, 12, None)
    assert truth is not None
    found = truth.between(0, 1)
    assert found is not None
    assert truth.between(0, -1) is None
    assert truth.between(1, 1) is None
    assert not found.known[2, 3]
    assert int(found.known.sum()) == 12 * 16 - 1
    known = found.known.numpy()
    np.testing.assert_array_equal(found.flow.permute(1, 2, 0).numpy()[known], flow[known])
    # KITTI's PNG, named like the frame, in a folder of the clip's name.
    values = np.zeros((12, 16, 3), np.uint16)
    values[..., :2] = np.rint(flow.clip(-20, 20) * 64 + 2**15)
    values[4:, :, 2] = 1
    (tmp_path / "truth/scene").mkdir(parents=True)
    (tmp_path / "truth/scene/frame10.png").write_bytes(encode_png(values))
    kitti = true_motion(clip, "scene", 16, 12, tmp_path / "truth")
    assert kitti is not None
    read = kitti.between(0, 1)
    assert read is not None
    assert int(read.known.sum()) == 8 * 16
    assert np.abs(read.flow.permute(1, 2, 0).numpy()[4:] - flow.clip(-20, 20)[4:]).max() < 0.01
    with pytest.raises(UserError, match="the true flow is 16x12, the frames are 32x24"):
        true_motion(clip, "scene", 32, 24, tmp_path / "truth").between(0, 1)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="no flow files"):
        true_motion(clip, "scene", 16, 12, frames_into(tmp_path / "other", ["a.png"]))
    (tmp_path / "grey.png").write_bytes(encode_png(values.astype(np.uint8)))
    with pytest.raises(UserError, match="16 bits and three channels"):
        read_kitti(tmp_path / "grey.png")


def document(psnr: list[float], digest: str = "sha256:1", **given: Any) -> ComparisonDocument:
    pairs = tuple((t, 1) for t in range(len(psnr)))
    flow = CellScores("clip", pairs, {"psnr": tuple(value - 2 for value in psnr)}, digest)
    search = CellScores("clip", pairs, {"psnr": tuple(psnr)}, digest)
    common = {"flow": "dis", "sigma": 0.0, "seed": 0}
    return ComparisonDocument(
        metrics=("psnr",),
        protocol=None,
        parameters={"size": None},
        clips=({"clip": "clip", "digest": digest},),
        settings=(
            SettingScores({"method": "flow", **common}, None, (flow,)),
            SettingScores({"method": "shifted-nls", "ws": 9, "ps": 5, **common}, None, (search,)),
        ),
        **given,
    )


def test_gain_and_aggregates() -> None:
    found = document([30.0, 40.0, 35.0])
    search = found.settings[1]
    assert search.mean("psnr") == pytest.approx(35.0)
    assert found.gain(search) == pytest.approx(2.0)
    summary = search.over_pairs("psnr")
    assert summary is not None
    assert summary.worst[0] == (("clip", 0, 1), 30.0)
    assert "| shifted-nls | dis | 0 | 9 | 5 | 35.00 | +2.00 | 35.00 | 30.50 |" in markdown(found)


def test_gates() -> None:
    found = document([30.0, 40.0, 35.0])
    assert below(found, "shifted-nls", 35.0) == []
    (miss,) = below(found, "shifted-nls", 35.5)
    assert "clip: mean PSNR 35.00 dB of shifted-nls dis, sigma 0, ws 9, ps 5" in miss.text
    assert "worst frames 0, dt +1 (30.00); 2, dt +1 (35.00); 1, dt +1 (40.00)" in miss.text
    with pytest.raises(UserError, match="no PSNR of nls"):
        below(found, "nls", 1.0)
    earlier = document([30.2, 40.2, 35.2])
    assert dropped(found, earlier, "old.json", 0.25) == Comparable([], 2, 2, [])
    missed = dropped(found, earlier, "old.json", 0.1)
    (miss,) = missed.misses  # one line for the clip's two settings
    assert "0.20 dB below that of old.json" in miss.text
    assert miss.text.endswith("; so is 1 more setting")


def test_every_clip_below_is_named_once() -> None:
    one = document([30.0]).settings
    many = tuple(
        SettingScores(
            {**setting.parameters, "ws": ws},
            None,
            tuple(
                CellScores(f"clip{n}", ((0, 1),), {"psnr": (30.0 - n - ws / 100,)}, f"sha256:{n}")
                for n in range(9)
            ),
        )
        for setting in one[1:]
        for ws in (3, 5, 9)
    )
    found = replace(document([30.0]), settings=many)
    misses = below(found, "shifted-nls", 40.0)
    assert [miss.clip for miss in misses] == [f"clip{n}" for n in reversed(range(9))]
    assert all("ws 9" in miss.text for miss in misses)
    assert all(miss.text.endswith("; so are 2 more settings") for miss in misses)


def test_cells_of_the_baseline_that_are_not_compared() -> None:
    whole = document([30.0, 40.0])

    def missing(found: ComparisonDocument, baseline: ComparisonDocument = whole) -> list[str]:
        result = dropped(found, baseline, "old.json", 0.1)
        assert result.compared < result.total == 2
        return result.missing

    flow, search = whole.settings
    other = SettingScores({**search.parameters, "prior": 0.5}, None, search.cells)
    with_prior = SettingScores({**search.parameters, "prior": 0.02}, None, search.cells)
    assert missing(replace(whole, settings=(flow,))) == [
        "shifted-nls dis, sigma 0, ws 9, ps 5 is not in the grid (1 cell)"
    ]
    assert missing(
        replace(whole, settings=(flow, other)), replace(whole, settings=(flow, with_prior))
    ) == ["shifted-nls dis, sigma 0, ws 9, ps 5 had prior 0.02, now 0.5 (1 cell)"]
    assert missing(document([30.0])) == ["clip clip had 2 pairs of frames, now other 1 (2 cells)"]
    assert missing(replace(whole, parameters={"size": "8x8"})) == [
        "it was measured with size unset, now 8x8 (2 cells)"
    ]
    moved = document([30.0, 40.0], digest="sha256:2")
    assert missing(moved) == ["clip clip has other content now (2 cells)"]
    assert missing(replace(moved, clips=({"clip": "dog", "digest": "sha256:2"},))) == [
        "clip clip is not among the clips (2 cells)"
    ]


def test_documents_come_back(tmp_path: Path) -> None:
    found = document([30.0, math.inf], failed={"x": "damaged"})
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(found.to_json(), allow_nan=False))
    assert read_comparison(tmp_path) == found
    path.write_text("{}")
    with pytest.raises(UserError, match="not a comparison"):
        read_comparison(path)


def test_options_of_every_metric() -> None:
    assert CompareOptions().metric_names() == tuple(METRICS)
