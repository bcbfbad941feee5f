import numpy as np
import pytest
from figure_data import METHODS, MODELS, TASKS, made_up_lengths, made_up_scores, saved_layer_set

from kvlens.plots.scores import plot_lengths, plot_scores


@pytest.mark.parametrize(("seed", "model"), list(enumerate(MODELS)))
def test_scores_and_their_intervals_are_read_back_from_the_picture(seed, model):
    result = made_up_scores(saved_layer_set(model), seed)
    axes = plot_scores(result)
    labels = axes[0].get_yticklabels()
    methods = [label.get_text() for label in labels]
    assert sorted(methods) == sorted({s.label.split(" + ")[0] for s in result.scores})
    means = [np.mean([s.value for s in result.scores if s.label == name]) for name in methods]
    assert means == sorted(means, reverse=True)
    for ax, task in zip(axes, TASKS, strict=True):
        drawn = 0
        for bars in ax.containers:
            (whiskers,) = bars.lines[2]
            segments = whiskers.get_segments()
            for x, ((low, y), (high, _)) in zip(bars.lines[0].get_xdata(), segments, strict=True):
                post = bars.get_label() if bars.get_label() != "no post-processing" else None
                label = methods[round(y)] + (f" + {post}" if post else "")
                (s,) = [s for s in result.scores if (s.task, s.label) == (task, label)]
                assert (x, low, high) == pytest.approx((s.value, s.low, s.high))
                drawn += 1
        assert drawn == sum(s.task == task for s in result.scores)
    bold = [label.get_text() for label in labels if label.get_fontweight() == "bold"]
    assert bold == ["kv_embedding"]


def test_a_method_of_one_task_is_ranked_by_its_lead_there_alone():
    """What is missing counts as the median method, however high the scores of the other task."""
    names = ("kv_embedding", "good", "poor", "kv_embedding (pooling hybrid_unnormalized)")
    low, high = TASKS[:2]
    values = {
        low: dict(zip(names, (30.0, 36.0, 20.0), strict=False)),
        high: dict(zip(names, (80.0, 84.0, 79.0, 82.0), strict=True)),
    }
    table = made_up_scores(saved_layer_set(MODELS[0]), 0, names, (low, high))
    scores = [
        score.model_copy(
            update=dict.fromkeys(("value", "low", "high"), values[score.task][score.label])
        )
        for score in table.scores
        if score.label in values[score.task]
    ]
    long = names[-1]
    result = table.model_copy(update={"scores": tuple(scores), "reference": long})
    labels = plot_scores(result)[0].get_yticklabels()
    # Leads over 30 and 81: 6 + 3; 0 + 1 of the one; 0 - 1; -10 - 2.
    shown = [label.get_text().replace("\n", " ") for label in labels]
    assert shown == ["good", long, "kv_embedding", "poor"]
    assert [label.get_fontweight() == "bold" for label in labels] == [False, True, False, False]
    assert max(len(line) for label in labels for line in label.get_text().split("\n")) <= 30


@pytest.mark.parametrize(("post", "mark"), [(None, ""), ("zscore", " + zscore")])
def test_retrieval_by_length_is_read_back_from_the_picture(post, mark):
    result = made_up_lengths(saved_layer_set("gemma3-270m"))
    ax = plot_lengths(result, post)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["256", "1,024"]
    assert [bars.get_label() for bars in ax.containers] == list(METHODS[:4])
    for bars in ax.containers:
        expected = [s for s in result.scores if s.label == bars.get_label() + mark]
        expected.sort(key=lambda s: int(s.task.split("@")[1]))
        (whiskers,) = bars.lines[2]
        assert bars.lines[0].get_ydata().tolist() == [s.value for s in expected]
        ends = [(low, high) for (_, low), (_, high) in whiskers.get_segments()]
        np.testing.assert_allclose(ends, [(s.low, s.high) for s in expected])
