"""Optical flow between neighbouring frames: computed by the library or by OpenCV, or read."""

from __future__ import annotations

from stnls_cli.flow.batched import BatchedFlow, batched_flow
from stnls_cli.flow.clip_flow import FlowFiles
from stnls_cli.flow.files import open_flow_files
from stnls_cli.flow.flo import read_flo, write_flo
from stnls_cli.flow.flo_folder import write_flow_folder
from stnls_cli.flow.luma import luma8, luma8_of_tensor
from stnls_cli.flow.methods import FLOW_METHODS, FlowMethod
from stnls_cli.flow.npz_flow import write_flow_npz
from stnls_cli.flow.source import (
    FlowSource,
    MethodSource,
    check_flow_name,
    open_flow_source,
    thread_seconds,
)

__all__ = [
    "FLOW_METHODS",
    "BatchedFlow",
    "FlowFiles",
    "FlowMethod",
    "FlowSource",
    "MethodSource",
    "batched_flow",
    "check_flow_name",
    "luma8",
    "luma8_of_tensor",
    "open_flow_files",
    "open_flow_source",
    "read_flo",
    "thread_seconds",
    "write_flo",
    "write_flow_folder",
    "write_flow_npz",
]
