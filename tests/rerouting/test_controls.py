"""Controlled re-routing on every family of the zoo, held against the oracle in float64.

Keys and values of other texts are handed to the oracle as numbers; that they are the right ones is
recording's, and which text is drawn has tests of its own.
"""

import itertools
import random

import pytest
import torch
from families import family
from family_cases import REROUTED, TOLERANCE, difference, inputs_of, layers_of, padded
from family_oracle import Controls, oracle

import kvlens
from kvlens import InputError, reroute
from kvlens.rerouting.calibration import Calibration
from kvlens.texts.token_hash import token_hash

pytestmark = [pytest.mark.zoo, pytest.mark.slow]

SEED = 5
TEXTS = ["a", "of keys", "a text of several words"]
LENGTHS = (9, 6)  # the first is there to be padded to
DRAWN_ON = ("llama", "gemma3_text", "gpt_neox", "qwen3")
# They norm keys after the rotation, rotate the other way round or by tables of their own: the
# oracle has no formula for a key that the module did not make.
NO_FORMULA = ("hunyuan_v1_dense", "hunyuan_v1_moe", "nanochat", "recurrent_gemma")
ALIKE = ("diffllama",)  # its heads share values, so they are not any numbers
NO_HEADS = ("xglm",)  # its attention wants one mask for all heads


def rows():
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(3, 300, (length,), generator=generator) for length in LENGTHS]


def calibration_of(lm):
    """Any numbers: a recorded trace would build a bridge for every family."""
    if lm.info.name.removeprefix("tiny-") in ALIKE:
        return Calibration.of(kvlens.record(lm, TEXTS, keep=("k_pre", "v")))
    generator = torch.Generator().manual_seed(11)
    tensors = {
        f"{kind}.{layer}": torch.randn(len(TEXTS), *sizes, generator=generator) / 2
        for layer in lm.info.layers_with_keys()
        for kind in ("k_pre", "v")
        for sizes in [lm.anatomy.layers[layer].size_of(kind)]
    }
    trace = kvlens.Trace(
        model=lm.info,
        prompt=kvlens.PROMPTS["raw"],
        texts=kvlens.Texts(tuple(TEXTS), "here").info(),
        points="last",
        layers=lm.info.layers_with_keys(),
        n_tokens=(1,) * len(TEXTS),
        n_truncated=0,
        tensors=tensors,
        versions={},
    )
    return Calibration(trace, "drawn")


def states_of(lm, case, options, layers, position, bias):
    side, masked = case
    ids, mask, positions, spans = padded(rows(), side)
    with reroute(lm, layers, bias, position, **options) as rerouting, torch.no_grad():
        rerouting.text_mask = torch.zeros_like(mask, dtype=torch.bool)
        for row, span in enumerate(spans):
            rerouting.text_mask[row, span.start + 1 : span.stop - 2] = True
        rerouting.last = torch.tensor([span.stop - 1 for span in spans])
        output = lm.base(
            ids,
            attention_mask=mask if masked else None,
            position_ids=positions,
            use_cache=False,
        )
    return [output.last_hidden_state[1, spans[1]]]


def truth_of(name, lm, options, layers, position, bias):
    rotation = {
        each.layer: (each.rotation, each.rotary_dim, each.rotary_start)
        for each in lm.anatomy.layers
    }
    row = rows()[1]
    controls = controls_for(lm, row, options, layers)
    biases = dict.fromkeys(layers, bias)
    return [oracle(name).states(row, biases, position, controls, rotation)]


def controls_for(lm, row, options, layers):
    """The same options in the oracle's words."""
    n = len(row)
    heads = options.get("heads") or {}
    prompt = (0, n - 2, n - 1)
    text = tuple(set(range(n)) - set(prompt))
    unseen = {"all": (), "shielded": (0,), "text": prompt, "prompt": text}
    blind = unseen[options.get("queries", "all")]
    named = {"final": n - 1, "text": n - 3, "mean": None}
    source = options.get("source", "final")
    return Controls(
        n_heads=lm.anatomy.layers[layers[-1]].n_heads,
        heads=heads if isinstance(heads, dict) else dict.fromkeys(layers, tuple(heads)),
        blind=blind,
        source=named.get(source, -1 if source == "probe" else source),
        columns=options.get("columns", 1) if source == "probe" else 0,
        keys=carried("key", lm, row, options, layers),
        values=carried("value", lm, row, options, layers),
    )


