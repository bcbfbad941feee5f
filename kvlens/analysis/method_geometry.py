"""Geometry of several methods' embedding spaces on one model; one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from kvlens.analysis.geometry import (
    _unit,
    alignment,
    as_points,
    eigenvalue_entropy_ratio,
    mean_cosine,
    uniformity,
)
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.errors import InputError
from kvlens.store.provenance import current_command, versions

if TYPE_CHECKING:
    from kvlens.embedding.cache import EmbeddingCache
    from kvlens.layers.layer_set import LayerSet
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts


PLAIN = "kv_embedding (no re-routing)"  # its prompt and pooling alone


METHODS = ("last_token", "mean", "prompt_eol", "echo", PLAIN, "kv_embedding")


# Four topics of three sentences each, which share few words within a topic and some across topics.
TOPICS = {
    "weather": (
        "It has been raining since early morning.",
        "Dark clouds are gathering over the hills.",
        "The forecast promises a storm tonight.",
    ),
    "cooking": (
        "She stirred the soup and added some salt.",
        "The bread has been in the oven since noon.",
        "Chop the onions before you heat the pan.",
    ),
    "football": (
        "The striker scored twice in the second half.",
        "Their goalkeeper saved a late penalty.",
        "The team lost the final by a single goal.",
    ),
    "computing": (
        "The program crashed and lost all my data.",
        "We fixed a bug in the new compiler.",
        "The server ran out of memory last night.",
    ),
}


class MethodGeometry(Record):
    """The functions of this module, on one method's embeddings; alignment: None without positive pairs.

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

    n: texts behind isotropy and uniformity; data: where they come from; n_pairs: positive pairs behind alignment.
    sentences, and the topic of each in groups; cosines: their similarity matrix by label (rounded to 4 places).
    """

    what: ClassVar[str] = "an embedding geometry"
    again: ClassVar[str] = "run `kvlens lens` again"
    format: Literal["kvlens.geometry"] = "kvlens.geometry"
    version: Literal[1] = 1
    model: ModelInfo
    n: int
    data: str
    n_pairs: int
    pairs: str
    methods: tuple[MethodGeometry, ...]
    sentences: tuple[str, ...]
    groups: tuple[int, ...]
    cosines: dict[str, tuple[tuple[float, ...], ...]]
    versions: dict[str, str]
    command: str


def measure(
    lm: LanguageModel,
    layers: LayerSet | str | Sequence[int],
    methods: Sequence[str] = METHODS,
    n: int = 200,
    texts: Texts | Sequence[str] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    pairs_source: str = "",
    cache: EmbeddingCache | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Geometry:
    """Embed texts, positive pairs and the sentences of `TOPICS` by each method, with its document prompt.

    layers, force: as of `Encoder`, for kv_embedding. methods: names, or `PLAIN`. n: how many calibration passages,
    unless texts are given. pairs: two texts of one meaning each. cache: where vectors are kept. progress: called with
    (texts done, texts in all). Raises InputError as `Encoder` and for fewer than 20 texts.
    """
    from kvlens.texts.texts import as_texts
    from kvlens.texts.wikipedia import calibration_texts

    given = calibration_texts(n) if texts is None else as_texts(texts)
    if len(given) < 20:
        raise InputError(f"{len(given)} texts say little about a space: give at least 20")
    sentences = [text for topic in TOPICS.values() for text in topic]
    both = [
        text for side in zip(*pairs, strict=True) for text in side
    ]  # all first sides, then all second sides
    everything, rows, cosines = [*given, *both, *sentences], [], {}
    for i, label in enumerate(methods):

        def tick(done: int, total: int, before: int = i) -> None:
            if progress:
                progress(before * total + done, len(methods) * total)

        encoder = _encoder(lm, label, layers, force)
        vectors = (
            cache.encode(encoder, everything, progress=tick)
            if cache
            else encoder.encode(everything, progress=tick)
        )
        X, P, S = np.split(vectors, [len(given), len(given) + len(both)])
        rows.append(
            MethodGeometry(
                label=label,
                mean_cosine=mean_cosine(X),
                eigenvalue_entropy_ratio=eigenvalue_entropy_ratio(X),
                uniformity=uniformity(X),
                alignment=alignment(P[: len(pairs)], P[len(pairs) :]) if both else None,
                settings=json.loads(json.dumps(encoder.method.settings())),
            )
        )
        U = _unit(as_points(S, 1))
        cosines[label] = tuple(map(tuple, (U @ U.T).round(4).tolist()))
    return Geometry(
        model=lm.info,
        n=len(given),
        data=given.source,
        n_pairs=len(pairs),
        pairs=pairs_source if pairs else "",
        methods=tuple(rows),
        sentences=tuple(sentences),
        groups=tuple(i for i, topic in enumerate(TOPICS.values()) for _ in topic),
        cosines=cosines,
        versions=versions(),
        command=command or current_command(),
    )


def _encoder(
    lm: LanguageModel, label: str, layers: LayerSet | str | Sequence[int], force: bool
) -> Any:
    from dataclasses import replace

    from kvlens.embedding.encoder import Encoder

    if label != PLAIN:
        return Encoder(lm, label, layers, force=force)
    method: Any = Encoder(lm, "kv_embedding", layers, force=force).method
    return Encoder(
        lm, replace(method, layers=(), bias=1.0)
    )  # one bias: there may have been one per layer
