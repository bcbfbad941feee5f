"""The KV lens: its measures against closed forms and n x n formulas, and the whole on states whose truth is known."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import kvlens
from kvlens.analysis.geometry import effective_rank
from kvlens.analysis.lens import KVLens, kv_lens
from kvlens.analysis.method_geometry import Geometry
from kvlens.analysis.similarity import linear_cka, ridge_r2
from kvlens.cli import main
from kvlens.store.errors import InputError

N = 60
WORDS = ("river", "stone", "light", "music", "paper", "cloud")
LINES = [f"{WORDS[i % 6]} {'and ' * (i % 5)}{WORDS[i // 10]} {i}" for i in range(N)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_singular_values(n, d, values, seed=0):
    """Rows off the origin whose centred matrix has exactly these singular values."""
    left = normal(n, len(values), seed=seed)
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(normal(d, len(values), seed=seed + 1))[0]
    return left * values @ right.T + normal(d, seed=seed + 2)


def cka_by_grams(X, Y):
    """Song et al.'s HSIC_1 as it is printed: n x n Gram matrices without their diagonals, nothing centred."""
    n, one = len(X), np.ones(len(X))

    def hsic(K, L):
        middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        return (np.trace(K @ L) + middle - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))

    K, L = (Z @ Z.T * (1 - np.eye(n)) for Z in (X, Y))
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def test_effective_rank_counts_equal_directions_and_weighs_unequal_ones():
    for rank in (1, 3, 8):
        assert effective_rank(with_singular_values(40, 10, np.full(rank, 2.5))) == pytest.approx(
            rank
        )
    # p = (3/4, 1/4): exp(H) = 4 / 3^(3/4). From squares it would be another number.
    assert effective_rank(with_singular_values(20, 5, np.array([3.0, 1.0]))) == pytest.approx(
        4 / 3**0.75
    )
    assert effective_rank(normal(500, 6)) > 5.9


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(5, 30), d=st.integers(2, 40), seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3)
)
def test_rotation_scale_shift_and_order_change_nothing(n, d, seed, scale):
    X, Y = normal(n, d, seed=seed), normal(n, 3, seed=seed + 100)
    turn, order = (
        np.linalg.qr(normal(d, d, seed=seed))[0],
        np.random.default_rng(seed).permutation(n),
    )
    moved = (scale * X @ turn + normal(d, seed=seed))[order]
    rank, cka = effective_rank(X), linear_cka(X, Y)
    assert 1 <= rank <= min(d, n - 1) + 1e-9
    assert effective_rank(moved) == pytest.approx(rank)
    assert linear_cka(moved, Y[order]) == pytest.approx(cka, abs=1e-9) == linear_cka(Y, X)
    assert linear_cka(moved, X[order]) == pytest.approx(1)
    assert cka == pytest.approx(cka_by_grams(X, Y), abs=1e-8)


def test_cka_of_independent_noise_is_zero_on_average_where_the_biased_one_is_not():
    debiased, biased = [], []
    for seed in range(40):
        X, Y = normal(50, 30, seed=seed), normal(50, 30, seed=seed + 1000)
        debiased.append(linear_cka(X, Y))
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
        biased.append(np.sum((X.T @ Y) ** 2) / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y))
    assert np.mean(biased) > 0.3
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(40)
    assert np.std(debiased) < 0.05


def test_ridge_finds_a_linear_map_and_nothing_in_noise():
    X = normal(100, 12) * np.geomspace(0.1, 10, 12) + 40
    exact = X @ normal(12, 7, seed=1) + 3
    assert ridge_r2(X, exact) == pytest.approx(1, abs=1e-6)
    assert ridge_r2(1e4 * X, exact) == pytest.approx(ridge_r2(X, exact))
    for d in (12, 300):  # fewer and more columns than rows
        assert -0.2 < ridge_r2(normal(100, d, seed=2), normal(100, 7, seed=3)) < 0.1
    # Half of each column's variance is noise; 400 rows cost 12 coefficients about 2 % of it.
    X = normal(400, 12)
    signal = X @ np.linalg.qr(normal(12, 12))[0]
    assert ridge_r2(X, signal + normal(400, 12, seed=4)) == pytest.approx(0.5, abs=0.05)


def test_ridge_r2_weighs_columns_by_their_variance():
    X = normal(200, 3)
    both = np.hstack([X, 3 * normal(200, 3, seed=1)])  # variance 1 each known, 9 each unknown
    assert ridge_r2(X, both) == pytest.approx(0.1, abs=0.04)


@pytest.fixture(scope="module")
def recorded():
    lm = tiny("llama")
    return lm, kvlens.record(lm, LINES)


