"""Two module trees over one set of weights."""

import pickle

import pytest
import torch
from zoo import tiny

import kvlens


def test_two_module_trees_share_one_set_of_weights(lm):
    mine = {p.untyped_storage().data_ptr() for p in lm.hf.parameters()}
    theirs = {p.untyped_storage().data_ptr() for p in lm.bridge.original_model.parameters()}
    assert mine <= theirs
    if (
        "neox" not in lm.info.name
    ):  # TransformerLens itself un-interleaves GPT-NeoX's fused QKV into copies
        assert theirs == mine
    ids = torch.arange(5, 30)[None]
    expected = lm(ids)
    with torch.no_grad():
        logits = lm.bridge(ids, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in lm.bridge.parameters())


def test_padding_side_does_not_change_logits(lm):
    ids = torch.arange(5, 30)[None]
    padded = torch.nn.functional.pad(ids, (6, 0))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (6, 0))
    torch.testing.assert_close(
        lm(padded, attention_mask=mask)[:, 6:], lm(ids), rtol=1e-4, atol=1e-5
    )


def test_the_bridge_is_built_on_first_use():
    lm = tiny("llama")
    assert not lm.has_bridge
    assert lm.trees == ("raw",)
    bridge = lm.bridge
    assert lm.has_bridge
    assert lm.bridge is bridge
    assert lm.trees == ("raw", "bridge")
    assert lm.decoder("raw") is lm.base
    assert lm.decoder("bridge") is bridge.original_model.get_decoder()
    assert lm.attention(1) is lm.blocks[1].self_attn
    assert lm.attention(1, "bridge") is bridge.blocks[1].attn


@pytest.mark.parametrize("n", [2**60, -1])
def test_a_config_whose_numbers_no_model_has_is_refused(n):
    lm = tiny("llama")
    lm.hf.config.max_position_embeddings = n
    with pytest.raises(kvlens.InputError, match="x has an absurd config: max_positions: "):
        kvlens.LanguageModel.wrap(lm.hf, lm.tokenizer, name="x")


def test_one_that_gave_hidden_states_is_pickled(lm):
    """transformers leaves hooks in it that no pickle can hold; it puts them in again."""
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        before = lm.hf(ids, output_hidden_states=True).hidden_states
        again = pickle.loads(pickle.dumps(lm))
        for each in (lm, again):
            after = each.hf(ids, output_hidden_states=True).hidden_states
            assert all(map(torch.equal, before, after))
