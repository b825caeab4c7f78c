"""How much is worked on at a time: the same results, and the memory of a GPU reckoned before."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import refused

import stnls_cli.job
import stnls_cli.outputs
from stnls_cli import UserError, align, compute_flow
from stnls_cli.batch_aligner import BatchAligner
from stnls_cli.flow.methods import FlowMethod
from stnls_cli.job import Job
from stnls_cli.metrics import counted
from stnls_cli.options import AlignOptions
from stnls_cli.plan import (
    FRAMES_ON_GPU,
    Plan,
    fitted,
    flow_bytes,
    gpu_bytes,
    gpu_plan,
    gpu_shared_by,
    writer_threads,
    written_behind,
)
from stnls_cli.video import ClipInfo

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def info(width: int, height: int, bits: int = 8) -> ClipInfo:
    return ClipInfo(
        path=Path("in.mp4"),
        stem="in",
        width=width,
        height=height,
        source_width=width,
        source_height=height,
        rate=Fraction(25),
        stream=0,
        frames_expected=20,
        pixel_format="yuv420p",
        bit_depth=bits,
        notes=(),
    )


@pytest.mark.parametrize(
    ("methods", "writing", "references"),
    [("none,flow,nls,shifted-nls", 0, 1), ("nls", 1, 2), ("none,shifted-nls", 3, 4)],
)
def test_batches_do_not_change_the_results(
    tmp_path: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    methods: str,
    writing: int,
    references: int,
) -> None:
    """What a GPU does at a time, on the CPU."""
    options: dict[str, Any] = {"ws": 5, "ps": 3, "wt": 2, "sigma": 3, "methods": methods}
    if "shifted-nls" in methods:
        options["save"] = "aligned,offsets,flow"
    one = align(clip, tmp_path / "one", **options)
    plan = Plan(ahead=3, pairs=3, flow_pairs=4, under_way=2, shrink_at_once=True, together=True)
    plan = replace(plan, writing=writing, references=references)
    monkeypatch.setattr(stnls_cli.job, "plan_for", lambda *_: plan)
    two = align(clip, tmp_path / "two", **options)
    for row, other in zip(one.rows, two.rows, strict=True):
        assert (row.t, row.dt, row.method) == (other.t, other.dt, other.method)
        assert other.psnr == pytest.approx(row.psnr, abs=2e-3)
        assert other.ssim == pytest.approx(row.ssim, abs=2e-4)
        assert other.out_of_frame == row.out_of_frame
    names = [
        sorted(str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*"))
        for run in ("one", "two")
    ]
    assert names[0] == names[1]
    # tvl1 is timed where it runs: by the threads that compute it, or as a stage.
    computed = "flow" in methods or "shifted-nls" in methods
    assert ("flow_cpu" in one.timings, "flow" in one.timings) == (computed, False)
    assert ("flow_cpu" in two.timings, "flow" in two.timings) == (False, computed)


@pytest.mark.parametrize("wt", [1, 2])
def test_flows_are_computed_in_whole_batches(
    tmp_path: Path, textured: Any, encode: Any, monkeypatch: pytest.MonkeyPatch, wt: int
) -> None:
    """But for what fills the window at first, and the rest."""
    path = encode(tmp_path / "in.mkv", textured(60, 32, 48), codec="ffv1", pixel_format="bgr0")
    plan = gpu_plan(AlignOptions(), info(854, 480), native=True)
    monkeypatch.setattr(stnls_cli.job, "plan_for", lambda *_: plan)
    counts: list[int] = []

    def compute_batch(self: FlowMethod, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        counts.append(len(one))
        return torch.zeros(len(one), 2, *one.shape[-2:])

    monkeypatch.setattr(FlowMethod, "compute_batch", compute_batch)
    align(path, tmp_path / "out", wt=wt, methods="flow", metrics="psnr", save="none")
    assert sum(counts) == 2 * 59
    assert max(counts) == plan.flow_pairs == 16
    assert len(counts) <= 9


def test_encoding_goes_on_beside_the_work() -> None:
    options = AlignOptions(flow="zero", wt=2)
    assert written_behind(options, info(854, 480), 16) == 8
    assert written_behind(options, info(854, 480), 2) == 1
    assert written_behind(options, info(7680, 4320), 64) == 1
    assert written_behind(AlignOptions(flow="zero", save="none"), info(854, 480), 16) == 0


def test_threads_that_launch_have_a_core_of_their_own() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [writer_threads(cuda, n) for n in (1, 2, 4, 8, 16, 32)] == [1, 2, 4, 8, 14, 28]
    assert [writer_threads(cpu, n) for n in (1, 2, 16)] == [1, 2, 16]


def test_a_device_is_not_kept_waiting_for_files(
    tmp_path: Path, textured: Any, encode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of which only the files are missing do not count as under way."""
    path = encode(tmp_path / "in.mkv", textured(8, 32, 48), codec="ffv1", pixel_format="bgr0")
    plan = Plan(ahead=1, pairs=2, flow_pairs=0, under_way=1, writing=4)
    monkeypatch.setattr(stnls_cli.job, "plan_for", lambda *_: plan)
    hold, seen = threading.Event(), []

    def pairs(self: Job, t: int, outputs: Any) -> Any:
        seen.append(t)
        if t == 4:
            hold.set()  # reached while no file was written
        return gathered(self, t, outputs)

    def write(*arguments: Any) -> None:
        assert hold.wait(60)
        write_image(*arguments)

    gathered, write_image = Job._pairs, stnls_cli.outputs._write_image
    monkeypatch.setattr(Job, "_pairs", pairs)
    monkeypatch.setattr(stnls_cli.outputs, "_write_image", write)
    align(path, tmp_path / "out", wt=1, flow="zero", ws=3, ps=3, threads=2)
    assert seen == list(range(8))
    assert len(list((tmp_path / "out").rglob("*.png"))) >= 14