@pytest.fixture(scope="module")
def known(recorded):
    """The trace with states of known structure: 4 layers, 2 KV heads of 8."""
    v = np.stack([normal(N, 16, seed=layer) for layer in range(4)], axis=1)
    v[:, 0] = 1.5 + 1e-6 * v[:, 0]  # one value for all texts, but for rounding
    v[:, 2, :8] = with_singular_values(N, 8, np.array([4.0, 4.0, 4.0]))
    v[:, 2, 8:] = 0.25
    tensors = {"v": torch.from_numpy(v.reshape(N, 4, 2, 8)).float(), "k": recorded[1].k}
    tensors["hidden"] = torch.from_numpy(normal(N, 4, 200, seed=9)).float()
    return replace(recorded[1], tensors=tensors)


def test_lens_on_states_whose_truth_is_known(known):
    V = known.states(3, "v").astype(float)
    lens = kv_lens(known, V @ normal(16, 90, seed=5), seed=1)
    assert lens.skipped == ("v of layer 0",)
    assert [one.layer for one in lens.similarities_of("v")] == [1, 2, 3]
    assert [one.layer for one in lens.similarities_of("hidden")] == [0, 1, 2, 3]
    assert {one.kind for one in lens.spectra} == {"k", "v"}

    both = {one.layer: one for one in lens.spectra_of("v")}
    assert both[2].effective_rank == pytest.approx(3, abs=1e-5)
    assert both[2].directions == (3, 3, 3)
    np.testing.assert_allclose(both[2].energy, [1 / 3, 2 / 3, 1], atol=2e-6)
    assert [one.layer for one in lens.spectra_of("v", 1)] == [1, 3]  # head 1 of layer 2 is constant
    head = lens.spectra_of("v", 1)[-1]
    assert (head.n, head.d, head.energy) == (N, 8, ())
    assert head.effective_rank == pytest.approx(effective_rank(V[:, 8:]))
    variance = np.sort(np.linalg.eigvalsh(np.cov(V.T)))[::-1].cumsum() / np.trace(np.cov(V.T))
    assert both[3].directions == tuple(
        int(np.argmax(variance >= share)) + 1 for share in (0.90, 0.95, 0.99)
    )
    np.testing.assert_allclose(both[3].energy, variance[: len(both[3].energy)], atol=2e-6)

    *others, own = lens.similarities_of("v", "r2")
    assert (own.n, own.layer) == (N, 3)
    assert own.value == pytest.approx(1, abs=1e-6)
    assert all(other.value < 0.1 for other in others)
    *others, own = lens.similarities_of("v")
    assert own.value == pytest.approx(linear_cka(V, V @ normal(16, 90, seed=5)))
    assert own.value > 0.8
    assert all(abs(other.value) < 0.1 for other in others)
    for one in lens.similarities:
        assert -(0.05 if one.measure == "cka" else 0.3) < one.control < 0.05
        assert 0 < one.control_sd < 0.05
    assert {one.kind for one in lens.similarities if one.measure == "r2"} == {"v"}


def test_wide_states_and_embeddings_are_measured_whole(known):
    hidden, E = (
        known.states(1).astype(float),
        np.hstack([known.states(1)[:, :50], normal(N, 100)]).astype(float),
    )
    lens = kv_lens(known, E, probe=("hidden",))
    one = lens.similarities_of("hidden")[1]
    assert one.value == pytest.approx(linear_cka(hidden, E))
    assert one.value > one.control + 5 * one.control_sd
    assert lens.similarities_of("hidden", "r2")[1].value == pytest.approx(
        ridge_r2(hidden, E), abs=1e-6
    )


def test_repeated_texts_are_not_recalled(known):
    rows = np.tile(np.arange(30), 2)
    repeated = replace(
        known, tensors={name: states[rows] for name, states in known.tensors.items()}
    )
    noise = normal(30, 5, seed=7)[rows]
    lens = kv_lens(repeated, noise, probe=("hidden",))
    assert lens.dropped == 30
    assert {one.n for one in lens.similarities} == {30}
    assert all(one.value < 0.1 for one in lens.similarities_of("hidden", "r2"))
    assert (
        ridge_r2(repeated.states(3), noise) > 0.3
    )  # what it would be with copies on both sides of a fold


