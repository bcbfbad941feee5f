"""Method geometry: the embedding spaces of several methods on one model; one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack

import numpy as np
from jaxtyping import Float
from pydantic import model_validator

from kvlens.analysis.geometry import (
    alignment,
    as_points,
    directions,
    eigenvalue_entropy_ratio,
    mean_cosine,
    uniformity,
)
from kvlens.analysis.topics import GROUPS, SENTENCES
from kvlens.embedding.spec import NO_REROUTING, MethodSpec
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import current_command, versions
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.wikipedia import calibration_texts

if TYPE_CHECKING:
    from kvlens.embedding.cache import EmbeddingCache
    from kvlens.embedding.encoder import Encoder
    from kvlens.layers.route import RouteLike
    from kvlens.models.language_model import LanguageModel

PLAIN = MethodSpec.parse(NO_REROUTING).label  # re-routing's prompt and pooling alone
METHODS = ("last_token", "mean", "prompt_eol", "echo", NO_REROUTING, "kv_embedding")
FEWEST_TEXTS = 20


class MethodGeometry(Record):
    """The functions of `kvlens.analysis.geometry` on one method's embeddings.

    Attributes:
        label: of the method, see `MethodSpec.label`.
        mean_cosine: over all pairs of texts.
        eigenvalue_entropy_ratio: evenness of the variance over directions.
        uniformity: of the directions.
        alignment: of the positive pairs; None without such.
        settings: the method's, with which anyone can make it again.
    """

    label: str
    mean_cosine: float
    eigenvalue_entropy_ratio: float
    uniformity: float
    alignment: float | None
    settings: dict[str, Any]


class Geometry(JsonArtifact):
    """The embedding spaces of several methods on one model; one JSON file.

    Attributes:
        model: what embeds.
        n: texts behind isotropy and uniformity.
        data: where they come from.
        n_pairs: positive pairs behind alignment.
        pairs: where they come from.
        methods: a row each.
        sentences: of `kvlens.analysis.topics`.
        groups: the topic of each sentence.
        cosines: their similarity matrix by label, rounded to 4 places.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "an embedding geometry"
    again: ClassVar[str] = "run `kvlens lens` again"
    format: Literal["kvlens.geometry"] = "kvlens.geometry"
    version: Literal[1] = 1
    model: ModelInfo
    n: Count
    data: str
    n_pairs: Count
    pairs: str
    methods: tuple[MethodGeometry, ...]
    sentences: tuple[str, ...]
    groups: tuple[int, ...]
    cosines: dict[str, tuple[tuple[float, ...], ...]]
    versions: dict[str, str]
    command: str

    def _repr_html_(self) -> str:
        facts = {
            row.label: f"mean cosine {row.mean_cosine:.3f}, uniformity {row.uniformity:.2f}"
            for row in self.methods
        }
        picture = picture_of(self, "isotropy, uniformity and alignment by method")
        return facts_html(f"geometry: {self.model.name}, {self.n} texts", facts, (), picture)

    @model_validator(mode="after")
    def _consistent(self) -> Geometry:
        n = len(self.sentences)
        if len(self.groups) != n:
            raise ValueError(f"{len(self.groups)} groups for {n} sentences")
        if {row.label for row in self.methods} != set(self.cosines):
            raise ValueError("methods and cosines are not of the same labels")
        for matrix in self.cosines.values():
            if [len(row) for row in matrix] != [n] * n:
                raise ValueError(f"the cosines of {n} sentences are no square of {n}")
        return self


class MeasureOptions(TypedDict, total=False):
    """Further keywords of `measure`."""

    cache: EmbeddingCache | None
    force: bool
    progress: Progress | None


