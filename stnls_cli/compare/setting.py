"""The settings that are compared: a method, and what has an influence on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from stnls_cli.compare.options import CompareOptions
from stnls_cli.options import AlignOptions
from stnls_cli.report import Row, RowSettings

SEARCHES = ("nls", "shifted-nls")
CHOICES = ("prior", "subpixel", "patch_weights", "sampling")


@dataclass(frozen=True)
class Setting:
    """One method with one value of everything. `flow` and `sigma` are None where the method uses
    none; `options` hold the search's."""

    method: str
    flow: str | None
    sigma: float | None
    options: AlignOptions

    @property
    def searches(self) -> bool:
        """Whether the method has a window and a patch."""
        return self.method in SEARCHES

    @property
    def name(self) -> str:
        """Short, of letters that file names may have: shifted-nls,dis,sigma=15,ws=9,ps=5."""
        parts = [self.method]
        if self.flow is not None:
            parts.append(self.flow)
        if self.sigma is not None:
            parts.append(f"sigma={self.sigma:g}")
        if self.searches:
            parts += [f"ws={self.options.ws}", f"ps={self.options.ps}"]
        return ",".join(parts)

    @cached_property
    def row_settings(self) -> RowSettings:
        """For the rows of the report."""
        options = self.options
        return RowSettings(
            flow=self.flow or "",
            ws=options.ws,
            wt=options.wt,
            ps=options.ps,
            stride1=options.stride1,
            k=options.k,
            dist=options.dist,
            grid=options.grid,
            aggregate=options.aggregate,
            sigma=self.sigma or 0.0,
            seed=options.seed,
            weights=options.weights,
            bandwidth=options.bandwidth,
            prior=options.prior_used(),
            subpixel=options.subpixel_used(),
            patch_weights=options.patch_weights_used(),
            sampling=options.sampling_used(),
        )

    def row(self, clip: str, t: int, dt: int, scores: dict[str, float | None]) -> Row:
        """A row with this setting."""
        return self.row_settings.row(clip, t, dt, self.method, scores)

    def parameters(self) -> dict[str, Any]:
        """All that has an influence on the method, plain values."""
        values: dict[str, Any] = {"method": self.method}
        if self.flow is not None:
            values["flow"] = self.flow
        if self.sigma is not None:
            values["sigma"] = self.sigma
            values["seed"] = self.options.seed
        if self.searches:
            used = self.options.parameters()
            names = ("ws", "ps", "stride1", "k", "dist", "grid", "aggregate", *CHOICES)
            values.update({name: used[name] for name in names})
            if used["k"] > 1:
                values["weights"] = used["weights"]
            if used["weights"] == "softmax":
                values["bandwidth"] = used["bandwidth"]
        return values


def settings_of(options: CompareOptions) -> list[Setting]:
    """The grid: each method with every value of what it uses, and no setting twice.

    Raises UserError where a combination has no meaning.
    """
    found: dict[str, Setting] = {}
    for method in options.methods():
        for setting in _of_method(method, options):
            found.setdefault(setting.name, setting)
    return list(found.values())


def _of_method(method: str, options: CompareOptions) -> Iterator[Setting]:
    flows: tuple[str | None, ...] = (
        options.flows() if method in ("flow", "shifted-nls") else (None,)
    )
    sigmas: tuple[float | None, ...] = options.sigmas() if method != "none" else (None,)
    sizes = product(options.numbers("ws"), options.numbers("ps"))
    # What a method does not use stays at its default, so that nothing can be wrong with it.
    windows = list(sizes) if method in SEARCHES else [(options.base.ws, options.base.ps)]
    for flow, sigma, (ws, ps) in product(flows, sigmas, windows):
        search = replace(
            options.base, ws=ws, ps=ps, sigma=sigma or 0.0, methods=method, save="none"
        )
        yield Setting(method, flow, sigma, search)