def test_a_recorded_model(recorded, tmp_path):
    lm, trace = recorded
    embeddings = kvlens.Encoder(lm, "kv_embedding", layers=[2]).encode(LINES)
    lens = kv_lens(trace, embeddings, seed=3)
    assert lens.skipped == (
        "k_pre of layer 0",
        "v of layer 0",
    )  # the prompt ends every text in one token
    last = lens.similarities_of("hidden")[-1]
    assert last.value > 0.5 > 5 * last.control_sd
    assert (lens.texts.n, lens.model, lens.draws, lens.seed) == (N, trace.model, 5, 3)
    assert (
        KVLens.load(lens.save(tmp_path / "lens.json")) == lens == kv_lens(trace, embeddings, seed=3)
    )
    assert kv_lens(trace, embeddings, seed=4).similarities != lens.similarities

    plain = kv_lens(trace)
    assert (plain.spectra, plain.similarities, plain.embeddings) == (lens.spectra, (), None)


def test_what_cannot_be_looked_at_is_refused(recorded, tmp_path):
    lm, trace = recorded
    good = normal(N, 5)
    few = kvlens.record(lm, LINES[:10])
    for bad, embeddings, message in (
        (trace, good[:-1], "59 embeddings, 60 states"),
        (trace, good * np.nan, "NaN or infinity in 60 of 60 rows of the embeddings"),
        (trace, good[:, 0], "array"),
        (trace, np.tile(good[:10], (6, 1)), "distinct embeddings have 10 rows"),
        (trace, np.ones((N, 3)), "distinct embeddings have 1 rows"),
        (few, None, "10 rows, at least 20"),
        (replace(trace, tensors={"hidden": trace.hidden}), None, "neither keys nor values"),
        (
            kvlens.record(lm, LINES, points="all"),
            good,
            "60 embeddings, .* states: .* points='last'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            kv_lens(bad, embeddings)
    with pytest.raises(InputError, match="cannot probe q: this trace holds k, k_pre, v, hidden"):
        kv_lens(trace, good, probe=("v", "q"))
    for measure in (linear_cka, ridge_r2):
        with pytest.raises(InputError, match="same texts"):
            measure(good, good[:-1])
        with pytest.raises(InputError, match="equal"):
            measure(good, np.full((N, 3), 0.1))
    with pytest.raises(InputError, match="undefined"):
        linear_cka(np.eye(N), good)
    (tmp_path / "a.json").write_text('{"format": "kvlens.id-profile", "version": 1}')
    with pytest.raises(InputError, match="is not a KV lens"):
        KVLens.load(tmp_path / "a.json")


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """`kvlens lens` on a small model: its folder, what it printed, and both results."""
    place = tmp_path_factory.mktemp("look")
    lm = tiny("llama")
    lm.hf.save_pretrained(place / "llama")
    lm.tokenizer.save_pretrained(place / "llama")
    (place / "texts.txt").write_text("\n".join(LINES))
    pairs = [{"sentence1": LINES[i], "sentence2": LINES[i + 7], "score": i / 2} for i in range(12)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setenv("KVLENS_CACHE", str(place / "cache"))
        given = [
            "--texts",
            f"{place}/texts.txt",
            "--n",
            "60",
            "--n-geometry",
            "30",
            "--pairs",
            f"{place}/pairs.jsonl",
        ]
        args = ["--layers", "1-2", "--methods", "mean,kv_embedding", "-o", f"{place}/out"]
        assert main(["lens", f"{place}/llama", *given, *args]) == 0
        assert main(["lens", f"{place}/llama", *given, *args]) == 2  # the folder is there already
    return (
        place,
        out.getvalue(),
        KVLens.load(place / "out/kv_lens.json"),
        Geometry.load(place / "out/geometry.json"),
    )


def test_the_command_writes_what_python_gives(look):
    place, printed, lens, geometry = look
    assert "uniformity" in printed
    assert "kv_ranks.pdf" in printed
    assert "id.png" in printed
    assert (lens.texts.n, geometry.n, geometry.n_pairs) == (60, 30, 3)  # scores 4.5, 5 and 5.5
    assert geometry.pairs.endswith("/pairs.jsonl, score above 4")
    assert "--n-geometry 30" in geometry.command
    lm = kvlens.load(str(place / "llama"))
    trace = kvlens.record(lm, LINES[:60])
    for states in ("hidden", "k", "v"):
        found = kvlens.IDProfile.load(place / f"out/id_{states}.json")
        np.testing.assert_allclose(
            found.values("twonn"), kvlens.estimate(trace, states).values("twonn"), rtol=1e-2
        )
    again = kv_lens(trace, kvlens.Encoder(lm, "kv_embedding", (1, 2)).encode(LINES[:60]))
    for one, other in zip(lens.spectra, again.spectra, strict=True):
        assert one.effective_rank == pytest.approx(other.effective_rank, rel=1e-4)
    for one, other in zip(lens.similarities, again.similarities, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-3)
