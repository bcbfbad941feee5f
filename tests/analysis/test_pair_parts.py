"""A cosine in parts against raw transformers, with norms and output projections by hand."""

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from families import family
from zoo import TEXTS

import kvlens
from kvlens import InputError
from kvlens.analysis.pair_parts import PairParts
from kvlens.analysis.pair_reading import pair_parts
from kvlens.methods.base import Method
from kvlens.models.attention_call import states_of

FIRST, SECOND = TEXTS[1], TEXTS[3]
PROJECTIONS = {"neox": "attention.dense"}
# RMSNorm, a gain less one and a norm behind W_O, parallel blocks with LayerNorm, scaled residuals.
BY_HAND = ("llama", "gemma3", "neox", "granite")


@dataclass(frozen=True)
class Moving(Method):
    """Adds something to the residual stream between two blocks; nameless, so that none finds it."""

    @contextlib.contextmanager
    def around(self, lm, batch):
        """One more in every dimension, before layer 2."""
        with lm.turn() as turn:
            turn.before(lm.blocks[2], lambda module, args: (args[0] + 1, *args[1:]))
            yield batch


def model(name, zoo):
    return family(name) if name == "granite" else zoo(name)


def raw_pass(lm, ids, projection):
    """States before the first and after each block, and what each output projection is given."""
    states, values = [], []
    handles = []

    def hang(register, call):
        handles.append(register(call, with_kwargs=True))

    blocks = lm.blocks
    hang(blocks[0].register_forward_pre_hook, lambda m, a, k: states.append(a[0][0].double()))
    for block in blocks:
        module = block.get_submodule(projection)
        hang(module.register_forward_pre_hook, lambda m, a, k: values.append(a[0][0].double()))
        hang(
            block.register_forward_hook,
            lambda m, a, k, out: states.append(states_of(out).double()),
        )
    with torch.no_grad():
        lm.base(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return [each.reshape(len(ids), -1) for each in states], values


def normed(name, module, part, whole):
    """`part` as the norm treats it inside `whole`, without its bias."""
    gain = module.weight.double() + (name == "gemma3")
    if name == "neox":
        spread = (whole.var(-1, correction=0) + module.eps).sqrt()
        return gain * (part - part.mean(-1, keepdim=True)) / spread[:, None]
    eps = getattr(module, "eps", None) or module.variance_epsilon
    return gain * part / (whole.square().mean(-1, keepdim=True) + eps).sqrt()


def head_write(name, lm, layer, values, head):
    """What one query head adds to the residual stream, token by token."""
    block = lm.blocks[layer]
    module = block.get_submodule(PROJECTIONS.get(name, "self_attn.o_proj"))
    own = slice(head * 8, head * 8 + 8)
    write = values[layer][:, own] @ module.weight[:, own].double().T
    if name == "gemma3":
        whole = values[layer] @ module.weight.double().T
        return normed(name, block.post_attention_layernorm, write, whole)
    return write * (lm.hf.config.residual_multiplier if name == "granite" else 1)


@pytest.mark.parametrize("name", BY_HAND)
def test_shares_are_those_by_hand(name, zoo):
    lm = model(name, zoo)
    encoder = kvlens.Encoder(lm, "mean")
    parts = pair_parts(encoder, FIRST, SECOND)
    final = lm.base.final_layer_norm if name == "neox" else lm.base.norm
    bias = final.bias.double() if name == "neox" else torch.zeros(1)
    sides = []
    for text in (FIRST, SECOND):
        states, values = raw_pass(
            lm, lm.tokenizer(text)["input_ids"], PROJECTIONS.get(name, "self_attn.o_proj")
        )
        sides.append((states, values, normed(name, final, states[-1], states[-1]) + bias))
    vectors = [tokens.mean(0) for *_, tokens in sides]
    lengths = vectors[0].norm() * vectors[1].norm()

    def share(writes):
        """Of what was written into both texts."""
        found = [
            normed(name, final, write, states[-1]).mean(0)
            for write, (states, *_) in zip(writes, sides, strict=True)
        ]
        return float((found[0] @ vectors[1] + found[1] @ vectors[0]) / (2 * lengths))

    n = [len(tokens) for *_, tokens in sides]
    by_token = sides[0][2] @ sides[1][2].T / lengths / (n[0] * n[1])
    np.testing.assert_allclose(parts.arrays["tokens"], by_token, atol=1e-6)
    assert parts.arrays["ends"][0] == pytest.approx(share([s[0] for s, *_ in sides]), abs=1e-6)
    for layer in range(lm.info.n_layers):
        block = share([s[layer + 1] - s[layer] for s, *_ in sides])
        assert parts.arrays["blocks"][layer] == pytest.approx(block, abs=1e-6)
        for head in range(4):
            wanted = share([head_write(name, lm, layer, values, head) for _, values, _ in sides])
            assert parts.arrays["heads"][layer, head] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "method", "settings"),
    [
        ("llama", "kv_embedding", {"layers": (1, 2), "bias": 2.0}),
        ("gemma3", "kv_embedding", {"layers": (2,)}),
        ("neox", "last_token", {"readout": 2}),
        ("gpt2", "mean", {"final_norm": False}),
        ("qwen2", "echo", {}),
    ],
)
def test_parts_add_up_to_the_cosine_of_the_encoder(zoo, name, method, settings):
    lm = zoo(name)
    encoder = kvlens.Encoder(lm, method, **settings)
    parts = kvlens.pair_parts(encoder, FIRST, SECOND, kinds=("query", "document"))
    vectors = encoder.encode_query(FIRST), encoder.encode_document(SECOND)
    cosine = vectors[0] @ vectors[1] / np.prod([np.linalg.norm(each) for each in vectors])
    assert parts.cosine == pytest.approx(cosine, abs=1e-5)
    assert parts.arrays["tokens"].sum() == pytest.approx(cosine, abs=1e-5)
    assert parts.written == pytest.approx(cosine, abs=1e-5)
    assert sum(parts.by_kind.values()) == pytest.approx(cosine, abs=1e-5)
    assert parts.arrays["after"][-1] == pytest.approx(cosine, abs=1e-5)
    if method == "kv_embedding":
        np.testing.assert_allclose(
            parts.arrays["heads"].sum(1), parts.arrays["attention"], atol=1e-6
        )
        after = kvlens.Encoder(lm, method, **settings, readout=1)
        wanted = after.similarity_pairwise(after.encode_query([FIRST]), after.encode([SECOND]))
        assert parts.arrays["after"][1] == pytest.approx(float(wanted), abs=1e-5)


