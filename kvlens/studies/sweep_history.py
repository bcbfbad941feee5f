"""Sweep history: what a sweep goes on with, an earlier one that it adds to or one that was stopped.

It knows what has to be the same, and which commands make the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvlens.layers.route import Route
from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError
from kvlens.store.provenance import current_command, versions
from kvlens.studies.sweep_vectors import Embedding
from kvlens.studies.windows import Setting, Window
from kvlens.texts.pairs import Pairs
from kvlens.texts.texts import Texts

if TYPE_CHECKING:
    from kvlens.studies.layer_sweep import Sweep

AND = " && "  # between the commands that made one sweep


def facts_of(
    model: ModelInfo, pairs: Pairs, data: str, routes: Sequence[Route], embedding: Embedding
) -> dict[str, Any]:
    """What decides the vectors of all texts, as JSON."""
    texts = Texts(tuple(pairs.distinct), data)
    limits = embedding.limits
    return {
        "format": "kvlens.sweep",
        "model": model.model_dump(mode="json"),
        "texts": texts.info().model_dump(mode="json"),
        "prompt": embedding.prompt.model_dump(mode="json"),
        "pooling": embedding.pooling,
        "routes": [[list(r.layers), list(r.bias), r.position] for r in routes],
        "max_length": limits.tokens_for(model.max_positions),
        "batch_tokens": limits.batch_tokens,
        "versions": versions(),
    }


def measured_before(
    known: Sweep | None, model: ModelInfo, pairs: Pairs, embedding: Embedding, position: str
) -> dict[Setting, Window]:
    """What is measured already; raises InputError where it was not measured in the same way."""
    if known is None:
        return {}
    same_model = model.same_weights(known.model)
    same_pairs = tuple(pairs.scores.tolist()) == known.human
    asked = (embedding.prompt, embedding.pooling, position)
    if not (same_model and same_pairs and asked == (known.prompt, known.pooling, known.position)):
        raise InputError(
            "the sweep to go on with is of another model, other pairs, prompt, pooling or position"
        )
    return {window.setting: window for window in known.measured}


def command_of(known: Sweep | None, settings: Sequence[Setting], started: str | None = None) -> str:
    """The command that makes what is known and `settings`.

    Args:
        known: what is measured already.
        settings: what was asked for.
        started: the command that started this; None: the present one.
    """
    command = current_command() if started is None else started
    if known is None:
        return command
    measured = {window.setting for window in known.measured}
    if measured == set(settings) or known.command.split(AND)[-1] == command:
        return known.command  # as an earlier start of this command has left it
    return command if measured <= set(settings) else f"{known.command}{AND}{command}"
