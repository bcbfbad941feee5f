"""Candidates: the methods that are evaluated, as encoders, instructed and post-processed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.calibration import calibration_for
from kvlens.embedding.embed_filter import filter_of
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import TEXTLESS, Post, fit
from kvlens.embedding.spec import REFERENCE, MethodSpec, parse_specs
from kvlens.evaluation.adapter import mteb_encoder
from kvlens.evaluation.kinds import unit
from kvlens.layers.route import RouteLike
from kvlens.methods.base import Method
from kvlens.models.chat_prompt import ChatOptions
from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import Texts
from kvlens.texts.wikipedia import calibration_texts

CALIBRATION = 600  # passages that a post-processing is fitted on; whitening on more, if need be


@dataclass(frozen=True)
class Candidate:
    """A method with its settings.

    Attributes:
        spec: Method and settings, without post-processing.
        encoder: Its encoder, for all tasks.
    """

    spec: MethodSpec
    encoder: Encoder

    def for_task(self, task: Any, instructions: bool) -> Encoder:
        """An encoder for this task alone, which may get a post-processing.

        Args:
            task: A task of mteb.
            instructions: Whether mteb's instruction stands in front of the prompt of queries, or of
                documents where a task has no queries.
        """
        encoder = copy(self.encoder)
        if instructions:
            encoder.method = _instructed(encoder, task)
        return encoder


def _instructed(encoder: Encoder, task: Any) -> Method:
    from mteb.types import PromptType

    has_queries = unit(task) == "queries"
    field = "query" if has_queries else "document"
    kind = PromptType.query if has_queries else None
    text = mteb_encoder(encoder).get_instruction(task.metadata, kind)
    plain: Prompt = getattr(encoder.method, field)
    prompt = Prompt(
        name=f"{plain.name}-instructed",
        prefix=f"Instruct: {text}\n{plain.prefix}",
        suffix=plain.suffix,
        chat=plain.chat,
        prepare=plain.prepare,
    )
    changes: dict[str, Any] = {field: prompt}
    return replace(encoder.method, **changes)


def candidates(
    lm: LanguageModel,
    methods: Sequence[str],
    layers: RouteLike | None,
    limits: Limits,
    force: bool,
    **chat: Unpack[ChatOptions],
) -> list[Candidate]:
    """The methods by their names and settings, each once.

    Args:
        lm: The model.
        methods: Names with settings, as for `evaluate`; ``all``: every one, and no re-routing.
        layers: For kv_embedding.
        limits: Of every encoder.
        force: Take a layer set that was made for another model.
        **chat: The chat that the prompts are put into.

    Raises:
        InputError: For a method, a setting or layers that cannot be used.
    """
    return [
        Candidate(spec, spec.encoder(lm, layers, limits, force, **chat))
        for spec in parse_specs(methods)
    ]


def reference_of(every: Sequence[Candidate], method: str | None) -> str:
    """The label of the candidate that the others are compared with.

    Args:
        every: All candidates.
        method: Its name and settings; None: kv_embedding, which may be missing.

    Raises:
        InputError: For one that is not among them.
    """
    if method is None:
        return REFERENCE
    spec = MethodSpec.parse(method)
    if spec not in [each.spec for each in every]:
        raise InputError(f"`reference` {shown(method)} is none of `methods`: add it there")
    return spec.method_label


class CalibratedPosts:
    """Post-processings, each fitted once on Wikipedia passages under the document prompt."""

    def __init__(self, cache: EmbeddingCache):
        self._cache = cache
        self._fits: dict[tuple[str, str], Post] = {}

    def fitted(
        self, encoder: Encoder, kind: str, progress: Progress, beside: Sequence[Encoder] = ()
    ) -> Post:
        """The post-processing of this kind for this encoder.

        Args:
            encoder: What embeds the passages.
            kind: one of `kvlens.embedding.post.KINDS`.
            progress: Called with (done, missing) passages.
            beside: Encoders that get it, too, see `EmbeddingCache.encode`.
        """
        key = (encoder.signature, kind)
        if key not in self._fits:
            self._fits[key] = self._fit(encoder, kind, progress, beside)
        return self._fits[key]

    def _fit(
        self, encoder: Encoder, kind: str, progress: Progress, beside: Sequence[Encoder]
    ) -> Post:
        if kind in TEXTLESS:
            return filter_of(encoder)

        def vectors_of(passages: Texts) -> Float[np.ndarray, "n d"]:
            return self._cache.encode(encoder, passages.items, "document", progress, beside)

        vectors = vectors_of(calibration_texts(CALIBRATION))
        passages = calibration_for(kind, vectors.shape[1], CALIBRATION)
        if passages.n > CALIBRATION:
            vectors = vectors_of(passages)
        return fit(vectors, kind, encoder.signature)
