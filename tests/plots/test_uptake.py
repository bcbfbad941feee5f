import numpy as np
import pytest
from zoo import TEXTS

from kvlens import InputError, Prompt, attention_shift
from kvlens.plots.uptake import plot_beta, plot_ends


@pytest.fixture(scope="module")
def shift(zoo):
    prompt = Prompt(name="test", prefix="In: ", suffix=" Out:")
    return attention_shift(zoo("llama"), TEXTS, (0, 2), (0.5, 2.0), prompt=prompt)


def test_the_map_shows_beta_by_layer(shift):
    ax = plot_beta(shift, "propagated")
    np.testing.assert_allclose(
        ax.images[0].get_array(), shift.arrays["beta.propagated.mean"].mean(1)
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "2"]
    assert "n = 5 texts" in " ".join(ax.figure.get_supxlabel().split())


def test_points_are_means_and_bars_deviations(shift):
    mean, std, _ = shift.ends()
    lines = plot_ends(shift).containers
    np.testing.assert_allclose(lines[0].lines[0].get_ydata(), mean[0])
    bar = lines[1].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bar[:, 1], [mean[1, 0] - std[1, 0], mean[1, 0] + std[1, 0]])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "both"}, "`kind` is 'both'; it must be one of local, propagated"),
        ({"head": 4}, "heads 0 to 3"),
    ],
)
def test_what_cannot_be_drawn(shift, wrong, says):
    with pytest.raises(InputError, match=says):
        plot_beta(shift, **wrong)
