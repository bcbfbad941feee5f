"""Layer sweep: the quality of embeddings when re-routing a window at every depth.

Quality is the Spearman correlation of cosines with human scores, on validation pairs; all sets of
layers are compared on the same bootstrap draws of the pairs. It does not know how texts are
embedded by many routes at once (`sweep_vectors`), nor what the rules choose (`regret`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Unpack

import numpy as np
from pydantic import model_validator

from kvlens.layers.route import Route
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import Count
from kvlens.store.checking import (
    a,
    arguments,
    function,
    layer_list,
    members,
    one_bias,
    optional,
    text,
    whole,
)
from kvlens.store.errors import InputError
from kvlens.store.facts import printed_html, text_of_lines
from kvlens.store.layer_ranges import phrase
from kvlens.store.part import finished_chunks, started_by
from kvlens.store.progress import Progress
from kvlens.store.provenance import versions
from kvlens.studies.sweep_history import command_of, facts_of, measured_before
from kvlens.studies.sweep_vectors import FORMS, Embedding, pair_cosines, refuse_unrankable
from kvlens.studies.windows import Quality, Setting, Window, qualities, split
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt


class SweepOptions(LimitOptions, total=False):
    """Further keywords of `sweep`.

    Attributes:
        part: a folder that keeps what is finished; None: nothing is kept.
    """

    part: str | Path | None


class Sweep(JsonArtifact):
    """The quality of every window that was asked for.

    Attributes:
        model: that was re-routed.
        prompt: around each text.
        pooling: of the final hidden states.
        position: coding of the re-routed key.
        data: where the pairs come from.
        n_pairs: how many.
        seed: of the bootstrap draws.
        plain: quality without re-routing, Spearman x 100.
        plain_low: end of its bootstrap 95 % interval.
        plain_high: its other end.
        plain_cosines: of each pair, without re-routing.
        human: the pairs' human scores.
        windows: `width` neighbours among the layers that can be re-routed, for every first, width
            and bias asked for.
        sets: other layer sets.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a layer sweep"
    again: ClassVar[str] = "run `kvlens sweep` again"

    format: Literal["kvlens.sweep"] = "kvlens.sweep"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    pooling: str
    position: str
    data: str
    n_pairs: Count
    seed: Count = 0
    plain: float
    plain_low: float
    plain_high: float
    plain_cosines: tuple[float, ...]
    human: tuple[float, ...]
    windows: tuple[Window, ...]
    sets: tuple[Window, ...] = ()
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        for window in self.measured:
            self.model.check_layers(window.layers)
            self.model.check_reroutable(window.layers)
        able = self.model.layers_to_reroute()
        if not all(window.unbroken_among(able) for window in self.windows):
            raise ValueError("the layers of a window are not neighbours")
        of_pairs = [self.human, self.plain_cosines, *(window.cosines for window in self.measured)]
        lengths = {len(values) for values in of_pairs}
        # A sweep that was made small for a figure has none.
        if lengths not in ({self.n_pairs}, {0}):
            raise ValueError("the human scores and cosines are not one a pair")
        return self

    @property
    def measured(self) -> tuple[Window, ...]:
        """All that was re-routed: the windows, then the other sets."""
        return self.windows + self.sets

    @arguments(layers=layer_list, bias=one_bias)
    def find(self, layers: Sequence[int], bias: float) -> Window | None:
        """The result for exactly these layers and this bias, or None."""
        wanted = Setting.of(layers, bias)
        return next((window for window in self.measured if window.setting == wanted), None)

    @arguments(width=whole(), bias=one_bias)
    def windows_of(self, width: int, bias: float) -> list[Window]:
        """The windows of one width and bias, by depth."""
        return [window for window in self.windows if (window.width, window.bias) == (width, bias)]

    def _repr_html_(self) -> str:
        return printed_html(self, "quality when a window is re-routed at every depth")

    def __str__(self) -> str:
        pairs = f"{self.n_pairs} pairs of {self.data}"
        lines = [f"{self.model.name}, {pairs}, {self.prompt.name}, {self.pooling} pooling"]
        lines.append(_line("no re-routing", self.plain, self.plain_low, self.plain_high))
        for window in self.measured:
            name = f"{phrase(window.layers)}, bias {window.bias:g}"
            lines.append(_line(name, window.spearman, window.low, window.high))
        return text_of_lines(lines)


def _line(name: str, value: float, low: float, high: float) -> str:
    return f"  {name:32} {value:5.1f}  ({low:.1f} to {high:.1f})"


