"""Re-routing on every family of the zoo, held against the oracle in float64."""

import pytest
import torch
from families import NAMES, build
from family_oracle import decoder_of, oracle

pytestmark = [pytest.mark.zoo, pytest.mark.slow]

LENGTHS = (26, 1, 13, 5, 9)
# What the oracle does not state, and why.
NOT_IN_THE_ORACLE = {
    "cpmant": "learned prompts stand before the text",
    "deepseek_v4": "keys are compressed",
    "hrm_text": "its blocks run several times",
    "inkling2_text": "no float64",
    "inkling_text": "positions are a bias that depends on the query",
    "minimax_m3_vl_text": "sparse attention of its own",
    "paligemma": "it reads the text in both directions",
}
IN_THE_ORACLE = [name for name in NAMES if name not in NOT_IN_THE_ORACLE]


def rows(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 300, (length,), generator=generator) for length in lengths]


@pytest.mark.parametrize("name", IN_THE_ORACLE)
def test_the_oracle_without_a_prefix_is_the_plain_model(name):
    decoder = decoder_of(build(name))
    for row in rows():
        truth = oracle(name).states(row, {})
        with torch.no_grad():
            plain = decoder(row[None], use_cache=False).last_hidden_state[0]
        assert float((plain - truth).abs().max() / truth.abs().max()) < 1e-5
