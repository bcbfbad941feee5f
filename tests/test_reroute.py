"""Re-routing against a brute-force oracle that shares no code with it, and the laws it has to keep."""

import copy
import functools
import importlib
import itertools
import math

import pytest
import torch
import transformers as tf
from conftest import CONFIGS, SHAPE, byte_tokenizer, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kvlens import InputError, LanguageModel
from kvlens.rerouting.prefix import SUPPORTED, reroute

WINDOW = 7
LENGTHS = (1, 2, 5, WINDOW, WINDOW + 1, 13, 26)
LAYERS = (
    0,
    2,
    3,
)  # gemma2: sliding, sliding, full; gemma3: sliding, full, sliding; block 1 stays plain
BIASES = (-2.0, 0.0, 1.0, 5.0)
POSITIONS = ("keep", "origin", "none")
_SMALL = {**SHAPE, "initializer_range": 0.2}
# What the matrix of conftest leaves out: scaled rotary tables, a soft cap that bites, windows elsewhere.
VARIANTS = {
    "llama-yarn": lambda: tf.LlamaConfig(
        **_SMALL,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "gemma2-tight": lambda: tf.Gemma2Config(
        **_SMALL, sliding_window=WINDOW, query_pre_attn_scalar=5, attn_logit_softcapping=1.5
    ),
    "gemma3-linear": lambda: tf.Gemma3TextConfig(
        **_SMALL,
        sliding_window=WINDOW,
        query_pre_attn_scalar=5,
        layer_types=[
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
        ],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e2},
            "full_attention": {"rope_type": "linear", "rope_theta": 1e5, "factor": 8.0},
        },
    ),
    "qwen2-window": lambda: tf.Qwen2Config(
        **_SMALL, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "gpt2-scaled": lambda: tf.GPT2Config(
        **{
            **CONFIGS["gpt2"]().to_dict(),
            "initializer_range": 0.2,
            "scale_attn_by_inverse_layer_idx": True,
        }
    ),
    "neox-sequential": lambda: tf.GPTNeoXConfig(
        **{k: v for k, v in _SMALL.items() if k not in ("num_key_value_heads", "head_dim")},
        rotary_pct=0.5,
        use_parallel_residual=False,
    ),
}
ARCHITECTURES = sorted(CONFIGS)


@functools.cache
def model(name: str) -> LanguageModel:
    """The model with both its module trees built."""
    if name in CONFIGS:
        lm = tiny(name)
    else:
        torch.manual_seed(0)
        how = {
            "attn_implementation": "eager" if name.startswith("gemma2") else "sdpa",
            "dtype": torch.float32,
        }
        hf = tf.AutoModelForCausalLM.from_config(VARIANTS[name](), **how)
        lm = LanguageModel.wrap(hf, byte_tokenizer(), name=f"tiny-{name}")
    assert len(lm.bridge.blocks) == lm.info.n_layers
    return lm


def sequences(lengths=LENGTHS, seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 300, (n,), generator=generator) for n in lengths]


def padded(rows, side, extra=0):
    """ids, mask, positions ``[batch, seq_len]`` and the slice of each row's real tokens; padding looks like text."""
    width = max(map(len, rows)) + extra
    ids, mask, where = (
        torch.full((len(rows), width), 42),
        torch.zeros((len(rows), width), dtype=torch.long),
        [],
    )
    for i, row in enumerate(rows):
        first = width - len(row) if side == "left" else 0
        where.append(slice(first, first + len(row)))
        ids[i, where[-1]], mask[i, where[-1]] = row, 1
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), where


# --- the oracle: one text, no padding, no mask, no kvlens ---


