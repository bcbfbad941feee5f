"""`kvlens models`: the models that are known by name, or what one model is made of."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from kvlens.cli.answers import Answer
from kvlens.cli.options import ModelName, ModelOptions
from kvlens.store.errors import InputError
from kvlens.store.facts import text_of_lines
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel


def models(name: ModelName | None = None, /, *, model: ModelOptions = ModelOptions()) -> Answer:
    """The named small models, and which are already here; or the layers of one model.

    Args:
        name: named model, hub id, directory or .gguf file: say what its layers are
        model: how it is loaded
    """
    if name is not None:
        return _anatomy(model.load(name, hooked=False))
    if model != ModelOptions():
        raise InputError("options of loading go with a model: give its name")
    return _named()


def _named() -> Answer:
    from kvlens.models.catalog import NAMED, is_cached

    rows = []
    lines = []
    for name, model in NAMED.items():
        here = is_cached(name)
        rows.append(
            {
                "name": name,
                "here": here,
                "megabytes": model.megabytes,
                "licence": model.licence,
                "note": model.note,
            }
        )
        where = "here" if here else f"fetched at first use ({model.megabytes} MB)"
        lines.append(f"{name:14} {where:32} {model.licence:20} {model.note}")
    lines.append("Besides these: a hub id (org/name), a model directory, or a .gguf file.")
    return Answer(rows, "\n".join(lines))


def _anatomy(lm: LanguageModel) -> Answer:
    info = lm.info
    layers = [
        {**asdict(layer), "has_keys": layer.has_keys, "can_reroute": layer.can_reroute}
        for layer in lm.anatomy.layers
    ]
    lines = [
        f"{info.name}: {info.architecture}, {info.dtype} on {info.device}",
        f"{info.n_layers} layers, width {info.d_model}, {info.vocab_size:,} tokens known, "
        f"context {info.max_positions:,}",
        *lm.anatomy.lines(),
        _reroutable(lm),
    ]
    return Answer({"model": info.model_dump(mode="json"), "layers": layers}, text_of_lines(lines))


def _reroutable(lm: LanguageModel) -> str:
    """Which layers can be re-routed, as far as their anatomy says it."""
    layers = lm.info.layers_to_reroute()
    if not layers:
        return "re-routing: no layer keeps keys for itself alone"
    which = "every layer" if len(layers) == lm.info.n_layers else phrase(layers)
    proof = f"kvlens check {shlex.quote(lm.info.name)}"
    return f"re-routing: {which}, where it is exact ({proof})"
