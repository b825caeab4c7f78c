"""What a row of the benchmark computes: an operator, its parameters and the size of its tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Operator = Literal["NonLocalSearch", "PairedSearch", "WeightedPatchSum", "NeighbourhoodAttention"]
Gradients = Literal["none", "videos", "all"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One call, batch 1.

    `k` is 0 for every candidate. `stride0`: pixels between queries, 1 for all but searches.
    `gradients`: "videos" adds the backward pass to the videos (and to the weights of a patch sum),
    "all" also to the flow, or to the offsets of a patch sum. `flow` names a flow of its own,
    whatever the command asks for.

    A WeightedPatchSum works on the result of the NonLocalSearch with its parameters, but for the
    patch where `search_ps` is not 0.
    """

    operator: Operator
    frames: int
    channels: int
    height: int
    width: int
    ws: int
    wt: int = 0
    ps: int = 1
    k: int = 1
    heads: int = 1
    stride0: int = 1
    stride1: float = 1.0
    grid: Literal["int", "float"] = "int"
    anchor: bool = False
    gradients: Gradients = "none"
    flow: str | None = None
    search_ps: int = 0

    @property
    def paired(self) -> bool:
        """Whether one frame is searched in one other."""
        return self.operator == "PairedSearch"

    @property
    def is_image(self) -> bool:
        """Whether the channels are those of pictures; otherwise they are features of a network."""
        return self.channels <= 4

    @property
    def slots(self) -> int:
        """Temporal slots that a query searches."""
        return 2 * self.wt + 1

    @property
    def flow_slots(self) -> int:
        """Slots with a flow: all but the own frame, unless there is no other."""
        return 2 * self.wt or 1

    @property
    def query_grid(self) -> tuple[int, int]:
        """Rows and columns of queries in a frame."""
        return (self.height - 1) // self.stride0 + 1, (self.width - 1) // self.stride0 + 1

    @property
    def candidates(self) -> int:
        """Positions that a query is compared with."""
        return self.slots * self.ws**2

    @property
    def entries(self) -> int:
        """Matches that a query keeps."""
        return min(self.k, self.candidates) if self.k > 0 else self.candidates

    @property
    def shape(self) -> str:
        """Size of the video: "T5 C3 480x854"."""
        return f"T{self.frames} C{self.channels} {self.height}x{self.width}"

    @property
    def name(self) -> str:
        """All of it in one line."""
        words = [self.operator, self.shape]
        if self.operator == "WeightedPatchSum":
            words += [f"ps{self.ps}", f"K{self.entries}"]
        elif self.operator == "NeighbourhoodAttention":
            words += [f"ws{self.ws}"]
        else:
            words += [f"ws{self.ws}"]
            words += [] if self.paired else [f"wt{self.wt}"]
            words += [f"ps{self.ps}", f"K{self.entries}"]
        if self.heads > 1:
            words.append(f"heads{self.heads}")
        if self.stride0 > 1:
            words.append(f"stride{self.stride0}")
        words.append(self.grid)
        if self.grid == "float" and "Search" in self.operator:
            words.append(f"step{self.stride1:g}")
        if self.anchor and "Search" in self.operator:
            words.append("anchor")
        if self.flow is not None:
            words.append(f"flow={self.flow}")
        words.append(
            {
                "none": "forward",
                "videos": "forward+backward",
                "all": "forward+backward, also to the flow",
            }[self.gradients]
        )
        return " ".join(words)

    def search_options(self) -> dict[str, Any]:
        """Arguments of the search, by the names that the original has as well."""
        options: dict[str, Any] = {
            "ws": self.ws,
            "ps": self.ps,
            "k": self.k if self.k > 0 else -1,
            "nheads": self.heads,
            "stride0": self.stride0,
            "stride1": self.stride1 if self.grid == "float" else 1,
            "itype": self.grid,
        }
        if not self.paired:
            options["wt"] = self.wt
            options["self_action"] = "anchor" if self.anchor else None
        if self.operator == "NeighbourhoodAttention":
            options["dist_type"] = "prod"
        return options

    def parameters(self) -> dict[str, Any]:
        """Every field, for JSON."""
        return asdict(self)