def carried(what, lm, row, options, layers):
    given = options.get(what, "own")
    found = {}
    for layer in layers:
        names = given.get(layer, "own") if isinstance(given, dict) else given
        anatomy = lm.anatomy.layers[layer]
        names = [names] * anatomy.n_kv_heads if isinstance(names, str) else names
        if set(names) == {"own"}:
            continue
        width = anatomy.d_key if what == "key" else anatomy.d_value
        own = torch.full((anatomy.n_kv_heads, width), torch.nan)
        stated = {"own": own, "zero": torch.zeros_like(own)}
        if "calibration" in options:
            texts = options["calibration"].states.of_heads(layer, {"key": "k_pre"}.get(what, "v"))
            drawn = options["calibration"].other(token_hash(row.tolist()), options.get("seed", 0))
            stated |= {"mean": texts.double().mean(0), "other": texts[drawn]}
        by_head = [stated[name][head].double() for head, name in enumerate(names)]
        found[layer] = torch.stack(by_head)
    return found


def cases_of(lm, layers, name):
    """One option alone each."""
    last = layers[-1]
    n_heads = lm.anatomy.layers[last].n_heads
    if name not in NO_HEADS:
        yield {"heads": {last: (0,) if n_heads == 1 else (0, n_heads - 1)}}
    yield {"queries": "shielded"}
    yield {"queries": "text"}
    yield {"queries": "prompt"}
    yield {"source": 1}
    yield {"source": "text"}
    latent = any(lm.anatomy.layers[layer].latent for layer in layers)
    if latent or oracle(name).way != "concatenation":
        return
    calibration = calibration_of(lm)
    yield {"value": "zero"}
    yield {"key": "zero"}
    yield {"value": "mean", "calibration": calibration}
    yield {"value": "other", "seed": SEED, "calibration": calibration}
    if name not in ALIKE:
        yield {"source": "probe", "columns": 3}
    if name not in NO_FORMULA:
        yield {"source": "mean"}
        yield {"key": "mean", "calibration": calibration}
        yield {"key": "other", "calibration": calibration}


@pytest.mark.parametrize("name", REROUTED)
def test_each_option_alone(name):
    lm = family(name)
    layers = layers_of(lm)
    plain = truth_of(name, lm, {}, layers, "keep", 1.0)
    for number, options in enumerate(cases_of(lm, layers, name)):
        truth = truth_of(name, lm, options, layers, "keep", 1.0)
        assert difference(plain, truth) > 1e-3, f"{options} have to change something"
        case = inputs_of(name)[number % len(inputs_of(name))]
        states = states_of(lm, case, options, layers, "keep", 1.0)
        assert difference(states, truth) < TOLERANCE, (options, case)


@pytest.mark.parametrize("name", DRAWN_ON)
def test_fifty_drawn_combinations(name):
    lm = family(name)
    calibration = calibration_of(lm)
    draw = random.Random(name)
    for _ in range(50):
        layers = sorted(draw.sample(layers_of(lm), draw.randint(1, 2)))
        position = draw.choice(["keep", "origin", "none"])
        bias = draw.uniform(-2, 3)
        options = {**drawn(draw, lm, layers), "calibration": calibration}
        case = draw.choice(inputs_of(name))
        truth = truth_of(name, lm, options, layers, position, bias)
        states = states_of(lm, case, options, layers, position, bias)
        assert difference(states, truth) < TOLERANCE, (layers, position, bias, options, case)


def drawn(draw, lm, layers):
    """Every option at once, each drawn by itself."""
    names = ["own", "zero", "mean", "other"]
    n_heads, n_kv_heads = lm.info.n_heads, lm.info.n_kv_heads
    source = draw.choice(["final", "text", "mean", "probe", 0, 2, -2])
    by_head = {layer: tuple(draw.choices(names, k=n_kv_heads)) for layer in layers}
    return {
        "heads": {layer: tuple(draw.sample(range(n_heads), 2)) for layer in layers[:1]},
        "queries": draw.choice(["all", "text", "prompt", "shielded"]),
        "source": source,
        "columns": draw.randint(1, 5) if source == "probe" else 1,
        "key": draw.choice([*names, by_head]),
        "value": draw.choice([*names, by_head]),
        "seed": draw.randint(0, 9),
    }


@pytest.mark.parametrize("name", NO_HEADS)
def test_single_heads_are_refused_where_masks_are_for_all(name):
    lm = family(name)
    refused = pytest.raises(InputError, match=r"single heads\) is not exact on")
    with refused, reroute(lm, layers_of(lm), heads=[0]):
        pass


def test_what_a_latent_cache_cannot_carry_is_refused():
    latent = [
        name
        for name in REROUTED
        if any(family(name).anatomy.layers[layer].latent for layer in layers_of(family(name)))
    ]
    wanted = ({"value": "zero"}, {"source": "mean"}, {"source": "probe"})
    for name, options in itertools.product(latent, wanted):
        lm = family(name)
        with (
            pytest.raises(InputError, match="expanded from"),
            reroute(lm, layers_of(lm), **options),
        ):
            pass
