"""Checks of heads: how many there are, and whether channels can be shared among them."""

from __future__ import annotations

from torch import Tensor

from stnls._errors import StnlsValueError


def some_heads(name: str, value: Tensor) -> None:
    """There is a head (dimension 1)."""
    if value.shape[1] == 0:
        raise StnlsValueError(f"{name} must have at least one head, not 0: {tuple(value.shape)}")


def own_heads(name: str, value: Tensor, nheads: int) -> None:
    """A video that comes with heads (dimension 1) has those of the search."""
    if value.shape[1] != nheads:
        raise StnlsValueError(
            f"{name} has {value.shape[1]} heads (dimension 1), but nheads={nheads}"
        )


def equal_heads(name0: str, heads0: int, name1: str, heads1: int) -> None:
    """Two tensors have equally many heads."""
    if heads0 != heads1:
        raise StnlsValueError(
            f"{name0} and {name1} must have as many heads, not {heads0} and {heads1}"
        )


def equal_channels(name: str, channels: int, heads: int, heads_do_not: str) -> None:
    """All heads have equally many of the channels; `heads_do_not`: they, in the message."""
    if heads == 0 or channels % heads != 0:
        raise StnlsValueError(f"{name} has {channels} channels, which {heads_do_not} divide")


def used_heads(flow_heads: int, heads: int) -> None:
    """Every head of the flow is used by a head of the videos."""
    if flow_heads > heads:
        raise StnlsValueError(
            f"flows must have no more heads than the videos, {heads}, not {flow_heads}"
        )


def heads_of_convolution(heads: int, channels: int, nheads: int, every: int) -> None:
    """The gathered heads, and the channels of all of them, are those of the convolution."""
    if (heads, channels) != (nheads, every):
        raise StnlsValueError(
            f"a convolution of nheads={nheads} and channels={every} cannot take "
            f"{heads} heads and {channels} channels"
        )


def one_head(what: str, heads: int) -> None:
    """There is one head."""
    if heads != 1:
        raise StnlsValueError(f"{what} is for one head, not {heads}")
