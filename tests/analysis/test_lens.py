"""The KV lens on states whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from point_cases import LINES, N, normal, with_singular_values

import kvlens
from kvlens.analysis.geometry import effective_rank
from kvlens.analysis.lens import KVLens, kv_lens
from kvlens.analysis.similarity import linear_cka, ridge_r2
from kvlens.store.errors import InputError


@pytest.fixture(scope="module")
def recorded(zoo):
    lm = zoo("llama")
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
    model = recorded[1].model.model_copy(update={"d_model": 200})
    return replace(recorded[1], model=model, tensors=tensors)


def test_lens_on_states_whose_truth_is_known(known):
    V = known.states(3, "v").astype(float)
    lens = kv_lens(known, V @ normal(16, 90, seed=5), seed=1)
    assert lens.skipped == ("v of layer 0",)
    assert [each.layer for each in lens.similarities_of("v")] == [1, 2, 3]
    assert [each.layer for each in lens.similarities_of("hidden")] == [0, 1, 2, 3]
    assert {each.kind for each in lens.spectra} == {"k", "v"}

    both = {each.layer: each for each in lens.spectra_of("v")}
    assert both[2].effective_rank == pytest.approx(3, abs=1e-5)
    assert both[2].directions == (3, 3, 3)
    np.testing.assert_allclose(both[2].energy, [1 / 3, 2 / 3, 1], atol=2e-6)
    assert [each.layer for each in lens.spectra_of("v", 1)] == [
        1,
        3,
    ]  # head 1 of layer 2 is constant
    head = lens.spectra_of("v", 1)[-1]
    assert (head.n, head.d, head.energy) == (N, 8, ())
    assert head.effective_rank == pytest.approx(effective_rank(V[:, 8:]))
    variance = np.sort(np.linalg.eigvalsh(np.cov(V.T)))[::-1].cumsum() / np.trace(np.cov(V.T))
    assert both[3].directions == tuple(
        int(np.argmax(variance >= share)) + 1 for share in (0.90, 0.95, 0.99)
    )
    np.testing.assert_allclose(both[3].energy, variance[: len(both[3].energy)], atol=2e-6)

    *others, last = lens.similarities_of("v", "r2")
    assert (last.n, last.layer) == (N, 3)
    assert last.value == pytest.approx(1, abs=1e-6)
    assert all(other.value < 0.1 for other in others)
    *others, last = lens.similarities_of("v")
    assert last.value == pytest.approx(linear_cka(V, V @ normal(16, 90, seed=5)))
    assert last.value > 0.8
    assert all(abs(other.value) < 0.1 for other in others)
    for similarity in lens.similarities:
        lowest = -0.05 if similarity.measure == "cka" else -0.3
        assert lowest < similarity.control < 0.05
        assert 0 < similarity.control_sd < 0.05
    assert {each.kind for each in lens.similarities if each.measure == "r2"} == {"v"}


def test_wide_states_and_embeddings_are_measured_whole(known):
    hidden = known.states(1).astype(float)
    E = np.hstack([hidden[:, :50], normal(N, 100)])
    lens = kv_lens(known, E, probe=("hidden",))
    similarity = lens.similarities_of("hidden")[1]
    assert similarity.value == pytest.approx(linear_cka(hidden, E))
    assert similarity.value > similarity.control + 5 * similarity.control_sd
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
    assert {each.n for each in lens.similarities} == {30}
    assert all(each.value < 0.1 for each in lens.similarities_of("hidden", "r2"))
    # What it would be with copies on both sides of a fold.
    assert ridge_r2(repeated.states(3), noise) > 0.3


def test_a_recorded_model(recorded, tmp_path):
    lm, trace = recorded
    embeddings = kvlens.Encoder(lm, "kv_embedding", layers=[2]).encode(LINES)
    lens = kv_lens(trace, embeddings, seed=3)
    # The prompt ends every text in one token.
    assert lens.skipped == ("k_pre of layer 0", "v of layer 0")
    last = lens.similarities_of("hidden")[-1]
    assert last.value > 0.5 > 5 * last.control_sd
    assert (lens.texts.n, lens.model, lens.draws, lens.seed) == (N, trace.model, 5, 3)
    assert KVLens.load(lens.save(tmp_path / "lens.json")) == lens
    assert lens == kv_lens(trace, embeddings, seed=3)
    assert kv_lens(trace, embeddings, seed=4).similarities != lens.similarities

    plain = kv_lens(trace)
    assert (plain.spectra, plain.similarities, plain.embeddings) == (lens.spectra, (), None)


def test_what_cannot_be_looked_at_is_refused(recorded, tmp_path):
    lm, trace = recorded
    good = normal(N, 5)
    few = kvlens.record(lm, LINES[:10])
    for bad, embeddings, message in (
        (trace, good[:-1], "59 embeddings, 60 states"),
        (trace, good * np.nan, "NaN or infinity in 60 of 60 rows of the `embeddings`"),
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
