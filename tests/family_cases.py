"""Which families re-route, which record, which are refused and why; and what they read."""

import functools

import torch
from families import NAMES
from family_oracle import oracle

import kvlens
from kvlens.texts.batches import position_ids

LENGTHS = (26, 1, 13, 5, 9)
BIASES = (1.0, -2.0)
TOLERANCE = 1e-5  # of the largest magnitude

NO_ATTENTION = "a model without attention"
NO_CACHE = "put no keys and values into a KV cache as kvlens knows it"
ITS_CACHE = "asks a KV cache for more than keys and values"
ALIBI = r"biased by distance \(ALiBi\)"
NO_LAYER = "those that can: no layers"
OFF = r"layer \d+ is off by"
# What cannot be read at all: what the refusal says.
UNREAD = {
    "falcon_mamba": NO_ATTENTION,
    "mamba": NO_ATTENTION,
    "mamba2": NO_ATTENTION,
    "rwkv": NO_ATTENTION,
    "xlstm": NO_ATTENTION,
    "ctrl": NO_CACHE,
    "openai-gpt": NO_CACHE,
    "cpmant": "does not run on 4 tokens of text",
    "deepseek_v4": "rotary tables of another form",
    "hrm_text": "does not run on 4 tokens of text",
    "longcat_flash": "block 0 has 2 attention modules",
    "paligemma": "a token sees those after it",
}
# What is read, and not re-routed: what the refusal says.
KEPT_OUT = {
    "axk2": ITS_CACHE,
    "deepseek_v32": ITS_CACHE,
    "dots3_note_text": ITS_CACHE,
    "glm_moe_dsa": ITS_CACHE,
    "hy_v4": ITS_CACHE,
    "minimax_m3_vl_text": ITS_CACHE,
    "bloom": ALIBI,
    "mpt": ALIBI,
    "inkling2_text": NO_LAYER,
    "inkling_text": NO_LAYER,
    "qwen4_exp_text": NO_LAYER,
    "zaya": NO_LAYER,
    "codegen": OFF,
    "doge": OFF,
    "gpt_neo": OFF,
}
# What brute force does not state, and why.
NO_ORACLE = {
    "cpmant": "learned prompts stand before the text",
    "deepseek_v4": "keys are compressed",
    "hrm_text": "its blocks run several times",
    "inkling2_text": "no float64",
    "inkling_text": "positions are a bias that depends on the query",
    "minimax_m3_vl_text": "sparse attention of its own",
    "paligemma": "it reads the text in both directions",
}
# On the left padding changes the plain model: chunks count it, recurrent states read it.
SEES_PADDING = ("llama4", "llama4_text", "recurrent_gemma")
# Several streams of hidden states, which are neither recorded nor written to; keys and values are.
STREAMS = ("gemma3n_text", "hy_v4", "qwen4_exp_text")
# Read, and not recorded: what the refusal says.
NOT_RECORDED = {
    **dict.fromkeys(STREAMS, r"gives states \["),
    "mllama": "does not run on text alone",
}
READ = [name for name in NAMES if name not in UNREAD]
REROUTED = [name for name in READ if name not in KEPT_OUT]
RECORDED = [name for name in READ if name not in NOT_RECORDED]
KEYS_AND_VALUES = ("k", "k_pre", "v")


def sides_of(name: str) -> tuple[str, ...]:
    """The sides of padding under which the plain model is the same."""
    return ("right",) if name in SEES_PADDING else ("right", "left")


def inputs_of(name: str) -> list[tuple[str, bool]]:
    """Sides of padding, and whether a mask tells of it: without one a prefix may be merged."""
    return [*((side, True) for side in sides_of(name)), ("right", False)]


def layers_of(lm: kvlens.LanguageModel) -> list[int]:
    """The layers that can be re-routed."""
    return list(lm.info.layers_to_reroute())


@functools.cache
def rows():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 300, (length,), generator=generator) for length in LENGTHS]


def padded(texts, side):
    """Ids, mask, positions, and where each text stands in its row."""
    width = max(map(len, texts))
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    spans = []
    for row, text in enumerate(texts):
        start = width - len(text) if side == "left" else 0
        spans.append(slice(start, start + len(text)))
        ids[row, spans[row]] = text
        mask[row, spans[row]] = 1
    return ids, mask, position_ids(mask), spans


def states_of(lm, texts, side, rerouting=None, masked=True):
    """The final hidden states of each text in one padded batch."""
    ids, mask, positions, spans = padded(texts, side)
    if rerouting is not None:
        rerouting.last = torch.tensor([span.stop - 1 for span in spans])
    with torch.no_grad():
        output = lm.base(
            ids,
            attention_mask=mask if masked else None,
            position_ids=positions,
            use_cache=False,
        )
    return [output.last_hidden_state[row, span] for row, span in enumerate(spans)]


def difference(states, truth):
    """The largest, relative to the largest magnitude of all texts."""
    scale = max(float(expected.abs().max()) for expected in truth)
    pairs = zip(states, truth, strict=True)
    return max(float((found - expected).abs().max()) for found, expected in pairs) / scale


def truth_of(name, layers, bias, position="keep"):
    return [oracle(name).states(row, dict.fromkeys(layers, bias), position) for row in rows()]
