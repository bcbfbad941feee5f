"""Which token is re-routed: told, read off the mask, or the last column."""

import pytest
import torch
from brute_force import (
    ARCHITECTURES,
    LAYERS,
    LENGTHS,
    POSITIONS,
    brute_force,
    largest,
    model,
    padded,
    raw_hidden,
    sequences,
)

from kvlens import InputError, reroute


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_given_last_index(name):
    """It is what the mask says by default; an earlier one gives what the text cut there gives."""
    lm = model(name)
    rows = sequences(LENGTHS[2:])
    ids, mask, positions, spans = padded(rows, "right")
    last = mask.sum(1) - 1
    with reroute(lm, LAYERS) as rerouting:
        derived = raw_hidden(lm, ids, mask, positions)
        rerouting.last = last
        assert torch.equal(raw_hidden(lm, ids, mask, positions), derived)
        # Right padding is never seen by real tokens.
        unmasked = raw_hidden(lm, ids, None, positions)
        assert largest(unmasked, [derived[i, span] for i, span in enumerate(spans)], spans) < 1e-4
        rerouting.last = last - 2
        earlier = raw_hidden(lm, ids, mask, positions)
    for i, row in enumerate(rows):
        cut = brute_force(name, row[:-2], dict.fromkeys(LAYERS, 1.0))[0]
        torch.testing.assert_close(earlier[i, : len(cut)], cut, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_may_be_left_to_the_model(side):
    """Without position_ids transformers counts columns, padding too.

    The same as the text alone at those positions.
    """
    lm = model("llama")
    rows = sequences()
    ids, mask, _, spans = padded(rows, side)
    for position in POSITIONS:
        with reroute(lm, LAYERS, 1.0, position):
            states = raw_hidden(lm, ids, mask, None)
        truth = [
            brute_force("llama", row, dict.fromkeys(LAYERS, 1.0), position, span.start)[0]
            for row, span in zip(rows, spans, strict=True)
        ]
        assert largest(states, truth, spans) < 1e-4


def test_a_mask_of_four_dimensions_is_refused():
    lm = model("llama")
    (row,) = sequences([5])
    message = r"attention_mask of \[batch, seq_len\]"
    with reroute(lm, LAYERS), pytest.raises(InputError, match=message):
        raw_hidden(lm, row[None], torch.zeros(1, 1, 5, 5), None)