def test_threads_of_the_cpu_need_not_wait_for_a_frame_to_end(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairs of the next frame are there when the first thread is done with this one."""
    begun, align_batch = threading.Event(), BatchAligner.align

    def watched(self: BatchAligner, batch: Any, outputs: Any) -> Any:
        if batch[0].t == 2:
            begun.set()
        elif (batch[0].t, batch[0].dt) == (1, -1):
            assert begun.wait(60)
        return align_batch(self, batch, outputs)

    monkeypatch.setattr(BatchAligner, "align", watched)
    align(clip, tmp_path / "out", wt=1, flow="zero", ws=3, ps=3, threads=2, save="none")
    assert begun.is_set()


def test_plans_by_size() -> None:
    options = AlignOptions(flow="zero")
    small = gpu_plan(options, info(854, 480), native=True)
    assert small == Plan(7, 8, 16, FRAMES_ON_GPU, shrink_at_once=False, together=True, references=2)
    assert gpu_plan(options, info(854, 480), native=False).flow_pairs == 0
    large = gpu_plan(options, info(3840, 2160), native=True)
    assert large == Plan(1, 1, 2, 2, shrink_at_once=True, together=False)
    tiny = gpu_plan(AlignOptions(flow="zero", wt=1), info(64, 64), native=True)
    assert (tiny.pairs, tiny.references, tiny.under_way) == (8, 4, 12)
    # Where a frame's own pairs fill the GPU, no others are added.
    hd = gpu_plan(options, info(1280, 720), native=True)
    assert (hd.pairs, hd.references, hd.shrink_at_once) == (4, 1, True)


def test_memory_grows_with_what_is_held() -> None:
    def needed(width: int = 854, height: int = 480, bits: int = 8, **given: Any) -> int:
        options = AlignOptions(flow="zero", **given)
        clip = info(width, height, bits)
        return gpu_bytes(gpu_plan(options, clip, native=True), options, clip)

    base = needed()
    assert base < needed(sigma=5.0)
    assert needed(wt=1) < base  # other frames fill the GPU as well
    assert base < needed(k=5)
    assert base < needed(bits=10)
    # 4K in 4 GB.
    assert needed(3840, 2160) < 4e9


@pytest.mark.parametrize("size", [(854, 480), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("given", [{}, {"wt": 1, "sigma": 5.0}, {"wt": 4, "k": 3}])
@pytest.mark.parametrize("bits", [8, 10])
def test_the_formula_of_the_page(
    size: tuple[int, int], native: bool, given: dict[str, Any], bits: int
) -> None:
    """docs/align.md says how much memory a run takes on a GPU."""
    options, pixels = AlignOptions(flow="zero", **given), size[0] * size[1]
    wt, k, noise = options.wt, options.k, options.sigma > 0
    f = min(max(2**23 // pixels, 2), 16) if native else 0
    a = max(f // 2 - 1, 1) if native else 4
    r = min(max(2**22 // pixels // (2 * wt), 1), 4)
    p = min(max(2**22 // pixels, 1), 2 * wt * r)
    s = 1 if p > 1 else 0
    u = max(6, 3 * r)
    if pixels * 2 * wt * 72 * u > 2**30:  # large frames
        u = 0
    n = 2 * wt + a + r
    m = max(110 * f, p * (250 + 100 * (k - 1) + 130 * s + (48 if r > 1 else 0)))
    held = 12 * n + 12 * n * noise + (60 if bits > 8 else 15) + 8 * (3 * wt + 2 * wt * r + 2 * a)
    clip = info(*size, bits)
    needed = gpu_bytes(gpu_plan(options, clip, native=native), options, clip)
    assert needed == pixels * (held + 144 * wt * u + m) + 2**28


def test_the_examples_of_the_page(root: Path) -> None:
    page = (root / "docs/align.md").read_text(encoding="utf-8").replace("\n", " ")
    options = AlignOptions(flow="zero")
    for size in ((854, 480), (1920, 1080), (3840, 2160)):
        needed = gpu_bytes(gpu_plan(options, info(*size), native=True), options, info(*size))
        (told,) = re.findall(rf"{size[0]}×{size[1]} (?:that is )?([\d.]+) GB", page)
        assert told == f"{needed / 1e9:.1f}"


def test_a_smaller_plan_where_memory_is_short() -> None:
    options, clip = AlignOptions(flow="zero"), info(854, 480)
    plan = gpu_plan(options, clip, native=True)
    needed = gpu_bytes(plan, options, clip)
    assert fitted(plan, options, clip, "cuda:0", needed) == plan
    smaller = fitted(plan, options, clip, "cuda:0", needed - 1)
    assert smaller == Plan(1, 1, 1, 1, shrink_at_once=True, together=False)
    least = gpu_bytes(smaller, options, clip)
    assert least < needed / 2
    with pytest.raises(UserError) as caught:
        fitted(plan, options, clip, "cuda:1", least - 1)
    words = str(caught.value)
    assert words.startswith("in.mp4: frames of 854x480 with --wt 2 need about 0.4 GiB of memory on")
    assert (
        "cuda:1, of which 0.4 GiB are free; use a smaller --size or --wt, or --device cpu" in words
    )
    with gpu_shared_by(3), pytest.raises(UserError) as caught:
        fitted(plan, options, clip, "cuda:1", least - 1)
    assert (
        "0.4 GiB are free for each of 3 processes; use a smaller --size, --workers or --wt, or"
        in str(caught.value)
    )


def test_memory_of_flow_alone() -> None:
    options, clip = AlignOptions(flow="tvl1", wt=1), info(854, 480)
    plan = gpu_plan(options, clip, native=True)
    needed = flow_bytes(plan, options, clip)
    assert needed < gpu_bytes(plan, options, clip)
    assert needed < flow_bytes(plan, replace(options, sigma=5.0), clip)
    assert needed < flow_bytes(plan, options, info(854, 480, bits=10))
    assert fitted(plan, options, clip, "cuda:0", needed, flow_only=True) == plan
    smaller = fitted(plan, options, clip, "cuda:0", needed - 1, flow_only=True)
    assert (smaller.ahead, smaller.flow_pairs) == (1, 1)
    least = flow_bytes(smaller, options, clip)
    with pytest.raises(UserError) as caught:
        fitted(plan, options, clip, "cuda:1", least - 1, flow_only=True)
    assert str(caught.value) == (
        "in.mp4: frames of 854x480 need about 0.3 GiB of memory on cuda:1, of which 0.3 GiB are "
        "free; use a smaller --size, or --device cpu"
    )


def test_flow_reckons_with_flow_alone(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stnls_cli.flow_run import job

    def planned(*_: object, flow_only: bool) -> Plan:
        raise UserError(f"flow_only={flow_only}")

    monkeypatch.setattr(job, "plan_for", planned)
    with pytest.raises(UserError, match="flow_only=True"):
        compute_flow(clip, tmp_path / "out", flow="zero")


@pytest.mark.gpu
@GPU
def test_too_large_for_the_gpu_is_said_before_the_work(
    cli: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stnls_cli.plan

    monkeypatch.setattr(stnls_cli.plan, "free_bytes", lambda _: 2**20)
    ended = cli("align", clip, "--device=cuda", "-q")
    refused(ended, "clip.mkv: frames of 48x32 with --wt 2 need about 0.3 GiB of memory on cuda:0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("size", ["854x480", "1920x1080"])
@pytest.mark.parametrize("given", [{}, {"sigma": 5.0, "wt": 1}, {"k": 3}])
def test_memory_is_what_was_reckoned(
    tmp_path: Path, textured: Any, encode: Any, size: str, given: dict[str, Any]
) -> None:
    # More frames than are read ahead, under way and aligned together.
    path = encode(tmp_path / "in.mkv", textured(32, 32, 48), codec="ffv1", pixel_format="bgr0")
    options = {"size": size, "save": "none", "device": "cuda", **given}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    align(path, tmp_path / "out", **options)
    used = torch.cuda.max_memory_allocated() - before
    width, height = map(int, size.split("x"))
    settings = AlignOptions(**options)
    plan = gpu_plan(settings, info(width, height), native=True)
    assert used <= gpu_bytes(plan, settings, info(width, height))


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("size", ["854x480", "1920x1080"])
def test_memory_of_flow_is_what_was_reckoned(tmp_path: Path, clip: Path, size: str) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    compute_flow(clip, tmp_path / "out", size=size, pictures=False, device="cuda")
    used = torch.cuda.max_memory_allocated() - before
    width, height = map(int, size.split("x"))
    settings = AlignOptions(wt=1)
    plan = gpu_plan(settings, info(width, height), native=True)
    assert used <= flow_bytes(plan, settings, info(width, height))


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("sigma", [0.0, 10.0])
def test_all_on_the_gpu_is_as_on_the_cpu(
    tmp_path: Path, textured: Any, encode: Any, sigma: float
) -> None:
    """With the flow that is computed there, what is saved, and the pictures. TV-L1 looks every few
    iterations there whether it may stop, so that flows differ by hundredths of a pixel."""
    path = encode(tmp_path / "in.mkv", textured(7, 96, 144), codec="ffv1", pixel_format="bgr0")
    options: dict[str, Any] = {"ws": 5, "wt": 2, "sigma": sigma, "save": "aligned,flow,offsets"}
    cpu = align(path, tmp_path / "cpu", device="cpu", **options)
    gpu = align(path, tmp_path / "cuda", device="cuda", **options)
    for one, two in zip(cpu.rows, gpu.rows, strict=True):
        assert (one.t, one.dt, one.method) == (two.t, two.dt, two.method)
        # Beyond 100 dB there are only roundings.
        assert counted("psnr", two.psnr) == pytest.approx(counted("psnr", one.psnr), rel=0.005)
        assert two.ssim == pytest.approx(one.ssim, abs=0.005)
        assert two.mae == pytest.approx(one.mae, rel=0.02, abs=0.02)
    names = [
        sorted(str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*.*"))
        for run in ("cpu", "cuda")
    ]
    assert [name for name in names[0] if "pictures" not in name] == [
        name for name in names[1] if "pictures" not in name
    ]
    assert "flow" in gpu.timings
    assert "flow_cpu" not in gpu.timings
    again = align(path, tmp_path / "again", device="cuda", **options)
    assert again.rows == gpu.rows


@pytest.mark.gpu
@GPU
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="one GPU only")
def test_two_gpus_give_the_results_of_one(tmp_path: Path, textured: Any, encode: Any) -> None:
    clips = [
        encode(tmp_path / f"{name}.mkv", textured(5, 64, 96), codec="ffv1", pixel_format="bgr0")
        for name in "abc"
    ]
    options: dict[str, Any] = {"ws": 5, "wt": 1, "save": "aligned"}
    one = align(clips, tmp_path / "one", device="cuda:0", **options)
    two = align(clips, tmp_path / "two", device="cuda", **options)
    assert len({report.device for report in two}) == 2
    assert [report.rows for report in one] == [report.rows for report in two]
    for path in (tmp_path / "one").rglob("*.png"):
        same = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert same.read_bytes() == path.read_bytes()
