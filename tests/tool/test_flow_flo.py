"""The .flo format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stnls_cli.errors import UserError
from stnls_cli.flow import read_flo, write_flo


def test_bytes_are_middlebury_s(tmp_path: Path) -> None:
    flow = np.array([[[1, 2], [3, 4], [5, 6]]], dtype=np.float32)
    write_flo(tmp_path / "a.flo", flow)
    expected = struct.pack("<fii6f", 202021.25, 3, 1, 1, 2, 3, 4, 5, 6)
    assert (tmp_path / "a.flo").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.flo"]


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int, scale: float
) -> None:
    path = tmp_path_factory.mktemp("flo") / "a.flo"
    flow = np.random.default_rng(seed).normal(0, scale, (height, width, 2)).astype(np.float32)
    write_flo(path, flow)
    np.testing.assert_array_equal(read_flo(path), flow)


def test_unknown_is_nan(tmp_path: Path) -> None:
    flow = np.zeros((2, 2, 2), dtype=np.float32)
    flow[0, 1] = 1.6666667e9, 3
    flow[1, 0] = 2, -1.1e9
    write_flo(tmp_path / "a.flo", flow)
    nan = np.isnan(read_flo(tmp_path / "a.flo"))
    np.testing.assert_array_equal(nan.all(axis=2), [[False, True], [True, False]])
    np.testing.assert_array_equal(nan.any(axis=2), [[False, True], [True, False]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .flo file"),
        (b"PIEX" + bytes(16), "not a .flo file: it begins with b'PIEX'"),
        (b"PIEH" + bytes(3), "truncated: the header alone takes 12 bytes"),
        (struct.pack("<4sii", b"PIEH", 0, 4), "damaged: the header says 0x4 pixels"),
        (struct.pack("<4sii", b"PIEH", 2, -1), "damaged: the header says 2x-1 pixels"),
        (struct.pack("<4sii7f", b"PIEH", 2, 2, *range(7)), "truncated: a 2x2 flow takes 44 bytes"),
        (struct.pack("<4sii9f", b"PIEH", 2, 2, *range(9)), "too long: .* here are 48"),
    ],
)
def test_damage(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_flo(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_flo(tmp_path / "none.flo")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 2\)"):
        write_flo(tmp_path / "a.flo", np.zeros((4, 4, 3), dtype=np.float32))
    assert list(tmp_path.iterdir()) == []


def test_ground_truth_of_middlebury(shared: Path) -> None:
    flow = read_flo(shared / "data" / "middlebury" / "RubberWhale" / "flow10.flo")
    assert flow.shape == (388, 584, 2)
    known = np.isfinite(flow).all(axis=2)
    assert 0.9 < known.mean() < 1
    assert np.abs(flow[known]).max() < 10
