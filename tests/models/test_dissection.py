"""What a model is made of, as a pass through its modules shows it."""

import copy

import pytest
import torch
from families import family
from zoo import TEXTS

import kvlens
from kvlens import InputError


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "llama",
            ["layers 0-3: full attention, 4 heads on 2 KV heads of 8, half rotation"],
        ),
        (
            "gpt2",
            ["layers 0-3: full attention, 4 heads on 4 KV heads of 8, no rotation"],
        ),
    ],
)
def test_alike_blocks_are_one_line(name, lines):
    assert list(family(name).anatomy.lines()) == lines


def layers(name, **expected):
    """Block indices whose anatomy has these values."""
    return [
        each.layer
        for each in family(name).anatomy.layers
        if all(getattr(each, field) == value for field, value in expected.items())
    ]


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "jamba", "gemma3_text", "llama4_text"])
def test_kinds_are_those_of_the_config(name):
    """Against the names in the config, which only some models have."""
    lm = family(name)
    names = {
        "full": ("full_attention", "attention", "hybrid"),
        "sliding": ("sliding_attention",),
        "chunked": ("chunked_attention",),
        "linear": ("linear_attention", "mamba"),
        "convolution": ("conv",),
    }
    of_config = lm.hf.config.get_text_config()
    kinds = getattr(of_config, "layer_types", None) or of_config.layers_block_type
    for each, kind in zip(lm.anatomy.layers, kinds, strict=True):
        assert kind in names[each.kind]
        assert each.has_keys == (each.kind in ("full", "sliding", "chunked"))


def test_rotations():
    assert layers("llama", rotation="half", rotary_dim=8) == [0, 1, 2, 3]
    assert layers("gpt_neox", rotation="half") == layers("gpt_neox")
    assert family("glm").anatomy.first.rotation == "interleaved"
    assert family("glm").anatomy.first.rotary_dim < family("glm").anatomy.first.d_key
    config = family("smollm3").hf.config
    rotating = [layer for layer, rotates in enumerate(config.no_rope_layers) if rotates]
    assert layers("smollm3", rotation="half") == rotating
    assert layers("llama4_text", rotation="none") == [3]


@pytest.mark.parametrize("dead", [(0, 4), (3, 7), (0, 3, 4, 7)])
def test_dimensions_that_a_norm_holds_at_zero_turn_too(dead):
    """Such weights are in Gemma 3 270M: an (1 + weight) of 0."""
    lm = family("qwen3")
    copied = copy.deepcopy(lm.hf)
    expected = lm.anatomy.first
    with torch.no_grad():
        copied.model.layers[0].self_attn.k_norm.weight[list(dead)] = 0
    found = kvlens.LanguageModel.wrap(copied, lm.tokenizer).anatomy.first
    assert (found.rotary_start, found.rotary_dim) == (0, expected.d_key)
    assert found == expected


def test_norms_sinks_caps_and_caches():
    assert layers("qwen3", key_norm="before") == layers("qwen3")
    assert layers("hunyuan_v1_dense", key_norm="after") == layers("hunyuan_v1_dense")
    assert layers("gpt_oss", sink=True) == layers("gpt_oss")
    assert layers("gemma2", soft_cap=50.0) == layers("gemma2")
    assert layers("llama", sink=False, soft_cap=None, latent=False) == layers("llama")
    latent = family("deepseek_v3").anatomy.first
    config = family("deepseek_v3").hf.config
    assert latent.latent
    assert latent.d_key == config.qk_nope_head_dim + config.qk_rope_head_dim
    assert latent.d_value == config.v_head_dim


def test_shared_keys_are_not_for_a_prefix():
    lm = family("gemma4_text")
    config = lm.hf.config.get_text_config()
    first = config.num_hidden_layers - config.num_kv_shared_layers
    assert layers("gemma4_text", shares="reads") == list(range(first, config.num_hidden_layers))
    assert lm.info.layers_with_keys() == tuple(range(first))
    assert layers("gemma4_text", shares="stores")
    assert not set(lm.info.layers_to_reroute()) & set(layers("gemma4_text", shares="stores"))


def test_sizes_come_from_what_the_blocks_make():
    """Not from a field of the config that the class does not read."""
    lm = family("gpt2")
    lm.hf.config.num_key_value_heads = 2
    again = kvlens.LanguageModel.wrap(lm.hf, lm.tokenizer)
    assert again.info.n_kv_heads == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mamba", "a model without attention"),
        ("rwkv", "a model without attention"),
        ("paligemma", "a token sees those after it"),
        ("ctrl", "put no keys and values into a KV cache"),
    ],
)
def test_what_kvlens_does_not_read_is_refused_in_one_line(name, words):
    with pytest.raises(InputError, match=words) as error:
        family(name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_nothing_is_left_on_the_model():
    lm = family("qwen3")
    kernel = lm.hf.config._attn_implementation
    again = kvlens.LanguageModel.wrap(lm.hf, lm.tokenizer)
    assert again.anatomy == lm.anatomy
    assert lm.hf.config._attn_implementation == kernel
    for module in lm.hf.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_states_in_several_streams_are_refused():
    with pytest.raises(InputError, match=r"layer 0 of .* gives states \[4, "):
        kvlens.record(family("gemma3n_text"), TEXTS)


@pytest.mark.parametrize("name", ["recurrent_gemma", "llama4_text"])
def test_padding_that_a_model_sees_is_refused(name):
    lm = family(name)
    with pytest.raises(InputError, match="sees padding on the left: pad right"):
        kvlens.record(lm, TEXTS, padding_side="left")
    assert kvlens.check(lm, TEXTS).passed


def test_keys_are_those_of_the_kv_cache():
    """Against what transformers itself keeps, with raw modules alone."""
    import transformers as tf

    from kvlens.tracing.raw import raw_states

    for name in ("llama", "qwen3", "gpt2", "gpt_neox", "phi3", "glm", "cohere", "hunyuan_v1_dense"):
        lm = family(name)
        ids = [7, 8, 9, 10, 11]
        cache = tf.DynamicCache()
        with torch.no_grad():
            lm.base(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        states = raw_states(lm, ids)
        for layer, kept in enumerate(cache.layers):
            torch.testing.assert_close(states[f"k.{layer}"], kept.keys[0, :, -1])
            torch.testing.assert_close(states[f"v.{layer}"], kept.values[0, :, -1])


def test_a_block_that_did_not_run_is_refused():
    """Cross-attention to a picture that is not there: transformers skips the block."""
    lm = family("mllama")
    with pytest.raises(InputError, match=r"layer 1 of tiny-mllama does not run on text alone"):
        kvlens.record(lm, TEXTS)
    others = [layer for layer in range(lm.info.n_layers) if layer != 1]
    assert kvlens.record(lm, TEXTS, layers=others).layers == tuple(others)
