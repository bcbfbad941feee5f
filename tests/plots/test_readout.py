"""The picture of a readout sweep shows its numbers."""

import numpy as np
import pytest
from figure_data import saved_layer_set

from kvlens import readout_sweep
from kvlens.plots.readout import plot_readout, save_readout
from kvlens.texts.pairs import read_pairs


@pytest.fixture(scope="module")
def swept(zoo, pairs_file):
    return readout_sweep(zoo("llama"), read_pairs(pairs_file), "mean")


def test_quality_over_the_block_above_the_id_curve(swept, tmp_path):
    profile = saved_layer_set("gemma3-270m").profile
    top, bottom = plot_readout(swept, profile)
    lines = {line.get_label(): line for line in top.lines}
    assert lines["read by default"].get_ydata()[0] == swept.last.spearman
    for final_norm, label in ((True, "after the final norm"), (False, "before the final norm")):
        curve = swept.curve(final_norm)
        assert lines[label].get_xdata().tolist() == [each.block for each in curve]
        assert lines[label].get_ydata().tolist() == [each.spearman for each in curve]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), profile.values("twonn"))
    (alone,) = plot_readout(swept)
    assert alone.get_xlabel() == "block after which is read"
    paths = save_readout(swept, None, tmp_path)
    assert [path.name for path in paths] == ["readout.png", "readout.pdf"]
