"""Candidates: the methods that are evaluated, as encoders, instructed and post-processed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import Post, fit
from kvlens.embedding.spec import NO_REROUTING, _encoder, _label
from kvlens.evaluation.adapter import mteb_encoder
from kvlens.evaluation.kinds import unit
from kvlens.layers.layer_set import LayerSet
from kvlens.methods.base import methods as all_methods
from kvlens.models.language_model import LanguageModel
from kvlens.store.progress import Progress
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import Prompt
from kvlens.texts.wikipedia import calibration_texts

CALIBRATION = 600  # passages that the post-processing is fitted on

Layers = LayerSet | str | Path | Sequence[int] | None


@dataclass(frozen=True)
class Candidate:
    """A method with its settings.

    Attributes:
        label: What a table shows.
        encoder: Without post-processing.
        limits: Those of the encoder.
    """

    label: str
    encoder: Encoder
    limits: Limits

    def for_task(self, task: Any, instructions: bool) -> Encoder:
        """An encoder of its own for this task.

        Args:
            task: A task of mteb.
            instructions: Whether mteb's instruction stands in front of the prompt of queries, or of
                documents where a task has no queries.
        """
        if not instructions:
            return copy(self.encoder)
        from mteb.types import PromptType

        has_queries = unit(task) == "queries"
        field = "query" if has_queries else "document"
        kind = PromptType.query if has_queries else None
        text = mteb_encoder(self.encoder).get_instruction(task.metadata, kind)
        prompt = _instructed(getattr(self.encoder.method, field), text)
        changes: dict[str, Any] = {field: prompt}
        method = replace(self.encoder.method, **changes)
        return Encoder(self.encoder.lm, method, **asdict(self.limits))


def _instructed(prompt: Prompt, instruction: str) -> Prompt:
    return Prompt(
        name=f"{prompt.name}-instructed",
        prefix=f"Instruct: {instruction}\n{prompt.prefix}",
        suffix=prompt.suffix,
    )


def candidates(
    lm: LanguageModel, methods: Sequence[str], layers: Layers, limits: Limits, force: bool
) -> list[Candidate]:
    """The methods by their names and settings, each once.

    Args:
        lm: The model.
        methods: Names with settings, as for `evaluate`; ``all``: every one, and no re-routing.
        layers: For kv_embedding.
        limits: Of every encoder.
        force: Take a layer set that was made for another model.

    Raises:
        InputError: For a method, a setting or layers that cannot be used.
    """
    specs: list[str] = []
    for name in methods:
        specs += [*all_methods(), NO_REROUTING] if name == "all" else [name]
    options = {**asdict(limits), "force": force}
    return [
        Candidate(_label(spec), _encoder(lm, spec, layers, options), limits)
        for spec in dict.fromkeys(specs)
    ]


class CalibratedPosts:
    """Post-processings, each fitted once on Wikipedia passages under the document prompt."""

    def __init__(self, cache: EmbeddingCache):
        self._cache = cache
        self._fits: dict[tuple[str, str], Post] = {}

    def fitted(self, encoder: Encoder, kind: str, progress: Progress) -> Post:
        """The post-processing of this kind for this encoder.

        Args:
            encoder: What embeds the passages.
            kind: center, zscore or whiten.
            progress: Called with (done, missing) passages.
        """
        key = (encoder.signature, kind)
        if key not in self._fits:
            passages = calibration_texts(CALIBRATION).items
            vectors = self._cache.encode(encoder, passages, "document", progress)
            self._fits[key] = fit(vectors, kind, encoder.signature)
        return self._fits[key]
