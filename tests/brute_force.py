"""Re-routing by brute force: an oracle for one text, without padding, masks and kvlens.

And the models and padded rows that it is compared on.
"""

import copy
import functools
import importlib
import math

import torch
import transformers as tf
from zoo import CONFIGS, SHAPE, byte_tokenizer, tiny

from kvlens import LanguageModel

WINDOW = 7
LENGTHS = (1, 2, 5, WINDOW, WINDOW + 1, 13, 26)
# gemma2: sliding, sliding, full; gemma3: sliding, full, sliding; block 1 stays plain.
LAYERS = (0, 2, 3)
BIASES = (-2.0, 0.0, 1.0, 5.0)
POSITIONS = ("keep", "origin", "none")
SMALL = {**SHAPE, "initializer_range": 0.2}
# What the matrix of the zoo leaves out: scaled rotary tables, a soft cap that bites, windows
# elsewhere.
VARIANTS = {
    "llama-yarn": lambda: tf.LlamaConfig(
        **SMALL,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "gemma2-tight": lambda: tf.Gemma2Config(
        **SMALL, sliding_window=WINDOW, query_pre_attn_scalar=5, attn_logit_softcapping=1.5
    ),
    "gemma3-linear": lambda: tf.Gemma3TextConfig(
        **SMALL,
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
        **SMALL, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "gpt2-scaled": lambda: tf.GPT2Config(
        **{
            **CONFIGS["gpt2"]().to_dict(),
            "initializer_range": 0.2,
            "scale_attn_by_inverse_layer_idx": True,
        }
    ),
    "neox-sequential": lambda: tf.GPTNeoXConfig(
        **{k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")},
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
        kernel = "eager" if name.startswith("gemma2") else "sdpa"
        hf = tf.AutoModelForCausalLM.from_config(
            VARIANTS[name](), attn_implementation=kernel, dtype=torch.float32
        )
        lm = LanguageModel.wrap(hf, byte_tokenizer(), name=f"tiny-{name}")
    assert len(lm.bridge.blocks) == lm.info.n_layers
    return lm


def sequences(lengths=LENGTHS, seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 300, (n,), generator=generator) for n in lengths]


def padded(rows, side, extra=0):
    """ids, mask, positions ``[batch, seq_len]`` and the slice of each row's real tokens.

    Padding looks like text.
    """
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), 42)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    spans = []
    for i, row in enumerate(rows):
        first = width - len(row) if side == "left" else 0
        span = slice(first, first + len(row))
        ids[i, span] = row
        mask[i, span] = 1
        spans.append(span)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return ids, mask, positions, spans


def heads(attention, states):
    """Queries, keys, values before rotation ``[heads, seq_len, d_head]``.

    By the module's own projections.
    """
    config = attention.config
    length = len(states)
    n = config.num_attention_heads
    d = getattr(config, "head_dim", None) or config.hidden_size // n
    if hasattr(attention, "q_proj"):
        q, k, v = (getattr(attention, f"{x}_proj")(states).view(length, -1, d) for x in "qkv")
        if hasattr(attention, "q_norm"):
            q = attention.q_norm(q)
            k = attention.k_norm(k)
    elif hasattr(attention, "qkv_proj"):
        fused = attention.qkv_proj(states).view(length, -1, d)
        n_kv = (fused.shape[1] - n) // 2
        q, k, v = fused.split([n, n_kv, n_kv], dim=1)
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
    """`states` ``[heads, seq_len, d_head]`` rotated to `positions`.

    By the model's own module and function.
    """
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
    """Whether a query (row) sees a key (column)."""
    query = torch.arange(length)[:, None]
    key = torch.arange(length)[None, :]
    return (key <= query) & (query - key < (window or length))


def logits_of(config, layer, q, k):
    """Scaled, soft-capped scores ``[heads, queries, keys]`` in float64.

    `k` has one head per query group.
    """
    scale, cap = scale_and_cap(config, layer)
    scores = q.double() @ k.double().repeat_interleave(len(q) // len(k), dim=0).mT * scale
    return scores if cap is None else cap * torch.tanh(scores / cap)


class BruteForce(torch.nn.Module):
    """Stands for one attention module: concatenate, add the bias, softmax in float64.

    prefix: (bias, position coding); start: position of the first token.
    """

    def __init__(self, attention, base, layer):
        super().__init__()
        self.attention = attention
        self.layer = layer
        self.rope = functools.partial(rope, base, layer)
        self.prefix = None
        self.start = 0
        self.pattern = None

    def forward(self, hidden_states, **unused):
        config = self.attention.config
        (states,) = hidden_states
        length = len(states)
        q, raw, v = heads(self.attention, states)
        positions = range(self.start, self.start + length)
        q = self.rope(q, positions)
        k = self.rope(raw, positions)
        scores = logits_of(config, self.layer, q, k).masked_fill(
            ~visible(length, window_of(config, self.layer)), -math.inf
        )
        if self.prefix is not None:
            bias, position = self.prefix
            last = raw[:, -1:]
            coded = {"keep": k[:, -1:], "origin": self.rope(last, [0]), "none": last}
            last = coded[position]
            scores = torch.cat([logits_of(config, self.layer, q, last) + bias, scores], dim=-1)
            v = torch.cat([v[:, -1:], v], dim=1)
        self.pattern = scores.softmax(-1)
        out = self.pattern @ v.double().repeat_interleave(len(q) // len(v), dim=0)
        project = output_of(self.attention)
        return project(out.float().transpose(0, 1).flatten(1))[None], None


@functools.cache
def reference(name):
    """A copy of the base model whose attention modules are all brute force; and those modules."""
    base = copy.deepcopy(model(name).base)
    blocks = next(child for child in base.children() if isinstance(child, torch.nn.ModuleList))
    modules = []
    for layer, block in enumerate(blocks):
        attribute = next(n for n in ("self_attn", "attn", "attention") if hasattr(block, n))
        module = BruteForce(getattr(block, attribute), model(name).base, layer)
        setattr(block, attribute, module)
        modules.append(module)
    return base, modules


def brute_force(name, row, biases, position="keep", start=0):
    """Final hidden states ``[seq_len, d]`` and patterns per layer of one text.

    biases: layer -> bias; start: position of the first token.
    """
    base, attention = reference(name)
    for layer, module in enumerate(attention):
        module.prefix = (biases[layer], position) if layer in biases else None
        module.start = start
    positions = torch.arange(start, start + len(row))[None]
    with torch.no_grad():
        hidden = base(row[None], position_ids=positions, use_cache=False).last_hidden_state[0]
    return hidden, [module.pattern for module in attention]


def raw_hidden(lm, ids, mask, positions, **options):
    """Final hidden states of the raw model."""
    options = {"attention_mask": mask, "position_ids": positions, **options}
    with torch.no_grad():
        return lm.base(ids, **options).last_hidden_state


def bridge_run(lm, ids, mask, names=()):
    """Final hidden states through the bridge, and what the named hooks saw."""
    seen = {}

    def keep(name):  # several names may mean one hook point
        return name, lambda x, hook: seen.__setitem__(name, x)

    hooks = [keep(name) for name in ("ln_final.hook_out", *names)]
    with torch.no_grad(), lm.bridge.hooks(fwd_hooks=hooks):
        lm.bridge(ids, attention_mask=mask)
    return seen.pop("ln_final.hook_out"), seen


def largest(states, expected, spans):
    """The largest difference on real tokens."""
    rows = zip(states, expected, spans, strict=True)
    return max(float((row[span] - truth).abs().max()) for row, truth, span in rows)


class Stop(Exception):
    """Raised in the middle of a forward pass."""
