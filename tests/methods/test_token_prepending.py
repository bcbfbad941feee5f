"""Token Prepending, derived again as a loop over the decoder blocks."""

import pytest
import torch
import transformers as tf
from brute_force import visible, window_of
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, ids_of, model, prepared
from zoo import SHAPE, byte_tokenizer

from kvlens import PROMPTS, InputError, LanguageModel
from kvlens.methods.registry import get_method


def loop_with_placeholder(architecture, text, start, leave, output):
    """The last token's state after `output` blocks."""
    lm = model(architecture)
    base = lm.base
    config = base.config
    before = ids_of(lm, "This sentence :")
    after = ids_of(lm, f' "{text}" means in one word:"')
    place = len(before)
    length = len(before) + 1 + len(after)
    table = base.get_input_embeddings()
    average = table.weight.mean(0) * (config.hidden_size**0.5 if "gemma" in architecture else 1)
    rows = [table(torch.tensor(before)), average[None], table(torch.tensor(after))]
    hidden = torch.cat(rows)[None]
    positions = torch.arange(length)[None]
    if architecture == "gpt2":
        hidden = hidden + base.wpe(positions)
    for layer in range(output):
        extra = {}
        if hasattr(base, "rotary_emb"):
            kind = [config.layer_types[layer]] if architecture == "gemma3" else []
            extra["position_embeddings"] = base.rotary_emb(hidden, positions, *kind)
        unseen = ~visible(length, window_of(config, layer))
        mask = torch.zeros(length, length).masked_fill(unseen, -1e30)
        if start <= layer < leave:
            hidden = hidden.clone()
            hidden[0, place] = hidden[0, -1]
        hidden = lm.blocks[layer](hidden, attention_mask=mask[None, None], **extra)
    return hidden[0, -1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_prepending_is_a_plain_loop_over_blocks(architecture):
    lm = model(architecture)
    ended = [prepared(text) for text in AWKWARD]
    for settings in (
        {},
        {"start": 1, "exit": 4, "output": 4},
        {"start": 2, "exit": 3, "output": 2},
    ):
        method = build("token_prepending", lm, **settings)
        blocks = (method.start, method.exit, method.output)
        assert blocks == tuple(settings.values() or (1, 2, 3))
        with torch.no_grad():
            expected = [loop_with_placeholder(architecture, text, *blocks) for text in ended]
        close(embed(method, lm, AWKWARD), expected)


def test_token_prepending_text_preparation_and_placeholder():
    lm = model("llama")
    method = build("token_prepending", lm)
    texts = ["a", "a.", "a?", 'a"', "a'", "a!", "", 'say "no"?']
    tokenized = method.tokenize(lm, texts, method.document, 256)
    for text, prompted in zip(texts, tokenized, strict=True):
        ended = prepared(text)
        ids = list(prompted.ids)
        assert ids.pop(len("This sentence :")) == -1
        assert ids == ids_of(lm, f'This sentence : "{ended}" means in one word:"')
        assert "".join(lm.tokenizer.decode(prompted.ids[slice(*prompted.span)])) == ended
    (long,) = method.tokenize(lm, ["word " * 100], method.document, 64)
    assert (len(long.ids), long.truncated) == (64, True)


def deep(n_layers):
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": n_layers}
    config = tf.LlamaConfig(**{**SHAPE, **small})
    return LanguageModel.wrap(tf.LlamaForCausalLM(config), byte_tokenizer(), f"deep-{n_layers}")


def test_published_settings_scale_with_depth():
    blocks = {}
    for n_layers in (2, 12, 18, 30, 32):
        method = get_method("token_prepending").for_model(deep(n_layers))
        blocks[n_layers] = (method.start, method.exit, method.output)
    assert blocks == {2: (1, 2, 2), 12: (1, 3, 10), 18: (1, 4, 15), 30: (1, 7, 25), 32: (1, 7, 27)}
    with pytest.raises(InputError, match="needs 1 <= start < exit <= 1"):
        get_method("token_prepending").for_model(deep(1))


@pytest.mark.parametrize(
    ("name", "n_layers", "blocks"),
    [
        ("llama-2-7b", 32, (1, 7, 27)),
        ("llama-2-13b", 40, (1, 7, 39)),
        ("llama-3-8b", 32, (1, 3, 31)),
        ("qwen2-7b", 28, (1, 6, 27)),
        ("gemma-2-9b", 42, (1, 6, 41)),
    ],
)
def test_published_settings_are_exact_at_their_own_depth(name, n_layers, blocks):
    method = get_method("token_prepending", published=name).for_model(deep(n_layers))
    assert (method.start, method.exit, method.output) == blocks
    assert (method.readout, method.final_norm) == (blocks[2] - 1, False)
    begin = "T" if name == "llama-2-7b" else "After thinking step by step , t"
    assert method.document.render("x") == f'{begin}his sentence : "x" means in one word:"'
    own = get_method("token_prepending", published=name, document=PROMPTS["ke"])
    assert own.document == PROMPTS["ke"]


def test_output_and_readout_are_one_setting():
    lm = model("llama")
    by_output = build("token_prepending", lm, output=2)
    by_readout = build("token_prepending", lm, readout=1)
    assert by_output == by_readout
    with pytest.raises(InputError, match="takes `output` or `readout`, not both"):
        build("token_prepending", lm, readout=1, output=3)
