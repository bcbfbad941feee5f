"""The probe: it passes what is exact, and finds what is seeded wrong."""

import contextlib

import pytest
import torch
import transformers as tf
from zoo import CONFIGS, SHAPE, byte_tokenizer, tiny

import kvlens
from kvlens import InputError, LanguageModel
from kvlens.rerouting import prefix, probe
from kvlens.rerouting.proof import TOLERANCE, proof_of


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path / "cache"))


def with_sinks(seed=0):
    torch.manual_seed(seed)
    config = tf.GptOssConfig(
        **SHAPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=7, rope_parameters=None
    )
    config.initializer_range = 0.2
    hf = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for block in hf.model.layers:
        block.self_attn.sinks.data.normal_(0, 2)
    return LanguageModel.wrap(hf.float(), byte_tokenizer(), name="tiny-gpt-oss")


@pytest.mark.parametrize("position", ["keep", "origin", "none"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_both_trees_of_the_zoo_pass(name, position):
    lm = tiny(name)
    for tree in ("raw", "bridge"):
        proof = proof_of(lm, position, tree)
        assert proof.passed
        assert proof.layers == tuple(range(lm.info.n_layers))
        assert max(proof.differences) < TOLERANCE / 10


def last_of_right_padding(monkeypatch):
    """The final token as if padding were always on the right."""

    def last_real(mask, batch, seq_len):
        return mask.long().sum(1) - 1 if mask is not None else torch.full((batch,), seq_len - 1)

    monkeypatch.setattr("kvlens.rerouting.pass_tokens._last_real", last_real)


def no_bias(monkeypatch):
    columns = prefix.with_prefix_columns
    monkeypatch.setattr(
        prefix, "with_prefix_columns", lambda mask, bias, *others: columns(mask, 0.0, *others)
    )


def next_layer(monkeypatch):
    attention = LanguageModel.attention

    def off_by_one(self, layer, tree="raw"):
        return attention(self, (layer + 1) % self.info.n_layers, tree)

    @contextlib.contextmanager
    def rerouted(lm, route, trees):
        monkeypatch.setattr(LanguageModel, "attention", off_by_one)
        with prefix.rerouted(lm, route, trees) as rerouting:
            monkeypatch.setattr(LanguageModel, "attention", attention)
            yield rerouting

    monkeypatch.setattr("kvlens.rerouting.probe.rerouted", rerouted)


def no_sink(monkeypatch):
    """The attention function forgets the sink where it meets a prefix."""
    module = tf.models.gpt_oss.modeling_gpt_oss
    eager = module.eager_attention_forward

    def forgetting(attention, query, key, value, mask, **options):
        if key.shape[2] == query.shape[2]:
            return eager(attention, query, key, value, mask, **options)
        sinks = attention.sinks.data.clone()
        attention.sinks.data.fill_(-1e4)
        try:
            return eager(attention, query, key, value, mask, **options)
        finally:
            attention.sinks.data.copy_(sinks)

    monkeypatch.setattr(module, "eager_attention_forward", forgetting)


def rotated_twice(monkeypatch):
    prefix_of = prefix.Rerouting.prefix_of

    def twice(self, keys, values, layer, call):
        key, value = prefix_of(self, keys, values, layer, call)
        cos, sin = call.of_tokens(self.tokens.last).tables
        first, second = key.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return key * cos[:, None] + turned * sin[:, None], value

    monkeypatch.setattr(prefix.Rerouting, "prefix_of", twice)


def hidden_by_a_window(monkeypatch):
    """Queries see no further back than the window, the prefix included."""
    columns = prefix.with_prefix_columns

    def windowed(mask, bias, states, seen=None, there=None):
        masked = columns(mask, bias, states, seen, there)
        if mask is not None and (mask[0, 0, -1] < 0).any():
            far = mask[..., :1] < 0
            masked[..., :1] = masked[..., :1].masked_fill(far, torch.finfo(masked.dtype).min)
        return masked

    monkeypatch.setattr(prefix, "with_prefix_columns", windowed)


FAULTS = {
    "last": ("llama", last_of_right_padding),
    "bias": ("llama", no_bias),
    "layer": ("llama", next_layer),
    "sink": ("gpt_oss", no_sink),
    "rotation": ("llama", rotated_twice),
    "window": ("gemma2", hidden_by_a_window),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_found(fault, monkeypatch):
    name, seed_fault = FAULTS[fault]
    lm = with_sinks() if name == "gpt_oss" else tiny(name)
    assert proof_of(lm).passed
    seed_fault(monkeypatch)
    monkeypatch.setenv("KVLENS_CACHE", "/dev/null/nowhere")
    lm = with_sinks() if name == "gpt_oss" else tiny(name)
    proof = proof_of(lm)
    assert not proof.passed
    assert max(proof.differences, default=1.0) > 100 * TOLERANCE
    with pytest.raises(InputError, match=r"re-routing \(keep\) is not exact on") as error:
        kvlens.reroute(lm, [1, 2]).__enter__()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_fault_of_one_layer_refuses_that_layer_alone(monkeypatch):
    lm = tiny("llama")
    prefix_of = prefix.Rerouting.prefix_of

    def wrong_in_two(self, keys, values, layer, call):
        key, value = prefix_of(self, keys, values, layer, call)
        return key, value * 1.1 if layer == 2 else value

    monkeypatch.setattr(prefix.Rerouting, "prefix_of", wrong_in_two)
    with kvlens.reroute(lm, [0, 1, 3]):
        pass
    with pytest.raises(InputError, match=r"layer 2 is off by .* of 1e-05 allowed"):
        kvlens.reroute(lm, [1, 2]).__enter__()


def test_half_precision_has_its_own_tolerance():
    torch.manual_seed(0)
    config = CONFIGS["llama"]()
    config.initializer_range = 0.2
    hf = tf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    lm = LanguageModel.wrap(hf, byte_tokenizer(), name="half")
    for position in ("keep", "origin"):
        proof = proof_of(lm, position)
        assert proof.passed
        assert proof.tolerance == 5e-2
        assert max(proof.differences) > TOLERANCE


def test_the_verdict_is_remembered_by_what_it_depends_on(tmp_path, monkeypatch):
    proof = proof_of(tiny("llama"))
    (file,) = (tmp_path / "cache" / "proofs").iterdir()
    monkeypatch.setattr("kvlens.rerouting.proof.probe", None)  # it is not run again
    assert proof_of(tiny("llama")) == proof
    other = proof_of(tiny("llama", seed=1))
    assert "not callable" in other.problem  # other weights: it would be
    file.write_text("{}")
    assert "not callable" in proof_of(tiny("llama")).problem


def test_the_bridge_is_not_built_for_its_sake():
    lm = tiny("llama")
    with kvlens.reroute(lm, [1]):
        assert not lm.has_bridge


def test_a_bridge_that_is_not_exact_is_refused_alone(monkeypatch):
    lm = tiny("llama")
    bridge = lm.bridge
    run_tree = probe.run_tree

    def run(lm, tree, *case):
        assert tree == "raw", "the bridge does not run"
        run_tree(lm, tree, *case)

    monkeypatch.setattr(probe, "run_tree", run)
    ids = torch.tensor([[5, 6, 7]])
    with kvlens.reroute(lm, [1]):
        lm(ids)
        with pytest.raises(InputError, match="not exact on LlamaForCausalLM in TransformerLens"):
            bridge(ids)


def test_alibi_is_refused_in_one_line():
    torch.manual_seed(0)
    config = tf.BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2)
    lm = LanguageModel.wrap(tf.BloomForCausalLM(config), byte_tokenizer(), name="other")
    for position in ("keep", "origin"):
        with pytest.raises(InputError, match=r"not exact on BloomForCausalLM: .*ALiBi") as error:
            kvlens.reroute(lm, [0], position=position).__enter__()
        assert "\n" not in str(error.value)
