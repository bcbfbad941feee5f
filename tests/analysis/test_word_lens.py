"""The word lens against raw transformers, and against counts made by hand."""

import numpy as np
import pytest
import torch
from families import family
from zoo import TEXTS

import kvlens
from kvlens.analysis.head_writes import head_writes
from kvlens.analysis.own_words import OwnWords, Words
from kvlens.analysis.vocabulary import Vocabulary
from kvlens.analysis.word_lens import WordLens
from kvlens.analysis.word_reading import word_lens
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.tokens import tokenize

# Grouped, multi-query, biases, Conv1D, soft cap, scaled logits, norms behind W_O, parallel blocks,
# latent values, a head with a bias.
READ = (
    "llama",
    "qwen2",
    "gpt2",
    "gemma2",
    "gemma3",
    "neox",
    "gptj",
    "gpt_bigcode",
    "phi",
    "granite",
    "cohere",
    "olmo2",
    "opt",
    "deepseek_v3",
    "gemma4",
)
IDS = [5, 9, 30, 17, 9]
SENTENCES = [f"{a} sees the {b}" for a in "abcd" for b in ("Cat", "dog", "cow")]


def model(name, zoo):
    return zoo(name) if name == "neox" else family(name)


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5 * float(b.abs().max()), rtol=0)


