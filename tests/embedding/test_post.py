"""Post-processing against numpy and scikit-learn; how an encoder finds, uses and refuses a fit."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from embedding_cases import layer_set, other, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from test_old_files import DATA
from zoo import TEXTS

from kvlens.embedding.embed_filter import embed_filter
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import FITTED, Post, fit
from kvlens.store.errors import InputError
from kvlens.store.notices import Notice

FIT_TEXTS = [
    f"{word} {i} {word[::-1]}"
    for i, word in enumerate(["river", "stone", "light", "music", "paper"] * 12)
]


def apply(post, x):
    return post(torch.from_numpy(x)).numpy()


def test_center_and_zscore_equal_scikit_learn():
    x, new = sample(50, 8), sample(7, 8, 1)
    for kind, std in (("center", False), ("zscore", True)):
        truth = StandardScaler(with_std=std).fit(x.astype(np.float64)).transform(new)
        mapped = apply(fit(x, kind), new)
        assert mapped.dtype == np.float32
        np.testing.assert_allclose(mapped, truth, atol=1e-4)


def test_the_mean_direction_is_projected_out():
    x, new = sample(50, 8) + 2, sample(7, 8, 1)
    direction = x.astype(np.float64).mean(0)
    # Gram-Schmidt, one vector after another.
    along = [vector @ direction / (direction @ direction) for vector in new.astype(np.float64)]
    truth = [vector - share * direction for vector, share in zip(new, along, strict=True)]
    mapped = apply(fit(x, "project_mean"), new)
    np.testing.assert_allclose(mapped, truth, atol=1e-5)
    assert np.abs(mapped @ direction).max() < 1e-4
    balanced = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    with pytest.raises(InputError, match="is zero: it has no direction"):
        fit(balanced, "project_mean")


def test_embed_filter_keeps_the_middle_of_the_unembedding(lm):
    head = lm.hf.get_output_embeddings().weight.numpy().astype(np.float64)
    axes = np.linalg.svd(head)[2]
    x = sample(9, 32)
    for dimension, first in ((None, 8), (5, 13), (32, 0)):
        kept = axes[first : first + (dimension or 16)]
        post = embed_filter(lm, dimension=dimension)
        mapped = apply(post, x).astype(np.float64)
        # The axes' signs are arbitrary, the scalar products are not.
        truth = x @ kept.T
        np.testing.assert_allclose(np.abs(mapped), np.abs(truth), atol=1e-3)
        np.testing.assert_allclose(mapped @ mapped.T, truth @ truth.T, rtol=1e-3, atol=1e-3)
        assert (post.n, post.kind, post.matrix.shape) == (0, "embed_filter", (32, len(kept)))
    for dimension in (0, 33):
        with pytest.raises(InputError, match=f"lies in 1 to 32, not {dimension}"):
            embed_filter(lm, dimension=dimension)


def test_an_encoder_filters_without_a_text(lm, saved, tmp_path):
    plain, encoder = Encoder(lm, "mean"), Encoder(lm, "mean", post="embed_filter")
    mapped = plain.encode(TEXTS) @ encoder.post.matrix
    np.testing.assert_allclose(encoder.encode(TEXTS), mapped, atol=1e-4)
    Encoder(lm, layers=saved, post="embed_filter")
    assert not list(saved.parent.glob("post-*"))
    encoder = Encoder(lm, layers=saved)
    again = Post.load(encoder.fit_post("embed_filter").save(tmp_path / "filter.safetensors"))
    assert (again.kind, again.n) == ("embed_filter", 0)
    (file,) = saved.parent.glob("post-*")
    assert "embed_filter" in file.name
    with pytest.raises(
        InputError, match=r"of 32 dimensions, and the vectors of value_agg.* have 16"
    ):
        Encoder(lm, "value_aggregation", post="embed_filter")


def test_whitening_warns_where_its_axes_are_noise():
    with pytest.warns(Notice, match="fitted on 31 embeddings of 8 dimensions: give at least 32"):
        fit(sample(31, 8), "whiten")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(sample(32, 8), "whiten")
        fit(sample(9, 8), "zscore")


@settings(max_examples=25, deadline=None)
@given(n=st.integers(30, 200), d=st.integers(1, 15), seed=st.integers(0, 99))
def test_whitened_covariance_is_the_identity(n, d, seed):
    x = sample(n, d, seed)
    white = apply(fit(x, "whiten", shrinkage=0.0), x).astype(np.float64)
    np.testing.assert_allclose(white.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(white.T @ white / n, np.eye(d), atol=1e-2)


def test_whitening_without_shrinkage_is_whitened_pca():
    x, new = sample(400, 6), sample(9, 6, 1)
    mapped = apply(fit(x, "whiten", shrinkage=0.0), new)
    # scikit-learn divides by n - 1; the sign of an axis is arbitrary.
    truth = PCA(whiten=True).fit(x.astype(np.float64)).transform(new) * np.sqrt(400 / 399)
    np.testing.assert_allclose(np.abs(mapped), np.abs(truth), atol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(300, 8), (30, 60), (5, 12)])
def test_shrinkage_is_ledoit_wolf(n, d):
    x = sample(n, d)
    truth = LedoitWolf().fit(x.astype(np.float64))
    post = fit(x, "whiten")
    assert post.shrinkage == pytest.approx(truth.shrinkage_, abs=1e-9)
    # Whitening by the shrunk covariance: matrix.T @ covariance @ matrix is the identity.
    matrix = post.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ truth.covariance_ @ matrix, np.eye(d), atol=1e-3)


def test_fewer_texts_than_dimensions():
    x, new = sample(20, 50), sample(5, 50, 1)
    post = fit(x, "whiten")
    assert 0 < post.shrinkage < 1
    mapped = apply(post, new)
    assert np.isfinite(mapped).all()
    assert np.abs(mapped).max() < 1e3
    # 20 centered points span 19 axes: without shrinkage, no more can be whitened.
    assert apply(fit(x, "whiten", dimension=19, shrinkage=0.0), new).shape == (5, 19)
    for dimension in (20, None):
        with pytest.raises(
            InputError,
            match=r"20 embeddings do not vary along .* axes: lower the dimension, or shrink",
        ):
            fit(x, "whiten", dimension=dimension, shrinkage=0.0)


def test_dimension_keeps_the_leading_axes():
    x = sample(100, 10)
    whole, part = fit(x, "whiten", shrinkage=0.1), fit(x, "whiten", dimension=3, shrinkage=0.1)
    np.testing.assert_array_equal(part.matrix, whole.matrix[:, :3])
    axes = PCA(n_components=3).fit(x.astype(np.float64)).components_
    cosine = np.abs(np.sum(axes.T * part.matrix / np.linalg.norm(part.matrix, axis=0), 0))
    np.testing.assert_allclose(cosine, 1, atol=1e-4)


def test_full_shrinkage_rotates_and_scales_only():
    x = sample(100, 6)
    matrix = fit(x, "whiten", shrinkage=1.0).matrix.astype(np.float64)
    np.testing.assert_allclose(
        matrix.T @ matrix, np.eye(6) / x.astype(np.float64).var(0).mean(), atol=1e-6
    )


def test_a_constant_coordinate_is_not_blown_up():
    x = sample(40, 4)
    x[:, 2] = 3.14159
    truth = StandardScaler().fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(apply(fit(x, "zscore"), x), truth, atol=1e-4)
    moved = x + np.float32(0.01)
    assert np.abs(apply(fit(x, "zscore"), moved)[:, 2]).max() < 0.02


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (
            sample(9, 3),
            {"kind": "pca"},
            "unknown post-processing 'pca': give one of center, project_mean, zscore, whiten",
        ),
        (sample(1, 3), {"kind": "center"}, "at least 2 texts, got 1"),
        (sample(9, 3)[0], {"kind": "center"}, r"\[n, d\]"),
        (sample(9, 3) * np.float32(np.nan), {"kind": "center"}, "finite"),
        (sample(9, 3), {"kind": "center", "dimension": 2}, "a dimension goes with whiten"),
        (sample(9, 3), {"kind": "whiten", "dimension": 0}, "lies in 1 to 3"),
        (sample(9, 3), {"kind": "whiten", "dimension": 4}, "lies in 1 to 3"),
        (sample(9, 3), {"kind": "zscore", "shrinkage": 0.5}, "a shrinkage goes with whiten"),
        (sample(9, 3), {"kind": "whiten", "shrinkage": 1.5}, "lies in 0 to 1"),
        (sample(9, 3), {"kind": "embed_filter"}, "unknown post-processing 'embed_filter'"),
        (np.zeros((9, 3), np.float32), {"kind": "project_mean"}, "all 9 embeddings are equal"),
        (np.ones((9, 3), np.float32), {"kind": "zscore"}, "all 9 embeddings are equal"),
        (np.full((9, 3), 0.1, np.float32), {"kind": "whiten"}, "all 9 embeddings are equal"),
    ],
)
def test_bad_fits_are_refused(x, options, says):
    with pytest.raises(InputError, match=says) as error:
        fit(x, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", FITTED)
def test_saved_and_loaded_equal(kind, tmp_path):
    post = fit(sample(30, 5), kind, "made-by")
    again = Post.load(post.save(tmp_path / "post.safetensors"))
    assert (again.kind, again.embedder, again.n, again.shrinkage) == (
        kind,
        "made-by",
        30,
        post.shrinkage,
    )
    np.testing.assert_array_equal(again.mean, post.mean)
    np.testing.assert_array_equal(again.matrix, post.matrix)
    assert list(tmp_path.iterdir()) == [tmp_path / "post.safetensors"]
    with pytest.raises(InputError, match="maps 5 dimensions, not 6"):
        again(torch.zeros(2, 6))


def test_other_files_are_refused(tmp_path):
    arrays = {"mean": np.zeros(2, np.float32), "matrix": np.eye(2, dtype=np.float32)}
    facts = {
        "format": "kvlens.post",
        "version": 1,
        "kind": "center",
        "embedder": "",
        "n": 3,
        "shrinkage": 0.0,
    }
    headers = [{}, {"kvlens": "[]"}, {"kvlens": json.dumps({**facts, "version": 2})}]
    headers += [{"kvlens": json.dumps({k: v for k, v in facts.items() if k != "n"})}]
    for i, header in enumerate(headers):
        save_file(arrays, tmp_path / f"{i}.safetensors", header)
    save_file(
        {"mean": arrays["mean"]}, tmp_path / "half.safetensors", {"kvlens": json.dumps(facts)}
    )
    (tmp_path / "text.safetensors").write_text("x")
    for path in [*sorted(tmp_path.iterdir()), tmp_path / "absent.safetensors", tmp_path]:
        with pytest.raises(InputError) as error:
            Post.load(path)
        assert "\n" not in str(error.value)
    save_file(arrays, tmp_path / "good.safetensors", {"kvlens": json.dumps(facts)})
    assert Post.load(tmp_path / "good.safetensors").n == 3


@pytest.fixture
def saved(lm, tmp_path):
    layer_set(lm).save(tmp_path / "layers.json")
    return tmp_path / "layers.json"


@pytest.mark.parametrize("kind", FITTED)
def test_an_encoder_finds_its_fit_beside_the_layer_set(lm, saved, kind):
    encoder = Encoder(lm, layers=saved)
    raw, base = encoder.encode(TEXTS), encoder.encode(FIT_TEXTS).astype(np.float64)
    with pytest.raises(InputError, match=f"no {kind} is fitted for this encoder"):
        Encoder(lm, layers=saved, post=kind)
    post = encoder.fit_post(kind, FIT_TEXTS)
    (file,) = saved.parent.glob("post-*")
    assert kind in file.name
    assert encoder.signature in file.name
    truth = (raw - base.mean(0)) @ post.matrix
    if kind == "zscore":
        np.testing.assert_allclose(truth, (raw - base.mean(0)) / base.std(0), atol=1e-4)
    np.testing.assert_allclose(encoder.encode(TEXTS), truth, atol=1e-4)
    for post in (kind, str(file), file, Post.load(file)):
        again = Encoder(lm, layers=str(saved), post=post)
        np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
        assert again.signature == Encoder(lm, layers=saved).signature


def test_fit_then_truncate_then_normalize(lm):
    encoder = Encoder(lm, "mean")
    encoder.fit_post("whiten", FIT_TEXTS, dimension=6)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 6)
    assert encoder.get_embedding_dimension() == 6
    assert encoder.encode([]).shape == (0, 6)
    cut = vectors[:, :4] / np.linalg.norm(vectors[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(
        encoder.encode(TEXTS, truncate_dim=4, normalize_embeddings=True), cut, atol=1e-5
    )
    # A second fit starts from raw embeddings, not from the first one's output.
    encoder.fit_post("center", FIT_TEXTS)
    assert encoder.encode("a").shape == (32,)


def test_while_one_is_fitted_others_get_the_last_ones_vectors(lm, monkeypatch):
    encoder = Encoder(lm, "mean")
    encoder.fit_post("center", FIT_TEXTS)
    right = encoder.encode(TEXTS)
    meanwhile = []

    def fit_slowly(*args):
        meanwhile.append(encoder.encode(TEXTS))
        return fit(*args)

    monkeypatch.setattr("kvlens.embedding.encoder.fit", fit_slowly)
    encoder.fit_post("whiten", FIT_TEXTS, 5)
    np.testing.assert_array_equal(meanwhile, [right])
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 5)
    with pytest.raises(InputError):
        encoder.fit_post("whiten", FIT_TEXTS, 33)
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 5)


def test_fit_of_another_encoder_is_refused(lm, saved):
    post = Encoder(lm, layers=saved).fit_post("whiten", FIT_TEXTS, dimension=5)
    (file,) = saved.parent.glob("post-*")
    elsewhere = other(lm, revision="sha256:other")
    others = {
        "bias": lambda **o: Encoder(lm, layers=saved, bias=3.0, **o),
        "method": lambda **o: Encoder(lm, "mean", **o),
        "model": lambda **o: Encoder(elsewhere, layers=(1, 2), **o),
    }
    for make in others.values():
        for fitted in (post, file, str(file)):
            with pytest.raises(
                InputError,
                match="fitted on other embeddings: fit it again, or `force=True`",
            ):
                make(post=fitted)
            assert make(post=fitted, force=True).encode("a").shape == (5,)
    with pytest.raises(InputError, match="no whiten is fitted for this encoder"):
        others["bias"](post="whiten")


def test_wrong_kinds_and_dimensions_are_refused(lm, saved):
    with pytest.raises(
        InputError,
        match="unknown post-processing 'pca': give one of center, project_mean, zscore, whiten",
    ):
        Encoder(lm, layers=saved, post="pca")
    encoder = Encoder(lm, layers=saved)
    for options in (
        {"kind": "pca"},
        {"kind": "center", "dimension": 3},
        {"kind": "whiten", "dimension": 33},
    ):
        with pytest.raises(InputError):
            encoder.fit_post(texts=FIT_TEXTS, **options)
    for texts in ([], "one text", ["only one"], ["a", None]):
        with pytest.raises(InputError):
            encoder.fit_post("center", texts)
    assert not list(saved.parent.glob("post-*"))
    small = fit(sample(9, 3), "center")
    with pytest.raises(InputError, match="maps 3 dimensions, not 32"):
        Encoder(lm, layers=saved, post=small, force=True).encode("a")


WHITEN = Post.load(DATA / "post-whiten.safetensors")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "rotate"}, "unknown kind 'rotate'"),
        ({"mean": WHITEN.mean[1:]}, r"matrix is \[32, 8\], not \[d, dimension\]"),
        ({"mean": WHITEN.mean[:0]}, "no dimension"),
        ({"mean": WHITEN.mean.astype(np.float64)}, "mean is float64, not float32"),
        ({"matrix": WHITEN.matrix.T}, r"matrix is \[8, 32\]"),
        ({"matrix": WHITEN.matrix.reshape(-1)}, r"matrix is \[256\]"),
        ({"matrix": WHITEN.matrix * np.float32(np.inf)}, "matrix has NaN or infinity"),
    ],
)
def test_arrays_that_are_no_map_are_refused(change, problem):
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=problem):
        replace(WHITEN, **change)
