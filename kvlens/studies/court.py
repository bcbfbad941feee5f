"""Court: a model whose ways to embed are compared; it embeds texts in as few passes as it can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.together import groups_by_pass, raw_together
from kvlens.layers.route import Route
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.store.progress import Bars, Progress
from kvlens.studies.contenders import POOLINGS, Contender, Way, distinct_routes
from kvlens.studies.sweep_vectors import pooled_route_vectors
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import PROMPTS

Vectors = Float[np.ndarray, "n d"]
Embedded = tuple[Contender, Vectors]
"""A contender with its vectors of some texts."""


@dataclass(frozen=True)
class Court:
    """What judges.

    Attributes:
        lm: the model.
        limits: of its passes.
        bars: what is being done -> a context that gives its progress.
        left_out: what the model cannot serve, and why.
    """

    lm: LanguageModel
    limits: Limits
    bars: Bars
    left_out: list[str] = field(default_factory=list)

    def embedded(self, contenders: Sequence[Contender], texts: Sequence[str]) -> Iterator[Embedded]:
        """The vectors of each contender that the model can serve, in any order.

        The method itself runs one plain pass a prompt, and for every route the blocks from its
        lowest layer on; other methods share what passes they can.

        Args:
            contenders: different ones.
            texts: different texts.

        Yields:
            A contender and its vectors, as its encoder gives them without post-processing.
        """
        by_prompt: dict[str, list[tuple[Contender, Way]]] = {}
        for contender in contenders:
            if contender.way is not None:
                group = by_prompt.setdefault(contender.way.document, [])
                group.append((contender, contender.way))
        for document, ways in by_prompt.items():
            yield from self._by_ways(document, ways, texts)
        yield from self._by_encoders([each for each in contenders if each.way is None], texts)

    def _by_ways(
        self, document: str, ways: Sequence[tuple[Contender, Way]], texts: Sequence[str]
    ) -> Iterator[Embedded]:
        """Contenders that differ in route and pooling only."""
        routes = distinct_routes(contender for contender, _ in ways)
        with self.bars(f"{document}, {len(routes)} routes") as progress:
            vectors = self.by_routes(document, routes, texts, progress)
        for contender, way in ways:
            row = 0 if way.route is None else 1 + routes.index(way.route)
            yield contender, vectors[row, POOLINGS.index(way.pooling)]

    def _by_encoders(
        self, contenders: Sequence[Contender], texts: Sequence[str]
    ) -> Iterator[Embedded]:
        """Contenders whose encoders may share a pass."""
        contender_of: dict[Encoder, Contender] = {}
        for contender in contenders:
            encoder = self._encoder(contender)
            if encoder is not None:
                contender_of[encoder] = contender
        for group in groups_by_pass(list(contender_of), "document"):
            with self.bars(contender_of[group[0]].spec.method_label) as progress:
                raw = self.by_encoders(group, texts, progress)
            for encoder, vectors in zip(group, raw, strict=True):
                yield contender_of[encoder], vectors

    def by_routes(
        self, document: str, routes: Sequence[Route], texts: Sequence[str], progress: Progress
    ) -> Float[np.ndarray, "sets poolings n d"]:
        """Vectors by `POOLINGS`: of the plain model under this prompt, then by each route."""
        prompt = PROMPTS[document]
        vectors = pooled_route_vectors(
            self.lm, texts, routes, prompt, POOLINGS, self.limits, progress
        )
        return vectors.numpy()

    def by_encoders(
        self, encoders: Sequence[Encoder], texts: Sequence[str], progress: Progress
    ) -> list[Vectors]:
        """The vectors of each of the encoders, which share their passes."""
        return raw_together(encoders, texts, "document", progress)

    def _encoder(self, contender: Contender) -> Encoder | None:
        """The encoder of a contender; None, and noted, where the model cannot serve it."""
        try:
            return contender.spec.encoder(self.lm, limits=self.limits)
        except InputError as error:
            self.left_out.append(f"{contender.spec.text}: {error}")
            return None
