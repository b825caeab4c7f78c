"""Between the processor and a GPU, without waiting: pinned memory and streams of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Arriving:
    """A tensor on its way to the device."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def here(self) -> Tensor:
        """The tensor, for the current stream to work on."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.copied)
            self.tensor.record_stream(stream)
        return self.tensor


class Uploads:
    """Copies arrays to the device on a stream of its own; on the CPU they are taken as they are."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def put(self, array: NDArray[Any]) -> Arriving:
        """Begins to copy; any thread may call it. `array` may be changed when this returns, but not
        on the CPU, where a contiguous one is not copied and stays in use."""
        values = torch.from_numpy(np.ascontiguousarray(array))
        if self._stream is None:
            return Arriving(values, None)
        # Pinned on behalf of this device: another one would be woken for it. PyTorch gives pinned
        # memory back only when the copies that use it are done.
        with torch.cuda.stream(self._stream):
            pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            pinned.copy_(values)
            tensor = pinned.to(self._device, non_blocking=True)
            copied = self._stream.record_event()
        return Arriving(tensor, copied)


@dataclass(frozen=True)
class Leaving:
    """A tensor on its way to the processor."""

    tensor: Tensor
    copied: torch.cuda.Event | None

    def numpy(self) -> NDArray[Any]:
        """Waits for the copy."""
        if self.copied is not None:
            self.copied.synchronize()
        array: NDArray[Any] = self.tensor.numpy()
        return array


class Downloads:
    """Copies tensors to the processor on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def get(self, tensor: Tensor) -> Leaving:
        """Begins to copy what the current stream will have made of `tensor`."""
        tensor = tensor.contiguous()
        if self._stream is None:
            return Leaving(tensor, None)
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._stream)
            # Threads that wait for it sleep: they would spin on the cores that others need.
            copied = torch.cuda.Event(blocking=True)
            copied.record()
        return Leaving(host, copied)