@arguments(
    lm=a_model,
    pairs=a(Pairs, "pairs of `kvlens.texts.pairs.read_pairs`"),
    layer_sets=members(layer_list, "layer sets"),
    biases=members(one_bias, "numbers"),
    pooling=text,
    position=text,
    data=text,
    progress=optional(function),
    known=optional(a(Sweep, "a sweep of `kvlens.sweep`")),
)
def sweep(
    lm: LanguageModel,
    pairs: Pairs,
    layer_sets: Sequence[Sequence[int]],
    biases: Sequence[float] = (1.0,),
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    pooling: str = "hybrid",
    position: str = "keep",
    data: str = "",
    progress: Progress | None = None,
    known: Sweep | None = None,
    **options: Unpack[SweepOptions],
) -> Sweep:
    """Measure every layer set with every bias, in one pass over the texts.

    Use validation pairs: what is chosen by these numbers must be proven on other data.

    Args:
        lm: the model.
        pairs: with their human scores.
        layer_sets: see `windows`; any others too.
        biases: each is tried with each layer set.
        prompt: around each text: a Prompt, a name or a template.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
        position: coding of the re-routed key, see `reroute`.
        data: where the pairs come from.
        progress: called with (texts done, texts).
        known: a sweep of the same model, pairs and settings: what it lacks is measured, and all
            is returned.
        **options: the limits, see `kvlens.texts.limits.Limits`; and `part`, a folder that keeps
            what is finished: a sweep that was stopped goes on where it was, when it is started
            again with the same. The folder stays until whoever saves the sweep removes it.

    Returns:
        The quality of the plain model, of every window and of every other set.

    Raises:
        InputError: as `reroute`, for an unknown pooling, no layer set, when `known` or `part` is
            of something else, and where nothing can be ranked.
    """
    folder = options.pop("part", None)
    part = Path(folder) if folder else None
    embedding = Embedding(as_prompt(prompt), pooling, Limits.of(options))
    settings = _settings(layer_sets, biases)
    refuse_unrankable(pairs)
    before = measured_before(known, lm.info, pairs, embedding, position)
    missing = [setting for setting in settings if setting not in before]
    if known is not None and not missing:
        return known.model_copy(update={"command": command_of(known, settings)})
    routes = [Route.of(lm.info, layers, bias, position) for layers, bias in missing]
    facts = facts_of(lm.info, pairs, data, routes, embedding)
    with finished_chunks(part, facts, FORMS) as finished:
        cosines = pair_cosines(lm, pairs, routes, embedding, progress, finished)
    plain, *fresh = _qualities(cosines, pairs, missing)
    able = lm.info.layers_to_reroute()
    windows = [Window.of(*pair) for pair in zip(missing, fresh, strict=True)]
    every_window, other_sets = split([*before.values(), *windows], able)
    return Sweep(
        model=lm.info,
        prompt=embedding.prompt,
        pooling=pooling,
        position=position,
        data=data,
        n_pairs=len(pairs.scores),
        plain=plain.spearman,
        plain_low=plain.low,
        plain_high=plain.high,
        plain_cosines=plain.cosines,
        human=tuple(pairs.scores.tolist()),
        windows=every_window,
        sets=other_sets,
        versions=versions(),
        command=command_of(known, settings, started_by(part) if part else None),
    )


def _qualities(cosines: np.ndarray, pairs: Pairs, settings: Sequence[Setting]) -> list[Quality]:
    """The quality of the plain model, then of each setting; `cosines` are ``[sets, n_pairs]``."""
    names = ["without re-routing"]
    names += [f"with {phrase(layers)} re-routed, bias {bias:g}" for layers, bias in settings]
    for row, name in zip(cosines, names, strict=True):
        if np.ptp(row) == 0:
            raise InputError(
                f"all cosines are the same {name}: nothing can be ranked by them; "
                "give another `pooling`, or other pairs"
            )
    return qualities(cosines, pairs.scores)


def _settings(layer_sets: Iterable[Sequence[int]], biases: Iterable[float]) -> list[Setting]:
    """Every layer set with every bias, each once."""
    settings: dict[Setting, None] = {}
    for bias in biases:
        if bias == -math.inf:
            raise InputError("a sweep needs finite biases: for no re-routing give no layers")
        for layers in layer_sets:
            settings[Setting.of(layers, bias)] = None
    if not settings:
        raise InputError("no layer sets to re-route: give at least one, and a bias")
    return list(settings)
