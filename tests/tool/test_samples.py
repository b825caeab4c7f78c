"""The sample clips: rendered again alike, and their ground truth agrees with the pixels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from stnls_cli.errors import UserError
from stnls_cli.ground_truth import Motion, load_motion, parse_motion

CLIPS = ("pan_zoom", "rotation", "occlusion", "flicker")
CLEAN = ("pan_zoom", "rotation", "occlusion")
PAIRS = ((3, 1), (5, -1), (2, 2), (6, -3))


@pytest.fixture(scope="session")
def samples(root: Path) -> Path:
    return root / "sample_videos"


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def render(samples: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(samples / "render.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def gather(image: np.ndarray, x: np.ndarray, y: np.ndarray, mode: str = "bicubic") -> np.ndarray:
    """Interpolate (H, W, C) at the positions (x, y)."""
    height, width = image.shape[:2]
    grid = torch.from_numpy(np.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1))
    source = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    out = torch.nn.functional.grid_sample(
        source, grid[None].double(), mode=mode, padding_mode="border", align_corners=True
    )
    return out[0].permute(1, 2, 0).numpy()


def follow(image: np.ndarray, flow: np.ndarray, mode: str = "bicubic") -> np.ndarray:
    y, x = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float64)
    return gather(image, x + flow[..., 0], y + flow[..., 1], mode)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / np.mean((a.astype(np.float64) - b) ** 2)))


def test_clips_are_small(samples: Path) -> None:
    sizes = [path.stat().st_size for name in CLIPS for path in samples.glob(f"{name}.*")]
    assert len(sizes) == 2 * len(CLIPS)
    assert sum(sizes) < 3_000_000


@pytest.mark.parametrize("name", CLIPS)
def test_motion_file_fits_the_clip(samples: Path, name: str) -> None:
    motion = load_motion(samples / f"{name}.json")
    frames = decoded(samples / f"{name}.mp4")
    assert len(frames) == motion.frames
    assert {frame.shape for frame in frames} == {(motion.height, motion.width, 3)}
    with av.open(samples / f"{name}.mp4") as container:
        assert container.streams.video[0].average_rate == motion.rate


@pytest.mark.parametrize(
    "name",
    [
        "flicker",
        pytest.param("pan_zoom", marks=pytest.mark.slow),
        pytest.param("rotation", marks=pytest.mark.slow),
        pytest.param("occlusion", marks=pytest.mark.slow),
    ],
)
def test_rendered_again_it_is_equal(samples: Path, name: str) -> None:
    done = render(samples, name, "--check")
    assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stderr


def test_render_writes_clip_motion_and_flow(samples: Path, tmp_path: Path) -> None:
    done = render(samples, "flicker", "--output", tmp_path, "--flow", tmp_path / "flow")
    assert done.returncode == 0, done.stderr
    motion = load_motion(tmp_path / "flicker.json")
    for old, new in zip(
        decoded(samples / "flicker.mp4"), decoded(tmp_path / "flicker.mp4"), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.flo")}
    last = motion.frames - 1
    assert names == {f"flow/flicker/forward/{t:05d}.flo" for t in range(last)} | {
        f"flow/flicker/backward/{t:05d}.flo" for t in range(1, last + 1)
    }
    raw = (tmp_path / "flow/flicker/backward/00004.flo").read_bytes()
    assert raw[:4] == b"PIEH"
    assert tuple(np.frombuffer(raw, "<i4", 2, offset=4)) == (motion.width, motion.height)
    stored = np.frombuffer(raw, "<f4", offset=12).reshape(motion.height, motion.width, 2)
    np.testing.assert_array_equal(stored, motion.flow(4, -1))


def test_check_finds_a_changed_clip(samples: Path, tmp_path: Path) -> None:
    shutil.copy(samples / "occlusion.mp4", tmp_path / "flicker.mp4")
    shutil.copy(samples / "flicker.json", tmp_path)
    done = render(samples, "flicker", "--check", "--output", tmp_path)
    assert done.returncode == 1
    assert "12 frames in the file, 10 rendered" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", CLEAN)
def test_warp_by_the_exact_flow_gives_the_frame_back(samples: Path, name: str) -> None:
    frames, motion = decoded(samples / f"{name}.mp4"), load_motion(samples / f"{name}.json")
    for t, dt in PAIRS:
        flow, seen = motion.flow(t, dt), motion.visible(t, dt)
        exact = psnr(follow(frames[t + dt], flow)[seen], frames[t][seen])
        assert exact > 38, (t, dt)
        for shift in ((0.5, 0.0), (0.0, -0.5)):
            moved = follow(frames[t + dt], flow + np.float32(shift))
            assert psnr(moved[seen], frames[t][seen]) < exact - 6, (t, dt, shift)


def test_flicker_differs_by_its_gain_and_noise(samples: Path) -> None:
    frames, motion = decoded(samples / "flicker.mp4"), load_motion(samples / "flicker.json")
    for t, dt in PAIRS:
        seen = motion.visible(t, dt)
        gain = motion.gain[t] / motion.gain[t + dt]
        warped = follow(frames[t + dt], motion.flow(t, dt))
        same_light = psnr((gain * warped)[seen], frames[t][seen])
        # Two noisy samples of one colour: at best 10 log10(255^2 / (2 * 6^2)) = 29.6 dB,
        # a little more where interpolation smooths one of them.
        assert 28 < same_light < 33, (t, dt)
        assert psnr(warped[seen], frames[t][seen]) < same_light - 1.0
    assert motion.noise_sigma == 6.0


@pytest.mark.parametrize("name", CLIPS)
def test_forth_and_back_ends_where_it_began(samples: Path, name: str) -> None:
    motion = load_motion(samples / f"{name}.json")
    for t, dt in PAIRS:
        forth, seen = motion.flow(t, dt), motion.visible(t, dt)
        # Where bilinear interpolation of the way back mixes no two layers.
        layer = motion.layer_index(t + dt).astype(np.float64)[..., None]
        landed = follow(layer, forth, "bilinear")[..., 0]
        seen &= np.abs(landed - motion.layer_index(t)) < 1e-9
        back = follow(motion.flow(t + dt, -dt), forth, "bilinear")
        assert seen.mean() > 0.75
        assert np.abs(forth + back)[seen].max() < 0.02, (t, dt)


def test_occlusion_has_fast_motion_and_hidden_points(samples: Path) -> None:
    frames = decoded(samples / "occlusion.mp4")
    motion = load_motion(samples / "occlusion.json")
    assert [layer.name for layer in motion.layers] == ["wall", "ball", "crate"]
    ball = motion.layer_index(7) == 1
    assert np.linalg.norm(motion.flow(7, 1), axis=-1)[ball].min() > 20
    # From 6 to 7 the ball's lower half goes behind the crate; the crate hides nothing of itself.
    hidden = ~motion.visible(6, 1)
    index = motion.layer_index(6)
    assert 0.1 < hidden[index == 1].mean() < 0.6
    assert not hidden[index == 2].any()
    warped = follow(frames[7], motion.flow(6, 1))
    inside = np.zeros_like(hidden)
    inside[8:-8, 8:-8] = True
    occluded = psnr(warped[hidden & inside], frames[6][hidden & inside])
    assert occluded < psnr(warped[~hidden], frames[6][~hidden]) - 15


def two_layers(**changes: object) -> dict[str, object]:
    """A wall at rest and a 4x4 box (pixels 2 to 5) that goes 3 right, 1 down a frame."""
    still = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    square = [[1.5, 1.5], [5.5, 1.5], [5.5, 5.5], [1.5, 5.5]]
    return {
        "schema": "stnls-motion/1",
        "width": 12,
        "height": 9,
        "frames": 3,
        "rate": "25/1",
        "layers": [
            {"name": "wall", "shape": None, "transforms": [still] * 3},
            {
                "name": "box",
                "shape": {"kind": "polygon", "points": square},
                "transforms": [[[1, 0, 3 * t], [0, 1, t], [0, 0, 1]] for t in range(3)],
            },
        ],
        **changes,
    }


def test_flow_and_visibility_by_hand() -> None:
    motion = parse_motion(two_layers(), "by hand")
    box = np.zeros((9, 12), dtype=bool)
    box[2:6, 2:6] = True
    np.testing.assert_array_equal(motion.layer_index(0) == 1, box)
    expected = np.where(box[..., None], np.float32([3, 1]), np.float32([0, 0]))
    flow = motion.flow(0, 1)
    assert flow.dtype == np.float32
    np.testing.assert_array_equal(flow, expected)
    # The wall is hidden where the box arrives, but not where the box was before.
    arrived = np.zeros_like(box)
    arrived[3:7, 5:9] = True
    np.testing.assert_array_equal(motion.visible(0, 1), ~(arrived & ~box))
    # Two frames on, columns 2 to 5 of the box lie at 8 to 11: the last is still inside.
    assert motion.visible(0, 2)[box].all()
    np.testing.assert_array_equal(motion.flow(2, -2)[4:8, 8:12], np.full((4, 4, 2), [-6, -2]))
    np.testing.assert_array_equal(motion.flow(1, 0), np.zeros((9, 12, 2)))
    assert motion.visible(1, 0).all()


def test_points_that_leave_the_frame_are_not_visible() -> None:
    document = two_layers(width=11)
    motion = parse_motion(document, "narrow")
    seen = motion.visible(0, 2)
    assert seen[2:6, 2:5].all()
    assert not seen[2:6, 5].any()


def test_ellipse_by_hand() -> None:
    document = two_layers()
    document["layers"][1]["shape"] = {"kind": "ellipse", "centre": [4, 3], "radii": [2, 1]}  # type: ignore[index]
    inside = parse_motion(document, "ellipse").layer_index(0) == 1
    expected = np.zeros((9, 12), dtype=bool)
    expected[3, 2:7] = True
    expected[[2, 4], 4] = True
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize(("t", "dt"), [(-1, 1), (0, -1), (2, 1), (3, 0), (0, 3), (99, -98)])
def test_frames_outside_the_clip_are_refused(t: int, dt: int) -> None:
    motion: Motion = parse_motion(two_layers(), "by hand")
    for question in (motion.flow, motion.visible):
        with pytest.raises(ValueError, match=rf"t={t}, dt={dt}: frame"):
            question(t, dt)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "other"}, "not a motion file"),
        ({"frames": 4}, "layer wall has 3 transforms for 4 frames"),
        ({"width": "wide"}, "damaged motion file"),
        ({"layers": []}, "first layer must be unbounded"),
        ({"layers": [{"name": "w", "shape": None, "transforms": [[[0] * 3] * 3] * 3}]}, "inverse"),
        ({"layers": [{"name": "w", "shape": {"kind": "star"}, "transforms": []}]}, "star"),
    ],
)
def test_a_bad_motion_file_is_one_clear_error(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_motion(two_layers(**changes), "scene.json")


def test_a_missing_or_broken_motion_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot read"):
        load_motion(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json: not a motion file"):
        load_motion(tmp_path / "broken.json")