@dataclass(frozen=True)
class Corpus:
    """What every method embeds: texts, both sides of the positive pairs, and `SENTENCES`.

    Attributes:
        texts: behind isotropy and uniformity.
        first: one side of the pairs.
        second: the other.
    """

    texts: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]

    @classmethod
    def of(cls, texts: Texts, pairs: Sequence[tuple[str, str]]) -> Corpus:
        """The corpus of these texts and pairs; raises InputError for fewer than 20 texts."""
        if len(texts) < FEWEST_TEXTS:
            raise InputError(
                f"{len(texts)} texts say little about a space: give at least {FEWEST_TEXTS}"
            )
        first = tuple(first for first, _ in pairs)
        second = tuple(second for _, second in pairs)
        return cls(texts.items, first, second)

    @property
    def items(self) -> list[str]:
        """Everything, in one list."""
        return [*self.texts, *self.first, *self.second, *SENTENCES]

    def row(
        self, label: str, settings: dict[str, Any], vectors: Float[np.ndarray, "items d"]
    ) -> MethodGeometry:
        """A method's row, from its vectors of `items`."""
        X, first, second, _ = self._parts(vectors)
        return MethodGeometry(
            label=label,
            mean_cosine=mean_cosine(X),
            eigenvalue_entropy_ratio=eigenvalue_entropy_ratio(X),
            uniformity=uniformity(X),
            alignment=alignment(first, second) if self.first else None,
            settings=json.loads(json.dumps(settings)),
        )

    def cosines(self, vectors: Float[np.ndarray, "items d"]) -> tuple[tuple[float, ...], ...]:
        """The similarity matrix of the sentences, rounded, from the vectors of `items`."""
        sentences = directions(as_points(self._parts(vectors)[-1], 1))
        matrix = (sentences @ sentences.T).round(4)
        return tuple(tuple(row) for row in matrix.tolist())

    def _parts(self, vectors: Float[np.ndarray, "items d"]) -> list[Float[np.ndarray, "_ d"]]:
        """The vectors of texts, first and second sides, and sentences."""
        lengths = (len(self.texts), len(self.first), len(self.second))
        return np.split(vectors, np.cumsum(lengths))


def measure(
    lm: LanguageModel,
    layers: RouteLike,
    methods: Sequence[str] = METHODS,
    n: int = 200,
    texts: Texts | Sequence[str] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    pairs_source: str = "",
    **options: Unpack[MeasureOptions],
) -> Geometry:
    """Embed texts, positive pairs and `SENTENCES` by each method, with its document prompt.

    Args:
        lm: the model.
        layers: for methods that take layers: a route, a layer set, its file or block indices.
        methods: names, with settings after colons if need be (see `MethodSpec.parse`), or `PLAIN`.
        n: how many calibration passages, unless texts are given.
        texts: behind isotropy and uniformity, at least 20.
        pairs: two texts of one meaning each.
        pairs_source: where they come from.
        **options: `cache`: where vectors are kept. `force`: take a layer set that was made for
            another model. `progress`: called with (texts done, texts in all).

    Returns:
        A row a method.

    Raises:
        InputError: as `Encoder`, and for fewer than 20 texts.
    """
    read = calibration_texts(n) if texts is None else as_texts(texts)
    corpus = Corpus.of(read, pairs)
    specs = [MethodSpec.parse(NO_REROUTING if name == PLAIN else name) for name in methods]
    progress = options.get("progress") or silent
    rows: list[MethodGeometry] = []
    cosines: dict[str, tuple[tuple[float, ...], ...]] = {}
    for i, spec in enumerate(specs):
        encoder = spec.encoder(lm, layers, force=options.get("force", False))
        part = _equal_part(progress, i, len(specs))
        vectors = _encoded(encoder, corpus.items, options.get("cache"), part)
        rows.append(corpus.row(spec.label, encoder.method.settings(), vectors))
        cosines[spec.label] = corpus.cosines(vectors)
    return Geometry(
        model=lm.info,
        n=len(read),
        data=read.source,
        n_pairs=len(pairs),
        pairs=pairs_source if pairs else "",
        methods=tuple(rows),
        sentences=SENTENCES,
        groups=GROUPS,
        cosines=cosines,
        versions=versions(),
        command=current_command(),
    )


def _encoded(
    encoder: Encoder, items: list[str], cache: EmbeddingCache | None, progress: Progress
) -> Float[np.ndarray, "items d"]:
    if cache is not None:
        return cache.encode(encoder, items, progress=progress)
    return np.asarray(encoder.encode(items, progress=progress))


def _equal_part(progress: Progress, i: int, n: int) -> Progress:
    """The progress of part i of n equal ones."""

    def tell(done: int, total: int) -> None:
        progress(i * total + done, n * total)

    return tell