def test_a_text_beside_itself_is_similar_by_all_of_it(zoo):
    parts = kvlens.pair_parts(kvlens.Encoder(zoo("llama"), "mean"), FIRST, FIRST)
    assert parts.cosine == pytest.approx(1)
    np.testing.assert_allclose(parts.arrays["tokens"], parts.arrays["tokens"].T, atol=1e-12)
    assert parts.by_kind == {"text": pytest.approx(1), "prompt": 0.0, "mixed": pytest.approx(0)}


def test_saved_whole_and_shown(zoo, tmp_path):
    encoder = kvlens.Encoder(zoo("llama"), "kv_embedding", layers=(1, 2))
    parts = kvlens.pair_parts(encoder, FIRST, "<b>&")
    again = kvlens.open(parts.save(tmp_path / "pair.safetensors"))
    assert isinstance(again, PairParts)
    assert str(again) == str(parts)
    assert again.settings == parts.settings
    assert all(np.array_equal(again.arrays[name], parts.arrays[name]) for name in parts.arrays)
    assert "re-routed in layers 1-2" in str(parts)
    assert f"cosine       {parts.cosine:.4f}" in str(parts)
    html = parts._repr_html_()
    assert "<img" in html
    assert "<b>&" not in html


def test_a_model_that_does_not_show_its_heads_has_blocks_all_the_same():
    parts = kvlens.pair_parts(kvlens.Encoder(family("falcon_h1"), "mean"), FIRST, SECOND)
    assert parts.arrays.keys() == {"tokens", "after", "ends", "blocks"}
    assert parts.rest is None
    assert "blocks +" in str(parts) or "blocks -" in str(parts)
    assert len(kvlens.plot_pair_parts(parts)) == 4


def test_what_cannot_be_taken_apart_is_refused(zoo):
    lm = zoo("llama")
    with pytest.raises(InputError, match="has post-processing"):
        kvlens.pair_parts(kvlens.Encoder(lm, "mean", post="embed_filter"), FIRST, SECOND)
    with pytest.raises(InputError, match="does not pool hidden states"):
        kvlens.pair_parts(kvlens.Encoder(lm, "value_aggregation"), FIRST, SECOND)
    with pytest.raises(InputError, match="before layer 2 are not those after layer 1"):
        kvlens.pair_parts(kvlens.Encoder(lm, Moving()), FIRST, SECOND)
    with pytest.raises(InputError, match="one for each of two texts"):
        kvlens.pair_parts(kvlens.Encoder(lm, "mean"), FIRST, SECOND, kinds=("query",))


def test_a_file_whose_parts_do_not_add_up_is_refused(zoo):
    parts = kvlens.pair_parts(kvlens.Encoder(zoo("llama"), "mean"), FIRST, SECOND)
    fields, arrays = parts.to_parts()
    with pytest.raises(InputError, match="its tokens add up to"):
        PairParts.from_parts(fields, arrays | {"tokens": arrays["tokens"] * 0.9})
    with pytest.raises(InputError, match="the array blocks is missing"):
        PairParts.from_parts(fields, {k: v for k, v in arrays.items() if k != "blocks"})
    with pytest.raises(InputError, match="the array heads is missing"):
        PairParts.from_parts(fields, {k: v for k, v in arrays.items() if k != "heads"})
