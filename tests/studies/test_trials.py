"""Trials: what vectors are worth, by brute force and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from kvlens.store.errors import InputError
from kvlens.studies.pair_trial import PairTrial
from kvlens.studies.passage_trial import PassageTrial, damaged, halves
from kvlens.texts.pairs import Pairs
from kvlens.texts.texts import Texts
from kvlens.texts.wikipedia import calibration_texts

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def passages():
    return calibration_texts(300)


@pytest.fixture(scope="module")
def trial(passages):
    return next(PassageTrial.parts(passages, (40, 0, 0)))


def vectors_of(trial, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(len(trial.texts), d))


def cosine(vectors, trial, a, b):
    x, y = (vectors[trial.texts.index(text)] for text in (a, b))
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def reciprocal_rank(own, all_of_them):
    return 1 / sum(each >= own - 1e-12 for each in all_of_them)


def test_an_item_is_the_mean_of_what_is_found(trial):
    vectors = vectors_of(trial)
    items = trial.items(vectors)
    passages = trial.passages
    for number in (0, 7, 20, len(passages) - 1):
        passage = passages[number]
        first, second = halves(passage)
        to_seconds = [cosine(vectors, trial, first, halves(each)[1]) for each in passages]
        to_firsts = [cosine(vectors, trial, second, halves(each)[0]) for each in passages]
        from_copy = [cosine(vectors, trial, damaged(passage), each) for each in passages]
        of_halves = np.mean(
            [reciprocal_rank(each[number], each) for each in (to_seconds, to_firsts)]
        )
        found = [of_halves, reciprocal_rank(from_copy[number], from_copy)]
        others = [each for each in range(len(passages)) if each != number]
        relevant = [trial.articles[each] == trial.articles[number] for each in others]
        if any(relevant):
            near = [cosine(vectors, trial, passage, passages[each]) for each in others]
            found.append(average_precision_score(relevant, near))
        assert items[number] == pytest.approx(100 * np.mean(found))


def test_vectors_that_know_the_article_and_the_passage_get_everything(trial):
    """A direction an article, and a small one a passage."""
    articles = sorted(set(trial.articles))
    vectors = np.zeros((len(trial.texts), len(articles) + trial.n))
    for number, (passage, article) in enumerate(zip(trial.passages, trial.articles, strict=True)):
        for text in (passage, *halves(passage), damaged(passage)):
            vectors[trial.texts.index(text), articles.index(article)] = 1
            vectors[trial.texts.index(text), len(articles) + number] = 0.5
    assert np.allclose(trial.items(vectors), 100)
    assert trial.space(vectors).alignment == pytest.approx(0)
    blind = trial.whole(trial.items(vectors_of(trial))[None])[0]
    assert blind < 25


def test_scores_are_means_over_the_drawn_passages(trial):
    items = np.stack([trial.items(vectors_of(trial, seed=seed)) for seed in (1, 2)])
    counts = np.zeros((1, trial.n))
    counts[0, [0, 3]] = (2, 1)
    expected = (2 * items[:, 0] + items[:, 3]) / 3
    assert np.allclose(trial.scores(items, counts)[:, 0], expected)
    assert np.allclose(trial.whole(items), items.mean(1))
    assert trial.resampled(items).shape == (2, 1000)


def test_parts_share_no_article(passages):
    parts = list(PassageTrial.parts(passages, (1000, 1000, 1000)))
    articles = [set(part.articles) for part in parts]
    assert not articles[0] & articles[1]
    assert not articles[1] & articles[2]
    assert not articles[0] & articles[2]
    assert sum(part.n for part in parts) == passages.n
    for part in parts:
        of_one = [part.articles.count(article) for article in set(part.articles)]
        assert np.mean(np.array(of_one) > 1) > 0.8


def test_texts_without_ids_are_judged_by_halves_and_copies():
    texts = Texts(tuple(f"one two three {i} five six {i}" for i in range(60)), "here")
    part = next(PassageTrial.parts(texts, (60, 60, 60)))
    vectors = vectors_of(part)
    assert part.n == 12
    assert np.isfinite(part.items(vectors)).all()
    with pytest.raises(InputError, match="has no two halves"):
        list(PassageTrial.parts(Texts(("one", "two words"), "here"), (1, 1, 1)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=40))
def test_halves_and_damaged_copies_keep_the_order_of_words(words):
    passage = " ".join(words)
    first, second = halves(passage)
    assert f"{first} {second}" == passage
    left = damaged(passage).split()
    assert 1 <= len(left) <= len(words)
    rest = iter(words)
    assert all(word in rest for word in left)


def test_pairs_are_split_evenly_and_scored_as_scipy_does():
    n = 100
    pairs = Pairs(
        tuple(f"a{i}" for i in range(n)),
        tuple(f"b{i}" for i in range(n)),
        RNG.normal(size=n),
    )
    parts = list(PairTrial.parts(pairs, (400, 30, 2000)))
    assert [part.n for part in parts] == [20, 30, 40]
    firsts = [set(part.pairs.first) for part in parts]
    assert not firsts[0] & firsts[1]
    assert not firsts[1] & firsts[2]
    assert parts[1].pairs.first[0] == "a1"
    assert int(parts[1].pairs.first[-1][1:]) > 90
    part = parts[2]
    vectors = vectors_of(part)
    cosines = [
        cosine(vectors, part, a, b)
        for a, b in zip(part.pairs.first, part.pairs.second, strict=True)
    ]
    items = part.items(vectors)
    assert np.allclose(items, cosines)
    expected = 100 * spearmanr(cosines, part.pairs.scores).statistic
    assert part.whole(items[None])[0] == pytest.approx(expected)
