"""Profiled: one model, measured and with its layers selected, as files and as an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.cli.profile_options import Measured, Selection
from kvlens.cli.progress import progress

if TYPE_CHECKING:
    from kvlens.dimension.profile import IDProfile
    from kvlens.layers.layer_set import LayerSet
    from kvlens.tracing.trace import Trace


@dataclass(frozen=True)
class Profiled:
    """What was found of one model; not the trace, which is large."""

    profile: IDProfile
    layer_set: LayerSet
    estimator: str
    n: int
    truncated: int

    @property
    def data(self) -> dict[str, Any]:
        """For --json."""
        values = self.profile.values(self.estimator)
        stderrs = self.profile.stderrs(self.estimator)
        sink = self.profile.sink
        stability = self.layer_set.stability
        return {
            "model": self.profile.model.name,
            "layers": list(self.layer_set.layers),
            "reason": self.layer_set.reason,
            "shape": self.layer_set.shape.name,
            "warnings": [*self.layer_set.warnings, *self.profile.warnings],
            "estimator": self.estimator,
            "id": [round(float(value), 3) for value in values],
            "stderr": [round(float(value), 3) for value in stderrs],
            "n": self.n,
            "truncated": self.truncated,
            "sink": sink and sink.model_dump(),
            "stability": stability and stability.model_dump(),
        }

    @property
    def lines(self) -> Iterator[str]:
        """For people."""
        if self.truncated:
            yield f"{self.truncated} of {self.n} texts were truncated to the token limit"
        for warning in self.profile.warnings:
            yield f"warning: {warning}"
        if self.profile.sink:
            yield f"b*: {self.profile.sink}"
        if self.profile.order_of_layers:
            yield f"order of layers: {self.profile.order_of_layers}"
        yield str(self.layer_set)


def profiled(
    trace: Trace, name: str, measured: Measured, selection: Selection, home: Path
) -> Profiled:
    """Measure, select, and save both files, and the trace where it is wanted.

    Args:
        trace: of one model.
        name: by which the user knows it.
        measured: what is estimated.
        selection: how layers are selected.
        home: a folder, made when missing.

    Raises:
        InputError: as `estimate` and `select`.
    """
    from kvlens.dimension.estimation import estimate
    from kvlens.dimension.named import canonical
    from kvlens.layers.selection import select
    from kvlens.rerouting.calibration import PREFIX_FILE
    from kvlens.rerouting.static_prefix import KEY, VALUE, static_prefix

    estimator = canonical(measured.estimators)[0]
    with progress(f"estimating {name}", "layers") as bar:
        profile = estimate(
            trace,
            measured.states,
            measured.estimators,
            progress=bar,
            draws=measured.draws,
            device=_search_device(trace),
        )
    layer_set = select(profile, estimator=estimator, **asdict(selection))
    home.mkdir(exist_ok=True)
    profile.save(home / "profile.json")
    layer_set.save(home / "layers.json")
    if all(map(trace.holds, (KEY, VALUE))):
        static_prefix(trace).save(home / PREFIX_FILE)
    if measured.save_trace:
        trace.save(home / "trace.safetensors")
    return Profiled(profile, layer_set, estimator, trace.texts.n, trace.n_truncated)


def _search_device(trace: Trace) -> str:
    """Where the model was, where that is here."""
    import torch

    is_here = trace.model.device.startswith("cuda") and torch.cuda.is_available()
    return "cuda" if is_here else "cpu"