def heads(attention, states):
    """Queries, keys, values before rotation ``[heads, seq_len, d_head]``, by the module's own projections."""
    config, length = attention.config, len(states)
    n = config.num_attention_heads
    d = getattr(config, "head_dim", None) or config.hidden_size // n
    if hasattr(attention, "q_proj"):
        q, k, v = (getattr(attention, f"{x}_proj")(states).view(length, -1, d) for x in "qkv")
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm(q), attention.k_norm(k)
    elif hasattr(attention, "qkv_proj"):
        fused = attention.qkv_proj(states).view(length, -1, d)
        q, k, v = fused.split([n, (fused.shape[1] - n) // 2, (fused.shape[1] - n) // 2], dim=1)
    elif hasattr(attention, "c_attn"):
        q, k, v = (part.view(length, n, d) for part in attention.c_attn(states).chunk(3, dim=-1))
    else:
        q, k, v = attention.query_key_value(states).view(length, n, 3 * d).chunk(3, dim=-1)
    return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)


def output_of(attention):
    """The output projection."""
    return next(
        getattr(attention, name)
        for name in ("o_proj", "c_proj", "dense")
        if hasattr(attention, name)
    )


def rope(base, layer, states, positions):
    """`states` ``[heads, seq_len, d_head]`` rotated to `positions` by the model's own module and function."""
    if not hasattr(base, "rotary_emb"):
        return states
    kind = [base.config.layer_types[layer]] if base.config.model_type == "gemma3_text" else []
    cos, sin = base.rotary_emb(states, torch.as_tensor(positions)[None], *kind)
    apply = importlib.import_module(type(base).__module__).apply_rotary_pos_emb
    return apply(states[None], states[None], cos, sin)[1][0]


def scale_and_cap(config, layer):
    d = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scale = (getattr(config, "query_pre_attn_scalar", None) or d) ** -0.5
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return scale, getattr(config, "attn_logit_softcapping", None)


def window_of(config, layer):
    """How many tokens back a layer sees; None: all."""
    kinds = getattr(config, "layer_types", None)
    sliding = kinds[layer] == "sliding_attention" if kinds else config.model_type == "mistral"
    return config.sliding_window if sliding else None


def visible(length, window):
    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    return (j <= i) & (i - j < (window or length))


def logits_of(config, layer, q, k):
    """Scaled, soft-capped scores ``[heads, queries, keys]`` in float64; `k` has one head per query group."""
    scale, cap = scale_and_cap(config, layer)
    scores = q.double() @ k.double().repeat_interleave(len(q) // len(k), dim=0).mT * scale
    return scores if cap is None else cap * torch.tanh(scores / cap)


class BruteForce(torch.nn.Module):
    """Stands for one attention module: concatenate, add the bias, softmax in float64.

    prefix: (bias, position coding); start: position of the first token.
    """

    def __init__(self, attention, base, layer):
        super().__init__()
        self.attention, self.layer = attention, layer
        self.rope = functools.partial(rope, base, layer)
        self.prefix, self.start, self.pattern = None, 0, None

    def forward(self, hidden_states, **unused):
        config, (states,) = self.attention.config, hidden_states
        length = len(states)
        q, raw, v = heads(self.attention, states)
        positions = range(self.start, self.start + length)
        q, k = self.rope(q, positions), self.rope(raw, positions)
        scores = logits_of(config, self.layer, q, k).masked_fill(
            ~visible(length, window_of(config, self.layer)), -math.inf
        )
        if self.prefix is not None:
            bias, position = self.prefix
            last = {"keep": k[:, -1:], "origin": self.rope(raw[:, -1:], [0]), "none": raw[:, -1:]}[
                position
            ]
            scores = torch.cat([logits_of(config, self.layer, q, last) + bias, scores], dim=-1)
            v = torch.cat([v[:, -1:], v], dim=1)
        self.pattern = scores.softmax(-1)
        out = self.pattern @ v.double().repeat_interleave(len(q) // len(v), dim=0)
        project = next(
            getattr(self.attention, n)
            for n in ("o_proj", "c_proj", "dense")
            if hasattr(self.attention, n)
        )
        return project(out.float().transpose(0, 1).flatten(1))[None], None


@functools.cache
def reference(name):
    """A copy of the base model whose attention modules are all brute force; and those modules."""
    base = copy.deepcopy(model(name).base)
    blocks = next(child for child in base.children() if isinstance(child, torch.nn.ModuleList))
    found = []
    for layer, block in enumerate(blocks):
        attribute = next(n for n in ("self_attn", "attn", "attention") if hasattr(block, n))
        found.append(BruteForce(getattr(block, attribute), model(name).base, layer))
        setattr(block, attribute, found[-1])
    return base, found


def brute_force(name, row, biases, position="keep", start=0):
    """Final hidden states ``[seq_len, d]`` and patterns per layer of one text; biases: layer -> bias."""
    base, attention = reference(name)
    for layer, module in enumerate(attention):
        module.prefix, module.start = (biases[layer], position) if layer in biases else None, start
    positions = torch.arange(start, start + len(row))[None]
    with torch.no_grad():
        hidden = base(row[None], position_ids=positions, use_cache=False).last_hidden_state[0]
    return hidden, [module.pattern for module in attention]


def raw_hidden(lm, ids, mask, positions, **options):
    with torch.no_grad():
        return lm.base(
            ids, attention_mask=mask, position_ids=positions, **options
        ).last_hidden_state


def bridge_run(lm, ids, mask, names=()):
    """Final hidden states through the bridge, and what the named hooks saw."""
    seen = {}

    def keep(name):  # several names may mean one hook point
        return name, lambda x, hook: seen.__setitem__(name, x)

    with (
        torch.no_grad(),
        lm.bridge.hooks(fwd_hooks=[keep(name) for name in ("ln_final.hook_out", *names)]),
    ):
        lm.bridge(ids, attention_mask=mask)
    return seen.pop("ln_final.hook_out"), seen


def largest(found, expected, where):
    return max(float((found[i, where[i]] - row).abs().max()) for i, row in enumerate(expected))


# --- the proof ---


@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
def test_the_oracle_without_a_prefix_is_the_plain_model(name):
    for row in sequences():
        plain = raw_hidden(model(name), row[None], None, None)[0]
        torch.testing.assert_close(brute_force(name, row, {})[0], plain, rtol=0, atol=2e-5)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
def test_equal_to_brute_force(name, position):
    lm, rows = model(name), sequences()
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in LAYERS]
    for bias in BIASES if name in CONFIGS else BIASES[2:]:
        truth = [brute_force(name, row, dict.fromkeys(LAYERS, bias), position) for row in rows]
        batches = [(rows, truth, 0)] + [([rows[i]], [truth[i]], 3) for i in (0, -1)]
        for side, (some, expected, extra) in itertools.product(("left", "right"), batches):
            ids, mask, positions, where = padded(some, side, extra)
            hidden = [one[0] for one in expected]
            with reroute(lm, LAYERS, bias, position):
                assert largest(raw_hidden(lm, ids, mask, positions), hidden, where) < 1e-4
                found, patterns = bridge_run(lm, ids, mask, names)
            assert largest(found, hidden, where) < 1e-4
            for layer, name_of in zip(LAYERS, names, strict=True):
                pattern = patterns[name_of]
                assert pattern.shape == (len(some), 4, ids.shape[1], 1 + ids.shape[1])
                torch.testing.assert_close(
                    pattern.sum(-1), torch.ones(pattern.shape[:-1]), rtol=0, atol=1e-5
                )
                for i, span in enumerate(where):
                    real = pattern[i, :, span]
                    mine = torch.cat([real[..., :1], real[..., 1:][..., span]], dim=-1)
                    torch.testing.assert_close(
                        mine.double(), expected[i][1][layer], rtol=0, atol=2e-5
                    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_bias_per_layer(name):
    lm, rows = model(name), sequences()
    biases = {3: 5.0, 1: -1.0}
    ids, mask, positions, where = padded(rows, "left")
    truth = [brute_force(name, row, biases)[0] for row in rows]
    with reroute(lm, list(biases), list(biases.values())):
        assert largest(raw_hidden(lm, ids, mask, positions), truth, where) < 1e-4
        assert largest(bridge_run(lm, ids, mask)[0], truth, where) < 1e-4
    with reroute(lm, list(biases), [-1.0, 5.0]):  # the same two the other way round: another result
        assert largest(raw_hidden(lm, ids, mask, positions), truth, where) > 1e-2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_position_codings_differ_where_the_model_rotates(name):
    """So that the proof above cannot pass with the wrong one."""
    lm, (row,) = model(name), sequences([20])
    found = {}
    for position in POSITIONS:
        with reroute(lm, LAYERS, 1.0, position):
            found[position] = raw_hidden(lm, row[None], None, None)
    difference = float((found["keep"] - found["none"]).abs().max())
    assert difference == 0 if name == "gpt2" else difference > 1e-2
    torch.testing.assert_close(found["origin"], found["none"], rtol=0, atol=1e-5)


def test_origin_differs_from_none_where_the_tables_are_scaled():
    lm, (row,) = model("llama-yarn"), sequences([20])
    assert lm.base.rotary_emb.attention_scaling > 1.1
    found = {}
    for position in ("origin", "none"):
        with reroute(lm, LAYERS, 1.0, position):
            found[position] = raw_hidden(lm, row[None], None, None)
    assert float((found["origin"] - found["none"]).abs().max()) > 1e-2


def test_logits_through_the_object_itself():
    lm, rows = model("llama"), sequences()
    ids, mask, _, where = padded(rows, "left")
    with reroute(lm, LAYERS, 1.0):
        found = lm(ids, attention_mask=mask)
    for i, row in enumerate(rows):
        truth = lm.hf.lm_head(brute_force("llama", row, dict.fromkeys(LAYERS, 1.0))[0])
        torch.testing.assert_close(found[i, where[i]], truth, rtol=1e-4, atol=1e-4)


def test_half_precision_stays_half_and_close():
    lm, (row,) = tiny("llama"), sequences([26])
    expected = brute_force("llama", row, dict.fromkeys(LAYERS, 1.0), "origin")[0]
    lm.hf.to(torch.bfloat16)
    with reroute(lm, LAYERS, 1.0, "origin"):
        found = raw_hidden(lm, row[None], None, None)
    assert found.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(found[0].float(), expected, dim=-1).min() > 0.995


# --- laws ---


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_layers_is_the_plain_model_bit_for_bit(name):
    lm = model(name)
    ids, mask, positions, _ = padded(sequences(), "left")
    plain = raw_hidden(lm, ids, mask, positions), bridge_run(lm, ids, mask)[0], lm(ids, mask)
    with reroute(lm, []):
        again = raw_hidden(lm, ids, mask, positions), bridge_run(lm, ids, mask)[0], lm(ids, mask)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("bias", [-math.inf, -1e4])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_bias_of_minus_infinity_is_the_plain_model(name, bias):
    lm = model(name)
    for side in ("left", "right"):
        ids, mask, positions, where = padded(sequences(), side)
        raw, bridged = raw_hidden(lm, ids, mask, positions), bridge_run(lm, ids, mask)[0]
        with reroute(lm, range(4), bias):
            found = raw_hidden(lm, ids, mask, positions), bridge_run(lm, ids, mask)[0]
        assert all(
            torch.isfinite(hidden).all() for hidden in found
        )  # padding too: 0 times NaN is NaN
        for i, span in enumerate(where):
            torch.testing.assert_close(found[0][i, span], raw[i, span], rtol=0, atol=2e-5)
            torch.testing.assert_close(found[1][i, span], bridged[i, span], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_uptake_identity(name):
    """beta = sigmoid(s_last + b - lse) is the whole change of a layer, from what the bridge records."""
    lm, bias, layer = model(name), 0.7, 2
    config, point = lm.base.config, f"blocks.{layer}.attn."
    names = [point + f"hook_{n}" for n in ("q", "k", "v", "z", "pattern", "rot_q", "rot_k")]
    names = [name for name in names if name in lm.bridge.hook_dict or "rot" not in name]
    ids, mask, _, where = padded(sequences(), "right")
    with reroute(lm, [layer], bias):
        seen = {
            name.removeprefix(point + "hook_"): x
            for name, x in bridge_run(lm, ids, mask, names)[1].items()
        }
    for i, span in enumerate(where):
        q, k, v, z = (seen[name][i, span].transpose(0, 1) for name in "qkvz")
        pattern = seen["pattern"][i, :, span].double()
        if "rot_q" in seen:
            q, k = (seen[name][i, span].transpose(0, 1) for name in ("rot_q", "rot_k"))
        else:  # joint QKV has no such hook, and GPT-2 no rotation
            q, k = (rope(lm.base, layer, x, range(q.shape[1])) for x in (q, k))
        scores = logits_of(config, layer, q, k).masked_fill(
            ~visible(q.shape[1], window_of(config, layer)), -math.inf
        )
        prefix = logits_of(config, layer, q, k[:, -1:])[..., 0]
        beta = torch.sigmoid(prefix + bias - scores.logsumexp(-1))[..., None]
        causal, values = scores.softmax(-1), v.double().repeat_interleave(len(q) // len(v), dim=0)
        assert len(beta[0]) < 5 or beta.max() - beta.min() > 0.1
        torch.testing.assert_close(pattern[..., :1], beta, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            pattern[..., 1:][..., span], (1 - beta) * causal, rtol=0, atol=1e-5
        )
        out = (1 - beta) * (causal @ values) + beta * values[:, -1:]
        torch.testing.assert_close(z.double(), out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mask_edit_identity(name):
    """No prefix at all: b at (i, last) for i < last and log(1 + e^b) at (last, last) of the plain model's mask."""
    lm, bias = model(name), 1.3
    for side in ("left", "right"):
        ids, mask, positions, where = padded(sequences(), side)
        handles = []
        for layer in LAYERS:
            seen = visible(ids.shape[1], window_of(lm.base.config, layer)) & mask[:, None, :].bool()
            edited = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
            for i, span in enumerate(where):
                edited[i, : span.stop - 1, span.stop - 1] = bias
                edited[i, span.stop - 1, span.stop - 1] = math.log1p(math.exp(bias))

            def edit(module, args, kwargs, edited=edited):
                return args, {**kwargs, "attention_mask": edited[:, None]}

            raw = lm.attention_modules(layer)[0]
            handles.append(raw.register_forward_pre_hook(edit, with_kwargs=True))
        expected = raw_hidden(lm, ids, mask, positions)
        for handle in handles:
            handle.remove()
        with reroute(lm, LAYERS, bias):
            found = raw_hidden(lm, ids, mask, positions)
        assert largest(found, [expected[i, span] for i, span in enumerate(where)], where) < 1e-4


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from([*ARCHITECTURES, *VARIANTS]),
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    layers=st.sets(st.integers(0, 3), min_size=1),
    bias=st.floats(-8, 8),
    position=st.sampled_from(POSITIONS),
    side=st.sampled_from(["left", "right"]),
    seed=st.integers(0, 10**6),
)
def test_a_batch_of_one_equals_the_same_text_in_a_batch(
    name, lengths, layers, bias, position, side, seed
):
    lm, rows = model(name), sequences(lengths, seed)
    ids, mask, positions, where = padded(rows, side)
    with reroute(lm, sorted(layers), bias, position):
        many = raw_hidden(lm, ids, mask, positions)
        single = [raw_hidden(lm, row[None], None, None)[0] for row in rows]
    assert largest(many, single, where) < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_given_last_index(name):
    """It is what the mask says by default; an earlier one gives what the text cut there gives (causality)."""
    lm, rows = model(name), sequences(LENGTHS[2:])
    ids, mask, positions, where = padded(rows, "right")
    last = mask.sum(1) - 1
    with reroute(lm, LAYERS) as routing:
        derived = raw_hidden(lm, ids, mask, positions)
        routing.last = last
        assert torch.equal(raw_hidden(lm, ids, mask, positions), derived)
        unmasked = raw_hidden(
            lm, ids, None, positions
        )  # right padding is never seen by real tokens
        assert largest(unmasked, [derived[i, span] for i, span in enumerate(where)], where) < 1e-4
        routing.last = last - 2
        earlier = raw_hidden(lm, ids, mask, positions)
    for i, row in enumerate(rows):
        cut = brute_force(name, row[:-2], dict.fromkeys(LAYERS, 1.0))[0]
        torch.testing.assert_close(earlier[i, : len(cut)], cut, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_may_be_left_to_the_model(side):
    """Without position_ids transformers counts columns, padding too: the text alone at those positions."""
    lm, rows = model("llama"), sequences()
    ids, mask, _, where = padded(rows, side)
    for position in POSITIONS:
        with reroute(lm, LAYERS, 1.0, position):
            found = raw_hidden(lm, ids, mask, None)
        truth = [
            brute_force("llama", row, dict.fromkeys(LAYERS, 1.0), position, span.start)[0]
            for row, span in zip(rows, where, strict=True)
        ]
        assert largest(found, truth, where) < 1e-4


# --- nothing is left behind ---


def footprint(lm):
    """Hooks and attributes of every module of both trees (`_pattern`: where some bridges keep their last pattern)."""
    modules = [*lm.hf.modules(), *lm.bridge.modules()]
    attributes = [
        {name: id(value) for name, value in vars(m).items() if name != "_pattern"} for m in modules
    ]
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules], attributes


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_after_an_exception_the_model_is_as_before(name):
    lm = tiny(name)
    ids, mask, _, _ = padded(sequences(), "left")

    def both():
        with torch.no_grad():
            return lm(ids, mask), lm.bridge(ids, attention_mask=mask)

    plain = both()
    before = footprint(lm)

    def stop(module, args):
        raise Stop

    def inside():
        with reroute(lm, LAYERS):
            changed = both()
            assert not any(
                torch.allclose(a, b, atol=1e-2) for a, b in zip(plain, changed, strict=True)
            )
            raise Stop

    def mid_forward(module, run):
        handle = module.register_forward_pre_hook(stop)
        try:
            with reroute(lm, LAYERS):
                run()
        finally:
            handle.remove()

    with pytest.raises(Stop):
        inside()
    with pytest.raises(Stop):
        mid_forward(lm.blocks[2], lambda: lm(ids, mask))
    with pytest.raises(Stop):
        mid_forward(lm.bridge.blocks[2], lambda: lm.bridge(ids, attention_mask=mask))
    assert footprint(lm) == before
    assert all(torch.equal(a, b) for a, b in zip(plain, both(), strict=True))


@pytest.mark.parametrize("inner", [[1], [3], [2, 3]])
def test_nesting_is_refused_and_leaves_the_outer_one_alone(inner):
    lm, (row,) = tiny("llama"), sequences([12])
    plain = lm(row[None])
    with reroute(lm, [1, 2]):
        routed = lm(row[None])
        with pytest.raises(InputError, match="re-routed already"), reroute(lm, inner):
            pass
        assert torch.equal(lm(row[None]), routed)
    assert torch.equal(lm(row[None]), plain)


def test_a_bridge_first_built_inside_the_context_is_refused():
    """It would copy the hooks, and nothing would take them off again."""
    lm, clean, (row,) = tiny("llama"), tiny("llama"), sequences([12])
    with reroute(lm, LAYERS):
        routed = lm(row[None])
        with pytest.raises(InputError, match=r"use `lm.bridge` once before"):
            bridge_run(lm, row[None], None)
        assert torch.equal(lm(row[None]), routed)
    assert torch.equal(bridge_run(lm, row[None], None)[0], bridge_run(clean, row[None], None)[0])
    assert footprint(lm)[0] == footprint(clean)[0]


# --- refusals ---


def test_bad_requests_say_what_is_wrong():
    lm = tiny("llama")
    for layers, bias, position, message in (
        ([4], 1.0, "keep", r"layer 4 is outside tiny-llama, which has layers 0 to 3"),
        ([-1], 1.0, "keep", r"layer -1 is outside"),
        ([1, 1], 1.0, "keep", r"\[1, 1\] repeat one"),
        ([1, 2], [1.0], "keep", "1 biases for 2 layers"),
        ([1], math.nan, "keep", "bias"),
        ([1, 2], [1.0, math.nan], "keep", "bias"),
        ([1], math.inf, "keep", "bias"),
        ([1], 1.0, "middle", "unknown position coding 'middle': give keep, origin, none"),
    ):
        with pytest.raises(InputError, match=message) as error, reroute(lm, layers, bias, position):
            pass
        assert "\n" not in str(error.value)


def test_what_is_called_supported_is_what_is_proven_here():
    assert {model(name).hf.config.model_type for name in ARCHITECTURES} == set(SUPPORTED)


_OTHER = {"vocab_size": 300, "hidden_size": 16}
_SEES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (
            tf.OPTForCausalLM,
            tf.OPTConfig(**_OTHER, num_hidden_layers=2, num_attention_heads=2),
        ),
        (tf.BloomForCausalLM, tf.BloomConfig(**_OTHER, n_layer=2, n_head=2)),
        (
            tf.Gemma3ForConditionalGeneration,
            tf.Gemma3Config(text_config=_SMALL, vision_config=_SEES),
        ),
    ],
)
def test_an_unsupported_architecture_is_named_at_once(kind, config):
    lm = LanguageModel.wrap(kind(config), byte_tokenizer(), "other")
    for layers in ([0], []):
        message = f"not proven on {kind.__name__}; it works on llama, qwen2"
        with pytest.raises(InputError, match=message), reroute(lm, layers):
            pass


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_filled_cache_is_refused_and_an_empty_one_is_left_clean(name):
    lm, (row,) = model(name), sequences([12])
    with torch.no_grad(), reroute(lm, LAYERS):
        expected = raw_hidden(lm, row[None], None, None, use_cache=False)
        out = lm.base(row[None], use_cache=True)
        torch.testing.assert_close(out.last_hidden_state, expected, rtol=0, atol=1e-5)
        assert {layer.keys.shape[2] for layer in tf.DynamicCache(out.past_key_values).layers} <= {
            WINDOW - 1,
            12,
        }
        for step in (1, 12):
            with pytest.raises(InputError, match="not on a filled KV cache"):
                lm.base(
                    row[None, :step],
                    past_key_values=copy.deepcopy(out.past_key_values),
                    use_cache=True,
                )


def test_a_mask_of_four_dimensions_is_refused():
    lm, (row,) = model("llama"), sequences([5])
    with (
        reroute(lm, LAYERS),
        pytest.raises(InputError, match=r"attention_mask of \[batch, seq_len\]"),
    ):
        raw_hidden(lm, row[None], torch.zeros(1, 1, 5, 5), None)


# --- the fused kernel stays ---


class Watch(TorchDispatchMode):
    """Counts fused attention calls and notes tensors with storage for [batch, heads, seq_len, seq_len] floats."""

    def __init__(self, batch, n_heads, width):
        super().__init__()
        self.fused, self.dense, self.shape = 0, [], (batch, n_heads, width)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.fused += "_scaled_dot_product_flash_attention" in func.name()
        batch, n_heads, width = self.shape
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.ndim == 4:
                real = (
                    tensor.untyped_storage().nbytes()
                    >= batch * n_heads * width * width * tensor.itemsize
                )
                if real and tensor.shape[2] == width and tensor.shape[3] in (width, width + 1):
                    self.dense.append((func.name(), tuple(tensor.shape)))
        return result


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_fused_kernel_stays_and_no_weights_are_made(name, side):
    lm, width = tiny(name), 41
    ids, mask, positions, _ = padded(sequences([width, 30, 9]), side)
    with reroute(lm, LAYERS), Watch(3, 4, width) as watch:
        raw_hidden(lm, ids, mask, positions)
    assert watch.fused == 4  # every layer, re-routed or not
    assert watch.dense == []
    # The same eye sees the weights of eager attention, so it is not blind.
    lm.hf.set_attn_implementation("eager")
    with reroute(lm, LAYERS), Watch(3, 4, width) as watch:
        raw_hidden(lm, ids, mask, positions)
    assert watch.fused == 0
    assert {shape for _, shape in watch.dense} == {(3, 4, width, width), (3, 4, width, width + 1)}
