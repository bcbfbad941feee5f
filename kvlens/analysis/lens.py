"""KV lens: what do the final token's keys, values and hidden states hold, layer by layer?

Singular values of a corpus' centred K and V: how far do they compress? (LoRC, arXiv:2410.03111, truncates the key and
value WEIGHTS; the STATES may use fewer directions.) Their similarity to the final embedding, beside that by chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from kvlens.analysis.geometry import as_points, centred, entropy
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.errors import InputError
from kvlens.store.provenance import versions
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.trace import Trace

SHARES = (0.90, 0.95, 0.99)
LEAST, FOLDS, DRAWS = (
    20,
    5,
    5,
)  # fewest texts that say anything; folds of the probe; permutations behind a control
ALPHAS = np.geomspace(1e-6, 1e3, 10)  # for states of total variance 1
# Spread below this share of the length is rounding: SmolLM2-135M has 0 in k_pre and v of layer 0, else over 0.025.
CONSTANT = 1e-5


class Spectrum(Record):
    """Centred states ``[n, d]`` of one KV head, or (head None) of all heads side by side; see `effective_rank`.

    directions: how many hold 90, 95 and 99 % of the energy (squared singular values: the variance); energy: the share
    of the first 1, 2, ..., until 99 % (empty for one head). At most min(d, n - 1) of each: compare at equal n.
    """

    kind: str
    layer: int
    head: int | None
    n: int
    d: int
    effective_rank: float
    directions: tuple[int, int, int]
    energy: tuple[float, ...]


class Similarity(Record):
    """One layer's states against the embeddings of n texts, by ``cka`` (`linear_cka`) or ``r2`` (`ridge_r2`).

    control, control_sd: mean and standard deviation of the measure when the embeddings' rows are permuted.
    """

    kind: str
    layer: int
    measure: Literal["cka", "r2"]
    n: int
    value: float
    control: float
    control_sd: float


class KVLens(JsonArtifact):
    """Spectra and similarities by kind and layer, with what they were made from; one JSON file.

    points: which hidden states (K and V: always the final token's); skipped: states that are the same for every text;
    embeddings: sha256 of their float64 bytes; dropped: texts left out of the similarities since their embedding
    repeats another's; draws: permutations behind each control.
    """

    what: ClassVar[str] = "a KV lens"
    again: ClassVar[str] = "compute the lens again"
    format: Literal["kvlens.kv-lens"] = "kvlens.kv-lens"
    version: Literal[1] = 1
    model: ModelInfo
    points: str
    prompt: Prompt
    texts: TextsInfo
    spectra: tuple[Spectrum, ...]
    similarities: tuple[Similarity, ...]
    skipped: tuple[str, ...]
    embeddings: str | None
    dropped: int
    draws: int
    seed: int
    versions: dict[str, str]

    def spectra_of(self, kind: str, head: int | None = None) -> tuple[Spectrum, ...]:
        """One kind's spectra, layers ascending, of one KV head or (None) of all heads together."""
        return tuple(one for one in self.spectra if one.kind == kind and one.head == head)

    def similarities_of(self, kind: str, measure: str = "cka") -> tuple[Similarity, ...]:
        """One kind's similarities by one measure, layers ascending."""
        return tuple(
            one for one in self.similarities if one.kind == kind and one.measure == measure
        )


def kv_lens(
    trace: Trace, embeddings: Any = None, seed: int = 0, probe: Sequence[str] = ("v",)
) -> KVLens:
    """Look into every recorded layer of `trace`, of at least 20 texts; float64 inside.

    embeddings: ``[n, d]``, row i of text i, which the states are compared with; without them there are spectra only.
    seed: of permutations and folds. probe: the kinds that get a ridge probe. Raises InputError for a trace without K
    and V, embeddings that do not match it row by row, fewer than 20 texts (or distinct embeddings), an unknown probe.
    """
    wanted = ("k", "k_pre", "v") if embeddings is None else ("k", "k_pre", "v", "hidden")
    kinds = [kind for kind in wanted if kind in trace.tensors]
    if kinds in ([], ["hidden"]):
        raise InputError("this trace holds neither keys nor values: record it with keep=('k', 'v')")
    E, target, rows, orders = None, None, None, []
    if embeddings is not None:
        E = as_points(embeddings, LEAST)
        if (counts := {len(trace.tensors[kind]) for kind in kinds}) != {len(E)}:
            raise InputError(
                f"{len(E)} embeddings, {max(counts)} states: embed the texts of a points='last' trace"
            )
        if unknown := set(probe) - set(kinds):
            raise InputError(
                f"cannot probe {', '.join(sorted(unknown))}: this trace holds {', '.join(kinds)}"
            )
        # A text in training and test folds at once would be recalled, not predicted.
        rows = np.sort(np.unique(E, axis=0, return_index=True)[1])
        target = centred(as_points(E[rows], LEAST, "distinct embeddings"))
        measures = {"cka": linear_cka, "r2": partial(ridge_r2, seed=seed)}
        orders = [np.random.default_rng([seed, i]).permutation(len(target)) for i in range(DRAWS)]
    spectra, similarities, skipped = [], [], []
    for layer in trace.layers:
        for kind in kinds:
            states = as_points(trace.states(layer, kind), LEAST, f"{kind} states of layer {layer}")
            if _constant(states):
                skipped.append(f"{kind} of layer {layer}")
                continue
            if kind != "hidden":
                heads = [
                    (None, states),
                    *enumerate(np.split(states, trace.model.n_kv_heads, axis=1)),
                ]
                spectra += [
                    _spectrum(kind, layer, head, X) for head, X in heads if not _constant(X)
                ]
            if target is not None:
                X = centred(states[rows])
                for name, measure in measures.items():
                    if name == "cka" or kind in probe:
                        similarities.append(
                            _similarity(kind, layer, name, measure, X, target, orders)
                        )
    return KVLens(
        model=trace.model,
        points=trace.points,
        prompt=trace.prompt,
        texts=trace.texts,
        spectra=tuple(spectra),
        similarities=tuple(similarities),
        skipped=tuple(skipped),
        embeddings=None if E is None else hashlib.sha256(E.tobytes()).hexdigest(),
        dropped=0 if E is None or target is None else len(E) - len(target),
        draws=DRAWS,
        seed=seed,
        versions=versions(trace.versions),
    )


def effective_rank(X: Any) -> float:
    """Effective rank of the centred rows of ``[n, d]`` (Roy and Vetterli 2007).

    exp(-sum_k p_k ln p_k), p_k = s_k / sum s, of the singular values s_k, not squared. From 1 to min(d, n - 1).
    Raises InputError for fewer than 2 rows, NaN and constant rows.
    """
    values = np.linalg.svd(centred(as_points(X, 2)), compute_uv=False)
    return float(np.exp(entropy(values / values.sum())))


def linear_cka(X: Any, Y: Any) -> float:
    """Debiased linear CKA of ``[n, p]`` and ``[n, q]``, n >= 4: 1 for a rotated and scaled copy, about 0 by chance.

    Kornblith et al. 2019 (arXiv:1905.00414) with the unbiased HSIC_1 of Nguyen et al. 2021 (arXiv:2010.15327): for
    centred rows of squared lengths a_i and b_i, n (n - 3) HSIC_1 = |X'Y|_F^2 - n / (n - 2) sum a_i b_i
    + sum a_i sum b_i / ((n - 1)(n - 2)). Directions of large variance dominate it.
    Raises InputError for unequal n, NaN, constant rows and rows that are all equally far from each other.
    """

    def hsic(X: np.ndarray, Y: np.ndarray) -> float:
        a, b = (X**2).sum(axis=1), (Y**2).sum(axis=1)
        return (
            ((X.T @ Y) ** 2).sum() - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
        )

    X, Y = _pair(X, Y, 4)
    n = len(X)
    if (selves := hsic(X, X) * hsic(Y, Y)) <= 1e-24:
        raise InputError("CKA is undefined: all rows of one side are equally far from each other")
    return float(hsic(X, Y) / np.sqrt(selves))


def ridge_r2(X: Any, Y: Any, seed: int = 0) -> float:
    """Cross-validated R2 of a ridge regression from ``[n, p]`` to ``[n, q]``, n >= 20.

    Five shuffled folds (`seed`); in each, leave-one-out on the training rows picks one penalty of 1e-6 to 1e3 (for X
    of total variance 1). R2 = 1 - |Y - prediction|^2 / |Y - mean|^2 over all held-out rows and columns: columns count
    by their variance. About 0, or a little below, by chance. Raises InputError for unequal n, NaN and constant rows.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    X, Y = _pair(X, Y, LEAST)
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(RidgeCV(ALPHAS), X * np.sqrt(len(X)), Y, cv=folds)
    return float(1 - ((Y - predicted) ** 2).sum() / (Y**2).sum())


def _similarity(
    kind: str, layer: int, name: Any, measure: Any, X: Any, Y: Any, orders: Any
) -> Similarity:
    chance = [measure(X, Y[order]) for order in orders]
    found = {
        "value": measure(X, Y),
        "control": float(np.mean(chance)),
        "control_sd": float(np.std(chance, ddof=1)),
    }
    return Similarity(kind=kind, layer=layer, measure=name, n=len(X), **found)


def _spectrum(kind: str, layer: int, head: int | None, X: np.ndarray) -> Spectrum:
    energy = np.cumsum(np.linalg.svd(centred(X), compute_uv=False) ** 2)  # of 1 in all
    a, b, c = (int((energy < share - 1e-12).sum()) + 1 for share in SHARES)
    kept = tuple(energy[:c].round(6).tolist()) if head is None else ()
    sizes = {"n": X.shape[0], "d": X.shape[1], "effective_rank": effective_rank(X)}
    return Spectrum(kind=kind, layer=layer, head=head, directions=(a, b, c), energy=kept, **sizes)


def _constant(X: np.ndarray) -> bool:
    return bool(np.linalg.norm(X - X.mean(axis=0)) <= CONSTANT * np.linalg.norm(X))


def _pair(X: Any, Y: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    X, Y = as_points(X, least), as_points(Y, least)
    if len(X) != len(Y):
        raise InputError(f"both sides have to be the same texts, not {len(X)} and {len(Y)}")
    return centred(X), centred(Y)
