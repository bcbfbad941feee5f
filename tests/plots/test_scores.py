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