@pytest.mark.parametrize("name", READ)
def test_the_last_state_gives_the_logits_of_the_model(name, zoo):
    lm = model(name, zoo)
    ends = []
    handle = lm.blocks[-1].register_forward_hook(
        lambda module, args, output: ends.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        logits = lm.hf(torch.tensor([IDS]), use_cache=False).logits[0]
    handle.remove()
    vocabulary = Vocabulary.of(lm)
    close(vocabulary.logits(vocabulary.normed(ends[0][0])), logits)
    with torch.no_grad():  # nothing is left behind
        assert torch.equal(lm.hf(torch.tensor([IDS]), use_cache=False).logits[0], logits)


@pytest.mark.parametrize("name", READ)
def test_heads_and_bias_sum_to_what_a_lone_token_gets(name, zoo):
    """A text of one token attends to itself alone."""
    lm = model(name, zoo)
    raw = PROMPTS["raw"]
    trace = kvlens.record(lm, ["x"], raw, keep=("v",))
    token = tokenize(lm.tokenizer, ["x"], raw, 9)[0].ids
    assert len(token) == 1
    writes = head_writes(lm)
    assert tuple(writes) == trace.key_layers
    given, made = {}, {}
    handles = []
    for layer, way in writes.items():
        note = note_in(made, given, layer)
        handles.append(way.projection.register_forward_hook(note))
    with torch.no_grad():
        lm.hf(torch.tensor([token]), use_cache=False)
    for handle in handles:
        handle.remove()
    for layer, way in writes.items():
        values = torch.from_numpy(trace.states(layer, "v"))
        values = values.unflatten(1, (trace.heads(layer, "v"), -1))
        bias = getattr(way.projection, "bias", None)
        bias = 0 if bias is None else bias.detach()
        heads = way.heads(values)
        assert heads.shape == (1, way.n_heads, lm.info.d_model)
        close(heads.sum(1)[0] + bias, made[layer])
        close(way.summed(values)[0] + bias, made[layer])


def note_in(made, given, layer):
    def note(module, args, output):
        given[layer], made[layer] = args[0], output.flatten()

    return note


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "olmo2", "neox"])
def test_what_is_added_is_what_the_residual_stream_gains(name, zoo):
    """What the block's attention adds, seen from outside: the MLP's input less the block's."""
    lm = model(name, zoo)
    layer = 1
    trace = kvlens.record(lm, ["x"], PROMPTS["raw"], keep=("v",))
    way = head_writes(lm)[layer]
    values = torch.from_numpy(trace.states(layer, "v")).unflatten(1, (trace.heads(layer, "v"), -1))
    bias = getattr(way.projection, "bias", None)
    bias = 0 if bias is None else bias.detach()
    added = way.added(way.summed(values) + bias)[0]
    block = lm.blocks[layer]
    seen = {}
    handles = [
        block.register_forward_pre_hook(lambda m, a: seen.update(before=a[0])),
        block.register_forward_hook(
            lambda m, a, o: seen.update(after=o[0] if isinstance(o, tuple) else o)
        ),
    ]
    handles += [
        child.register_forward_hook(lambda m, a, o, name=name: seen.update({name: o}))
        for name, child in block.named_children()
    ]
    ids = tokenize(lm.tokenizer, ["x"], PROMPTS["raw"], 9)[0].ids
    with torch.no_grad():
        lm.hf(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    last = "post_feedforward_layernorm" if "post_feedforward_layernorm" in seen else "mlp"
    close(added, (seen["after"] - seen["before"] - seen[last])[0, 0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bitnet", "layers 0-3 of tiny-bitnet: no output projection takes the heads' values"),
        ("qwen3_next", "layers 0, 2 of tiny-qwen3_next: no output projection"),
    ],
)
def test_values_that_are_normed_or_gated_first_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        head_writes(family(name))


def test_a_sink_leaves_the_writes_readable():
    writes = head_writes(family("gpt_oss"))
    assert tuple(writes) == (0, 1, 2, 3)


@pytest.fixture(scope="module")
def read(zoo):
    lm = zoo("llama")
    embeddings = kvlens.Encoder(lm, "kv_embedding", [2]).encode(SENTENCES)
    return lm, embeddings, word_lens(lm, SENTENCES, embeddings, top=7, shown=3)


def test_shares_are_those_of_a_count_by_hand(read):
    """The residual stream after the last block: the model's own next-token logits say its words."""
    lm, _, lens = read
    prompt = lens.prompt
    tokenized = tokenize(lm.tokenizer, SENTENCES, prompt, 200)
    with torch.no_grad():
        rows = [lm.hf(torch.tensor([text.ids])).logits[0, -1] for text in tokenized]
    said = [[lm.tokenizer.decode([i]) for i in row.topk(7).indices] for row in rows]
    own = np.zeros((12, 12))
    for i, tokens in enumerate(said):
        for j, sentence in enumerate(SENTENCES):
            letters = set(sentence.lower()) - {" "}
            own[i, j] = np.mean([t.strip().lower() in letters for t in tokens])
    (share,) = (each for each in lens.shares_of("hidden") if each.layer == 3)
    assert share.own == pytest.approx(own.diagonal().mean())
    other = (own.sum(1) - own.diagonal()) / 11
    assert share.other == pytest.approx(other.mean())
    assert share.gain_sd == pytest.approx((own.diagonal() - other).std(ddof=1))
    assert lens.half_interval(share) == pytest.approx(1.96 * share.gain_sd / 12**0.5)
    for text in range(3):
        (words,) = (each for each in lens.words_of(text, "hidden") if each.layer == 3)
        readable = [
            (mine, raw) for mine, raw in zip(words.tokens, said[text], strict=True) if raw > ""
        ]
        assert all(mine == raw or raw == "\ufffd" for mine, raw in readable)
        weights = rows[text].softmax(0).topk(7).values
        np.testing.assert_allclose(words.weights, weights, atol=1e-5)


def test_every_place_is_read(read, tmp_path):
    lm, embeddings, lens = read
    assert [each.layer for each in lens.shares_of("hidden", centred=True)] == [0, 1, 2, 3]
    assert [each.layer for each in lens.shares_of("v")] == [0, 1, 2, 3]
    # The prompt ends every text in one token.
    assert lens.skipped == ("values of layer 0, centred: they are the same for every text",)
    assert [each.layer for each in lens.shares_of("v", True, head=3)] == [1, 2, 3]
    assert len(lens.shares_of("embedding")) == len(lens.words_of(2, "embedding", True)) == 1
    assert lens.shown == tuple(SENTENCES[:3])
    assert WordLens.load(lens.save(tmp_path / "word_lens.json")) == lens
    assert kvlens.open(tmp_path / "word_lens.json") == lens
    assert "difference" in str(lens)
    assert "<b>word lens: tiny-llama" in lens._repr_html_()
    # An embedding's length does not count, and it has been through the final norm.
    again = word_lens(lm, SENTENCES, 100 * np.asarray(embeddings), top=7, shown=3, heads=False)
    assert again.words_of(0, "embedding")[0].tokens == lens.words_of(0, "embedding")[0].tokens
    last = kvlens.Encoder(lm, kvlens.Method(document=lens.prompt)).encode(SENTENCES)
    same = word_lens(lm, SENTENCES, last, heads=False)
    (said,) = same.words_of(1, "embedding")
    assert said.tokens == same.words_of(1, "hidden")[-1].tokens
    np.testing.assert_allclose(said.weights, same.words_of(1, "hidden")[-1].weights, atol=1e-5)


def test_one_text_has_no_baseline(read):
    lm, _, _ = read
    lens = word_lens(lm, ["a sees the dog"])
    assert {(each.other, each.gain_sd, each.own_sd) for each in lens.shares} == {(None, None, 0)}
    assert lens.half_interval(lens.shares[0]) is None
    assert {each.head for each in lens.shares_of("v", head=2)} == {2}


def test_own_words_ignore_case_and_space_and_no_words():
    lm = family("llama")
    texts = tokenize(lm.tokenizer, ["Ab, <bos>", "ba", TEXTS[4]], PROMPTS["raw"], 99)
    words = Words(lm.tokenizer)
    own = OwnWords(words, texts)
    ids = {letter: lm.tokenizer.encode(letter)[0] for letter in "aAB,1 "}
    tokens = np.array([[ids[letter] for letter in "aAB, "]] * 3)
    assert own.own(tokens).tolist() == [
        [True, True, True, False, False],
        [True, True, True, False, False],
        [False, False, True, False, False],
    ]
    np.testing.assert_allclose(own.others(tokens)[0], [0.5, 0.5, 1, 0, 0])
    assert words.word(1) == ""  # a special token is no word
    assert words.string(299) == "[299]"  # nor is one that the tokenizer does not know
    assert words.string(ids[" "]) == " "


def test_bad_input_is_refused(read):
    lm, embeddings, _ = read
    for change, message in (
        ({"embeddings": embeddings[:-1]}, r"`embeddings` are \[11, 32\], not \[12, 32\]"),
        ({"embeddings": embeddings[:, :8]}, "as wide as the model"),
        ({"embeddings": np.asarray(embeddings) * np.nan}, "NaN or infinity in 12 of 12 rows"),
        ({"top": 301}, "`top` is 301, tiny-llama has 300 tokens"),
        ({"max_length": 0}, "max_length"),
    ):
        with pytest.raises(InputError, match=message):
            word_lens(lm, SENTENCES, **change)


@pytest.mark.real
def test_smollm_exactly(smollm):
    text = "The heart stops."
    raw = PROMPTS["raw"]
    trace = kvlens.record(smollm, [text], raw, keep=("hidden",))
    ids = torch.tensor([tokenize(smollm.tokenizer, [text], raw, 99)[0].ids])
    vocabulary = Vocabulary.of(smollm)
    last = vocabulary.normed(torch.from_numpy(trace.states(29)))
    close(vocabulary.logits(last)[0], smollm(ids)[0, -1])
    ids = tokenize(smollm.tokenizer, ["x"], raw, 9)[0].ids
    values = kvlens.record(smollm, ["x"], raw, keep=("v",)).states(23, "v")
    outputs = []
    handle = smollm.attention(23).register_forward_hook(lambda m, a, o: outputs.append(o[0]))
    with torch.no_grad():
        smollm.hf(torch.tensor([ids]), use_cache=False)
    handle.remove()
    heads = head_writes(smollm)[23].heads(torch.from_numpy(values).unflatten(1, (3, 64)))
    close(heads.sum(1)[0], outputs[0][0, -1])
