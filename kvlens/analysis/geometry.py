"""Geometry of a set of embeddings: how evenly it fills its space, and how near positive pairs lie.

Plain functions on ``[n, d]`` arrays (any real dtype; float64 inside) that return floats. Each raises InputError for
what is no such array, for NaN or infinity and for too few rows; those that look at directions refuse rows of zeros.
`measure` applies them to several methods on one model; they themselves need no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from kvlens.files import InputError, versions
from kvlens.records import FileRecord, Record

if TYPE_CHECKING:
    from kvlens.cache import EmbeddingCache
    from kvlens.layers import LayerSet
    from kvlens.models import LanguageModel, ModelInfo
    from kvlens.texts import Texts

_BLOCK = 1024  # rows of the n x n similarities held at once
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


class Geometry(FileRecord):
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

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Called by pydantic at first use: only then is torch imported, which `ModelInfo` lives beside."""
        from kvlens.models import ModelInfo

        return super().model_rebuild(**options | {"_types_namespace": {"ModelInfo": ModelInfo}})


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
    from kvlens.texts import as_texts
    from kvlens.wikipedia import calibration_texts

    given = calibration_texts(n) if texts is None else as_texts(texts)
    if len(given) < 20:
        raise InputError(f"{len(given)} texts say little about a space: give at least 20")
    sentences = [text for topic in TOPICS.values() for text in topic]
    both = [text for side in zip(*pairs, strict=True) for text in side]  # all first sides, then all second sides
    everything, rows, cosines = [*given, *both, *sentences], [], {}
    for i, label in enumerate(methods):

        def tick(done: int, total: int, before: int = i) -> None:
            if progress:
                progress(before * total + done, len(methods) * total)

        encoder = _encoder(lm, label, layers, force)
        vectors = (
            cache.encode(encoder, everything, progress=tick) if cache else encoder.encode(everything, progress=tick)
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
        command=command,
    )


def _encoder(lm: LanguageModel, label: str, layers: LayerSet | str | Sequence[int], force: bool) -> Any:
    from dataclasses import replace

    from kvlens.encoder import Encoder

    if label != PLAIN:
        return Encoder(lm, label, layers, force=force)
    method: Any = Encoder(lm, "kv_embedding", layers, force=force).method
    return Encoder(lm, replace(method, layers=(), bias=1.0))  # one bias: there may have been one per layer


def as_points(X: Any, least: int, name: str = "embeddings") -> np.ndarray:
    """`X` as float64 ``[n, d]``. Raises InputError when it is not that, has fewer than `least` rows, or NaN."""
    try:
        X = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} have to be an array of real numbers [n, d]: {error}") from error
    if X.ndim != 2 or not X.shape[1]:
        raise InputError(f"{name} have to be an array [n, d], not of shape {list(X.shape)}")
    if len(X) < least:
        raise InputError(f"{name} have {len(X)} rows, at least {least} are needed: give more texts")
    if bad := len(X) - int(np.isfinite(X).all(axis=1).sum()):
        raise InputError(f"NaN or infinity in {bad} of {len(X)} rows of the {name}: compute them again in float32")
    return X


def mean_cosine(X: Any) -> float:
    """Mean cosine similarity over all pairs of different rows: (|sum_i u_i|^2 - n) / (n (n - 1)), u_i = x_i / |x_i|.

    Near 0 where directions are spread evenly, near 1 in a narrow cone (Ethayarajh 2019). Not centred.
    """
    U = _unit(as_points(X, 2))
    n, total = len(U), U.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def eigenvalue_entropy_ratio(X: Any) -> float:
    """Evenness of the variance over directions: -sum_k p_k ln p_k / ln m, p_k = lambda_k / sum lambda.

    lambda: the eigenvalues of the covariance of the rows; m = min(d, n - 1), the most that can differ from 0. 1 when
    all m are equal, 0 when one direction holds everything. Centred; free of rotation and scale; biased downwards for
    small n, so compare sets of equal n. Needs n >= 3 and d >= 2; raises InputError for rows that are all equal.
    """
    X = as_points(X, 3)
    most = min(X.shape[1], len(X) - 1)
    if most < 2:
        raise InputError("embeddings of one dimension have no eigenvalues to compare: give at least two dimensions")
    eigenvalues = np.linalg.svd(centred(X), compute_uv=False)[:most] ** 2
    return entropy(eigenvalues / eigenvalues.sum()) / float(np.log(most))


def uniformity(X: Any, t: float = 2.0) -> float:
    """ln mean_{i<j} exp(-t |u_i - u_j|^2), u_i = x_i / |x_i| (Wang and Isola 2020, arXiv:2005.10242).

    0 when all directions are equal, never below -4 t; lower is more uniform. Time n^2 d, memory linear in n.
    """
    U = _unit(as_points(X, 2))
    n, total = len(U), 0.0
    for at in range(0, n, _BLOCK):
        near = np.exp(-2 * t * (1 - U[at : at + _BLOCK] @ U.T))
        total += near.sum() - np.trace(near, offset=at)
    return float(np.log(total / (n * (n - 1))))


def alignment(X: Any, Y: Any, alpha: float = 2.0) -> float:
    """mean_i |u_i - v_i|^alpha of positive pairs, u_i = x_i / |x_i|, v_i = y_i / |y_i| (Wang and Isola 2020).

    Row i of `X` and row i of `Y` ``[n, d]`` embed two texts of one meaning. 0 when each pair agrees, at most
    2^alpha; lower is better, beside uniformity. Raises InputError when the shapes differ.
    """
    U, V = as_points(X, 1), as_points(Y, 1)
    if U.shape != V.shape:
        raise InputError(f"positive pairs need two arrays of one shape, not {list(U.shape)} and {list(V.shape)}")
    return float((np.linalg.norm(_unit(U) - _unit(V), axis=1) ** alpha).mean())


def centred(X: np.ndarray) -> np.ndarray:
    """Rows less their mean, of Frobenius norm 1; more than n columns are rotated into n, which keeps all products of
    rows. Raises InputError for rows that are all equal."""
    X = X / (np.abs(X).max() or 1.0)  # so that squares neither underflow nor overflow
    rest = X - X.mean(axis=0)
    norm = np.linalg.norm(rest)
    if norm <= 8 * np.finfo(np.float64).eps * np.linalg.norm(X):
        raise InputError("all rows are equal: there is no variance to look at")
    rest = rest / norm
    return np.transpose(np.linalg.qr(rest.T, mode="r")) if X.shape[1] > len(X) else rest


def entropy(shares: np.ndarray) -> float:
    """-sum_k p_k ln p_k in nats, of shares that sum to 1; those of 0 count nothing."""
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def _unit(X: np.ndarray) -> np.ndarray:
    size = np.abs(X).max(axis=1, keepdims=True)  # first to size 1, so that squares cannot underflow
    if zeros := int((size == 0).sum()):
        raise InputError(f"{zeros} of {len(X)} embeddings are zero and have no direction: leave them out")
    X = X / size
    return X / np.linalg.norm(X, axis=1, keepdims=True)
