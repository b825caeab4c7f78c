"""Flow of a clip from files: both layouts, by source frame, with every fault named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stnls_cli.errors import UserError
from stnls_cli.flow import open_flow_files, write_flo, write_flow_folder, write_flow_npz
from stnls_cli.flow.flo_folder import FloFolder
from stnls_cli.flow.npz_flow import NpzFlow

T, H, W = 5, 6, 8
RNG = np.random.default_rng(3)
FORWARD = RNG.normal(0, 3, (T, H, W, 2)).astype(np.float32)
BACKWARD = RNG.normal(0, 3, (T, H, W, 2)).astype(np.float32)


def make_folder(path: Path) -> Path:
    write = write_flow_folder(path / "flows")
    for t in range(T - 1):
        write("forward", t, FORWARD[t])
        write("backward", t + 1, BACKWARD[t + 1])
    return path / "flows"


def make_npz(path: Path) -> Path:
    write_flow_npz(path / "flow.npz", FORWARD, BACKWARD, (T, H, W))
    return path / "flow.npz"


def make_savez(path: Path) -> Path:
    np.savez(path / "flow.npz", forward=FORWARD, backward=BACKWARD)
    return path / "flow.npz"


def make_compressed(path: Path) -> Path:
    np.savez_compressed(path / "flow.npz", forward=FORWARD[:-1], backward=BACKWARD)
    return path / "flow.npz"


Maker = Callable[[Path], Path]
LAYOUTS = [make_folder, make_npz, make_savez, make_compressed]


@pytest.mark.parametrize("make", LAYOUTS)
def test_every_frame_in_any_order(tmp_path: Path, make: Maker) -> None:
    files = open_flow_files(make(tmp_path), height=H, width=W, start=0, stop=T)
    for t in (0, 1, 2, 3, 3, 1, 0, 2):
        np.testing.assert_array_equal(files.forward(t), FORWARD[t])
        np.testing.assert_array_equal(files.backward(t + 1), BACKWARD[t + 1])
        assert files.forward(t).dtype == np.float32
    files.close()


@pytest.mark.parametrize("make", LAYOUTS)
def test_digest_tells_contents_apart(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = open_flow_files(make(tmp_path / "a"), height=H, width=W)
    path = make(tmp_path / "b")
    if path.is_dir():
        write_flo(path / "forward" / "00002.flo", FORWARD[0])
    else:
        write_flow_npz(path, FORWARD, FORWARD, (T, H, W))
    second = open_flow_files(path, height=H, width=W)
    assert first.digest().startswith("sha256:")
    assert first.digest() == first.digest()
    assert first.digest() != second.digest()


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    with np.load(make_npz(tmp_path)) as stored:
        assert sorted(stored) == ["backward", "forward"]
        np.testing.assert_array_equal(stored["forward"], FORWARD)
        np.testing.assert_array_equal(stored["backward"], BACKWARD)


def test_written_npz_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="forward has 4 frames, its shape says 5"):
        write_flow_npz(tmp_path / "a.npz", FORWARD[:4], BACKWARD, (T, H, W))
    with pytest.raises(ValueError, match=r"backward\[0\]"):
        write_flow_npz(tmp_path / "a.npz", FORWARD, BACKWARD[:, 1:], (T, H, W))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f8"])
def test_other_real_types(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "flow.npz"
    np.savez(path, forward=FORWARD.astype(dtype), backward=BACKWARD.astype(dtype))
    files = open_flow_files(path, height=H, width=W)
    np.testing.assert_array_equal(files.forward(3), FORWARD[3])
    assert files.forward(3).dtype == np.float32


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_clip(tmp_path: Path, save: Callable[..., None]) -> None:
    import tracemalloc

    frames, side = 40, 64
    flow = np.zeros((frames, side, side, 2), dtype=np.float32)
    save(tmp_path / "flow.npz", forward=flow, backward=flow)
    del flow
    files = open_flow_files(tmp_path / "flow.npz", height=side, width=side, stop=frames)
    tracemalloc.start()
    for t in range(frames - 1):
        files.forward(t)
        files.backward(t + 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    files.close()
    assert peak < 12 * side * side * 2 * 4


@pytest.mark.parametrize("make", [make_folder, make_npz, make_compressed])
def test_start_counts_in_source_frames(tmp_path: Path, make: Maker) -> None:
    files = open_flow_files(make(tmp_path), height=H, width=W, start=2, stop=5)
    np.testing.assert_array_equal(files.forward(2), FORWARD[2])
    np.testing.assert_array_equal(files.backward(4), BACKWARD[4])
    files.close()


@pytest.mark.parametrize("make", [make_folder, make_npz, make_compressed])
def test_too_few_frames(tmp_path: Path, make: Maker) -> None:
    path = make(tmp_path)
    with pytest.raises(UserError, match=r"no flow for frame \d"):
        open_flow_files(path, height=H, width=W, start=0, stop=T + 2)
    later = open_flow_files(path, height=H, width=W)
    with pytest.raises(UserError, match="no flow for frame 5"):
        later.backward(5)
    later.close()


def test_a_single_frame_needs_no_flow(tmp_path: Path) -> None:
    open_flow_files(make_npz(tmp_path), height=H, width=W, start=9, stop=10).close()


@pytest.mark.parametrize("make", [make_folder, make_npz, make_compressed])
def test_wrong_size_states_both(tmp_path: Path, make: Maker) -> None:
    with pytest.raises(UserError, match="the flow is 8x6, the frames are 9x6"):
        open_flow_files(make(tmp_path), height=6, width=9)


def test_one_file_of_another_size(tmp_path: Path) -> None:
    path = make_folder(tmp_path)
    write_flo(path / "backward" / "00002.flo", FORWARD[0, :, :4])
    files = open_flow_files(path, height=H, width=W)
    with pytest.raises(UserError, match=r"00002.flo: the flow is 4x6, the frames are 8x6"):
        files.backward(2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.7e9])
@pytest.mark.parametrize("layout", ["npz", "folder"])
def test_unusable_values_name_the_frame(tmp_path: Path, bad: float, layout: str) -> None:
    flow = FORWARD.copy()
    flow[3, 2, 5, 1] = bad
    if layout == "npz":
        path = tmp_path / "flow.npz"
        write_flow_npz(path, flow, BACKWARD, (T, H, W))
    else:
        path = make_folder(tmp_path)
        write_flo(path / "forward" / "00003.flo", flow[3])
    files = open_flow_files(path, height=H, width=W, stop=T)
    files.forward(2)
    where = "forward, frame 3" if layout == "npz" else "00003.flo"
    with pytest.raises(UserError, match=f"{where}: 1 pixel of unknown or non-finite flow"):
        files.forward(3)


def test_float64_too_large_is_not_finite(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", forward=np.full((T, H, W, 2), 1e300), backward=BACKWARD)
    with pytest.raises(UserError, match="frame 0: 48 pixels"):
        open_flow_files(tmp_path / "f.npz", height=H, width=W).forward(0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"forward": FORWARD}, "no key 'backward' .*t -> t-1"),
        ({"backward": BACKWARD}, "no key 'forward' .*t -> t\\+1"),
        ({"forward": FORWARD, "backward": BACKWARD, "occ": FORWARD}, "unknown key 'occ'"),
        ({"flow": FORWARD}, "unknown key 'flow'"),
        ({"forward": FORWARD.astype(int), "backward": BACKWARD}, "the type is int64; float32"),
        ({"forward": FORWARD, "backward": BACKWARD.astype("f2")}, "the type is float16; float32"),
        ({"forward": FORWARD, "backward": BACKWARD[0]}, r"shape is \(6, 8, 2\); \(T, H, W, 2\)"),
        ({"forward": FORWARD.transpose(0, 3, 1, 2), "backward": BACKWARD}, r"\(5, 2, 6, 8\)"),
        ({"forward": np.float32(1), "backward": BACKWARD}, r"shape is \(\)"),
        ({"forward": np.asfortranarray(FORWARD), "backward": BACKWARD}, "Fortran order"),
        ({"forward": np.array([None, {}]), "backward": BACKWARD}, "Python objects"),
    ],
)
def test_wrong_npz(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "flow.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_flow_files(tmp_path / "flow.npz", height=H, width=W)


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_damaged_npz(tmp_path: Path, keep: int) -> None:
    path = make_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"not an \.npz file, or a damaged one"):
        open_flow_files(path, height=H, width=W)


def test_damage_inside_a_compressed_npz(tmp_path: Path) -> None:
    path = make_compressed(tmp_path)
    data = bytearray(path.read_bytes())
    data[600:900] = bytes(300)
    path.write_bytes(data)

    def read_all() -> None:
        files = open_flow_files(path, height=H, width=W)
        for t in range(T - 1):
            files.forward(t)

    with pytest.raises(UserError, match=r"flow\.npz, forward"):
        read_all()


def test_folder_without_a_direction(tmp_path: Path) -> None:
    (tmp_path / "forward").mkdir()
    write_flo(tmp_path / "forward" / "00000.flo", FORWARD[0])
    with pytest.raises(UserError, match="no folder 'backward' in it"):
        open_flow_files(tmp_path, height=H, width=W)
    (tmp_path / "backward").mkdir()
    with pytest.raises(UserError, match=r"backward: no \.flo files in it"):
        open_flow_files(tmp_path, height=H, width=W)


def test_names_are_frame_numbers(tmp_path: Path) -> None:
    path = make_folder(tmp_path)
    (path / "forward" / "notes.txt").write_text("ignored")
    (path / "forward" / "00001.flo").rename(path / "forward" / "1.flo")
    files = FloFolder(path, H, W)
    np.testing.assert_array_equal(files.forward(1), FORWARD[1])
    write_flo(path / "forward" / "001.flo", FORWARD[0])
    with pytest.raises(UserError, match="frame 1 has a second file"):
        FloFolder(path, H, W)
    (path / "forward" / "001.flo").rename(path / "forward" / "frame1.flo")
    with pytest.raises(UserError, match="name has to be the frame's number"):
        FloFolder(path, H, W)


def test_a_gap_is_found_at_once(tmp_path: Path) -> None:
    path = make_folder(tmp_path)
    (path / "backward" / "00003.flo").unlink()
    with pytest.raises(UserError, match=r"no flow for frame 3 \(backward/00003.flo\); 3 files"):
        open_flow_files(path, height=H, width=W, start=0, stop=T)
    open_flow_files(path, height=H, width=W, start=0, stop=3).close()


def test_other_paths(tmp_path: Path) -> None:
    write_flo(tmp_path / "one.flo", FORWARD[0])
    with pytest.raises(UserError, match=r"an \.npz file or a folder of \.flo files"):
        open_flow_files(tmp_path / "one.flo", height=H, width=W)
    with pytest.raises(UserError, match="no such file or folder"):
        open_flow_files(tmp_path / "none.npz", height=H, width=W)


def test_closed_npz_lets_go(tmp_path: Path) -> None:
    files = NpzFlow(make_compressed(tmp_path), H, W)
    files.forward(0)
    files.close()
    with pytest.raises((UserError, ValueError)):
        files.forward(0)
